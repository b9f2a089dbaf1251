"""A command line that ends the process where it fails, for a script of one's own."""

import sys
from collections.abc import Sequence

from kdprobe.cli import entry


def main(arguments: Sequence[object] | None = None) -> None:
    """Run a command line.

    Args:
        arguments: of `kdprobe`; those of this process if not given.

    Raises:
        SystemExit: with the exit status, unless that is 0.
    """
    if status := entry.main(arguments):
        sys.exit(status)
