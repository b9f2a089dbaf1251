"""The command line: one file per command, the options that they share, and the group that finds them.

`main` runs a command line and ends the process where it fails (`kdprobe.main` returns the exit status instead); `run`
runs one command in this process and lets its errors through.
"""

from typing import TYPE_CHECKING

from kdprobe import face

if TYPE_CHECKING:
    from kdprobe.cli.group import run as run
    from kdprobe.cli.script import main as main

__all__ = ["main", "run"]

__getattr__, __dir__ = face(__name__, {"main": "kdprobe.cli.script", "run": "kdprobe.cli.group"})
