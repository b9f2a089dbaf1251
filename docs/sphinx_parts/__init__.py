"""What the documentation's build needs besides Sphinx and its extensions."""
