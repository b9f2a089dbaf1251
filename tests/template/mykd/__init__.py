"""A package of one's own for kdprobe: copy it, rename it, and install it with `pip install .`."""
