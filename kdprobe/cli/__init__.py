"""The command line: one file per command, the options that they share, and the group that finds them.

main  the console script: runs a command line and ends the process with its exit status
run   one installed command in this process, for Python and for other commands
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

_PUBLIC = {"main": "kdprobe.cli.entry", "run": "kdprobe.cli.group"}

__all__ = ["main", "run"]

if TYPE_CHECKING:
    from kdprobe.cli.entry import main as main
    from kdprobe.cli.group import run as run


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'kdprobe.cli' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
