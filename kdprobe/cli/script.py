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

    Example:
        >>> from kdprobe.cli import main
        >>> try:
        ...     main(["trian"])  # a mistake: one line on stderr
        ... except SystemExit as end:
        ...     print(end.code)
        2
    """
    if status := entry.main(arguments):
        sys.exit(status)
