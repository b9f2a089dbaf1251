"""`python -m kdprobe` is `kdprobe`."""

from kdprobe.cli import main

if __name__ == "__main__":
    main()
