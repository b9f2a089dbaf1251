"""The ranges over which a method's options are tuned; a point of [0, 1) stands for a value."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import exp, log
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True)
class Uniform:
    """All values from `low` to `high` alike."""

    low: float
    high: float

    def __post_init__(self) -> None:
        _check_order(self.low, self.high)

    def at(self, point: float) -> float:
        """The value at a point of [0, 1)."""
        return self.low + point * (self.high - self.low)


@dataclass(frozen=True)
class LogUniform:
    """All factors alike: as many values from 1 to 10 as from 10 to 100."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if self.low <= 0:
            raise ValueError(f"a range of factors begins above 0, but got {self.low}")
        _check_order(self.low, self.high)

    def at(self, point: float) -> float:
        """The value at a point of [0, 1)."""
        return exp(log(self.low) + point * (log(self.high) - log(self.low)))


@dataclass(frozen=True)
class Choice:
    """One of several values, each with the same share of [0, 1)."""

    values: tuple[Any, ...]

    def __post_init__(self) -> None:
        if len(self.values) < 2:
            raise ValueError(f"a choice takes at least 2 values, but got {self.values!r}")

    def at(self, point: float) -> Any:
        """The value at a point of [0, 1)."""
        return self.values[int(point * len(self.values))]


SearchRange = Uniform | LogUniform | Choice


def ranges(**by_option: SearchRange) -> Mapping[str, SearchRange]:
    """What a method's class says of its options: the range of each that is worth tuning."""
    return MappingProxyType(by_option)


def around_weight(published: float) -> LogUniform:
    """The range of a weight: from a thirtieth of the published one to three times as much.

    It reaches further down than up, because a weight that was chosen for hundreds of epochs tends to drown the
    labels in a short training.
    """
    return LogUniform(published / 30, published * 3)


def _check_order(low: float, high: float) -> None:
    if not low < high:
        raise ValueError(f"a range goes from low to high, but got {low} to {high}")
