"""Where a run's metrics go besides its folder: event files for TensorBoard, and loggers of installed packages."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from kdprobe.errors import ConfigError, near_matches
from kdprobe.packages import Choices


@runtime_checkable
class Logger(Protocol):
    """Made with the run folder before a training begins; it may be made and never used."""

    def __init__(self, folder: Path) -> None: ...

    def epoch(self, number: int, values: Mapping[str, float]) -> None:
        """Note what came out of an epoch.

        Args:
            number: of the epoch, from 1.
            values: `loss`, each of its terms, `accuracy` and `lr`, the learning rate.
        """


class TensorBoard:
    """Event files in the folder `tensorboard` of the run.

    Raises:
        ConfigError: if TensorBoard is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ConfigError("TensorBoard is not installed: pip install 'kdprobe[tensorboard]'") from error
        self._open, self._folder = SummaryWriter, folder / "tensorboard"
        self._opened: Any = None

    def epoch(self, number: int, values: Mapping[str, float]) -> None:
        """Add one point to each curve; the first one creates the folder."""
        self._opened = self._opened or self._open(str(self._folder))
        for name, value in values.items():
            self._opened.add_scalar(name, value, number)
        self._opened.flush()


LOGGERS: Mapping[str, type[Logger]] = Choices({"tensorboard": TensorBoard}, "kdprobe.loggers", error=ConfigError)


def make_loggers(names: Iterable[str], folder: Path) -> list[Logger]:
    """Loggers by name, each once.

    Raises:
        ConfigError: for a name that no logger has.
    """
    names = list(dict.fromkeys(names))
    if unknown := [name for name in names if name not in LOGGERS]:
        raise ConfigError(f"no logger {unknown[0]!r}{near_matches(unknown[0], LOGGERS)}")
    return [LOGGERS[name](folder) for name in names]
