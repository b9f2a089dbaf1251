"""The command line: one file per command, the options that they share, and the group that finds them.

main  the console script: runs a command line and ends the process where it fails
run   one installed command in this process, for Python and for other commands
"""

from typing import TYPE_CHECKING

from kdprobe import face

if TYPE_CHECKING:
    from kdprobe.cli.entry import main as main
    from kdprobe.cli.group import run as run

__all__ = ["main", "run"]

__getattr__, __dir__ = face(__name__, {"main": "kdprobe.cli.entry", "run": "kdprobe.cli.group"})
