"""Training: one loop that can be read from top to bottom, and what it needs."""

from typing import TYPE_CHECKING

from kdprobe import face

if TYPE_CHECKING:
    from kdprobe.training.run import train as train

__all__ = ["train"]

__getattr__, __dir__ = face(__name__, {"train": "kdprobe.training.run"})
