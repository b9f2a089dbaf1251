"""A share of a network's variance, with its interval and what it is a bound of."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Share:
    """A share of the variance and the ends of its interval.

    Attributes:
        value: the estimate; it may be below 0 where nothing is shared.
        low: lower end of the interval.
        high: upper end.
        bound: whether the true share is known to be no smaller, or no larger, than the one that is estimated.
        limits: what the estimate is limited by, such as too few samples; empty where nothing limits it.
    """

    value: float
    low: float
    high: float
    bound: Literal["", "lower", "upper"] = ""
    limits: str = ""

    @property
    def ends(self) -> tuple[float, float, float]:
        """Value, low, high."""
        return self.value, self.low, self.high

    @property
    def lower_bound(self) -> bool:
        """Whether the true share is at least the one that is estimated."""
        return self.bound == "lower"

    @property
    def reason(self) -> str:
        """Why it is a bound, or why its interval is wide; empty if neither."""
        return (
            f"{'an' if self.bound == 'upper' else 'a'} {self.bound} bound: {self.limits}" if self.bound else self.limits
        )

    def rest(self) -> "Share":
        """What is left to 1: an upper bound where this is a lower one."""
        return Share(1 - self.value, 1 - self.high, 1 - self.low, "upper" if self.lower_bound else "", self.limits)
