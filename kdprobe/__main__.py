"""`python -m kdprobe` is `kdprobe`."""

import sys

from kdprobe import main

if __name__ == "__main__":
    sys.exit(main())
