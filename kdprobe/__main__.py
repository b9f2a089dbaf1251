"""`python -m kdprobe` is `kdprobe`."""

from kdprobe.cli.group import main

if __name__ == "__main__":
    main()
