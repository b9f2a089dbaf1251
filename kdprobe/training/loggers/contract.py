"""What a logger is."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class Logger(Protocol):
    """Made before a training begins; it may be made and never used, and leaves the folder alone until `log`.

    Each process of a run that was stopped and resumed tells it all epochs from the first one on, in their order. So it
    may begin anew with what it keeps in the run folder, or leave out what it was told before.

    Args:
        folder: the run folder.
        settings: the run's configuration, `{"training.epochs": 100, ...}`: numbers, words, truth values and lists.

    Example:
        >>> from kdprobe.training.loggers import Logger
        >>> class Printed:
        ...     def __init__(self, folder, settings):
        ...         self.epochs = settings["training.epochs"]
        ...
        ...     def log(self, values, step):
        ...         print(f"epoch {step} of {self.epochs}: loss {values['loss']}")
        ...
        ...     def close(self): ...
        >>> logger = Printed("run", {"training.epochs": 3})
        >>> isinstance(logger, Logger)
        True
        >>> logger.log({"loss": 2.3}, 1)
        epoch 1 of 3: loss 2.3
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None: ...

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Note what came out of an epoch.

        Args:
            values: `loss`, each of its terms, `accuracy` where there are labels, and `lr`, the learning rate.
            step: number of the epoch, from 1.
        """

    def close(self) -> None:
        """Finish: the training has ended, or was stopped; `log` may never have been called."""
