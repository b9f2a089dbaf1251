"""An array that grows row by row in place, for what is kept of every minibatch."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from analyses.cka.result import Array

_MAPPED = 1 << 25  # bytes from which on an allocation is a mapping of its own: it grows without a copy or a hole
_STEP = 64  # rows


class GrowingRows:
    """Rows of one shape, in float32 as long as that holds them to its seven digits, in float64 otherwise.

    An array in the making is written a row at a time and moved by the memory map alone; a list of arrays that
    is stacked at the end takes its size twice and leaves the heap in pieces.

    Args:
        shape: of a row.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        n_values = max(1, int(np.prod(shape)))
        self._rows: NDArray[Any] = np.empty((max(_STEP, -(-_MAPPED // (4 * n_values))), *shape), np.float32)
        self._n = 0

    def append(self, row: Array) -> None:
        """Add a row."""
        if self._rows.dtype == np.float32 and not _fits(row):
            self._widen()
        if self._n == len(self._rows):
            self._grow()
        self._rows[self._n] = row
        self._n += 1

    def rows(self) -> NDArray[Any]:
        """All rows [n, ...] so far: a view, which later rows leave alone."""
        return self._rows[: self._n]

    def _widen(self) -> None:
        wide = np.empty(self._rows.shape, np.float64)
        wide[: self._n] = self.rows()  # what lies behind them was never written: any bits, not to be read as numbers
        self._rows = wide

    def _grow(self) -> None:
        shape = (self._n + _STEP, *self._rows.shape[1:])
        try:
            self._rows.resize(shape)  # in place; refused while a view of it is held elsewhere
        except ValueError:
            whole = np.empty(shape, self._rows.dtype)
            whole[: self._n] = self._rows
            self._rows = whole


def _fits(row: Array) -> bool:
    """Whether float32 holds the largest value, and the smallest with all its digits unless it is exactly zero."""
    limits = np.finfo(np.float32)
    size = np.abs(row)
    return bool(size.max(initial=0.0) < limits.max) and not bool(((size > 0) & (size < limits.tiny)).any())
