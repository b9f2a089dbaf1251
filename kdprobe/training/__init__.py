"""Training: one loop that can be read from top to bottom, and what it needs."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

_PUBLIC = {"train": "kdprobe.training.run"}

__all__ = ["train"]

if TYPE_CHECKING:
    from kdprobe.training.run import train as train


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'kdprobe.training' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)
