"""Loggers by name, and how a training tells them without depending on them."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from kdprobe.errors import ConfigError, KdprobeError, near_matches
from kdprobe.packages import Choices
from kdprobe.training.loggers.contract import Logger
from kdprobe.training.loggers.ml_flow import MLflow
from kdprobe.training.loggers.tensor_board import TensorBoard
from kdprobe.training.loggers.weights_biases import WeightsAndBiases

_OWN: dict[str, type[Logger]] = {"tensorboard": TensorBoard, "wandb": WeightsAndBiases, "mlflow": MLflow}
LOGGERS: Mapping[str, type[Logger]] = Choices(_OWN, "kdprobe.loggers", error=ConfigError)


class Listeners:
    """Loggers that are told what comes out of a training; one that fails is told nothing more.

    Args:
        loggers: by name.
        say: called with a sentence about one that fails.
    """

    def __init__(self, loggers: Mapping[str, Logger], say: Callable[[str], None]) -> None:
        self._loggers, self._say = dict(loggers), say

    def __bool__(self) -> bool:
        return bool(self._loggers)

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Tell all of them of an epoch."""
        for name, logger in list(self._loggers.items()):
            self._try(name, partial(logger.log, values, step))

    def close(self) -> None:
        """Let all of them finish."""
        for name, logger in list(self._loggers.items()):
            self._try(name, logger.close)
        self._loggers.clear()

    def _try(self, name: str, call: Callable[[], None]) -> None:
        """Whatever a logger raises, the training goes on."""
        try:
            call()
        except (Exception, SystemExit) as error:
            del self._loggers[name]
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            self._say(f"the logger {name!r} failed and is told nothing more, the training goes on: {reason}")


def make_loggers(names: Iterable[str], folder: Path, settings: Mapping[str, Any]) -> dict[str, Logger]:
    """Loggers by name, each once.

    Args:
        names: of loggers.
        folder: the run folder, which may not exist yet.
        settings: the run's configuration, nested.

    Raises:
        ConfigError: for a name that no logger has, and for a logger that cannot be made.

    Example:
        >>> from pathlib import Path
        >>> from kdprobe.training.loggers import make_loggers
        >>> make_loggers(["tensorbord"], Path("run"), {"training": {"epochs": 3}})
        Traceback (most recent call last):
        kdprobe.errors.ConfigError: no logger 'tensorbord'; did you mean 'tensorboard'?
    """
    names, flat = list(dict.fromkeys(names)), dict(flattened(settings))
    if unknown := [name for name in names if name not in LOGGERS]:
        raise ConfigError(f"no logger {unknown[0]!r}{near_matches(unknown[0], LOGGERS)}")
    return {name: _made(name, folder, flat) for name in names}


def _made(name: str, folder: Path, settings: Mapping[str, Any]) -> Logger:
    try:
        return LOGGERS[name](folder, settings)
    except KdprobeError:
        raise
    except Exception as error:
        raise ConfigError(f"the logger {name!r} cannot be made: {type(error).__name__}: {error}") from error


def flattened(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Values of nested mappings by dotted keys.

    Example:
        >>> from kdprobe.training.loggers.making import flattened
        >>> dict(flattened({"training": {"epochs": 3}, "seed": 0}))
        {'training.epochs': 3, 'seed': 0}
    """
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from flattened(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
