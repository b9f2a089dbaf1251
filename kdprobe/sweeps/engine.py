"""What an engine is: it takes a cell and promises its outcome, and does nothing else."""

from concurrent.futures import Future
from typing import Protocol, runtime_checkable

from kdprobe.sweeps.cells import Cell
from kdprobe.sweeps.work import Outcome


@runtime_checkable
class Engine(Protocol):
    """Brings cells to processors.

    Attributes:
        slots: how many cells it wants to hold at a time, running or queued.
    """

    slots: int

    def submit(self, cell: Cell, given_up: int = 0) -> Future[Outcome]:
        """Have `work.work` called on a cell, once; an exception in the future means that its worker was lost.

        Args:
            cell: the cell to train.
            given_up: number of the attempt at it that was found to be silent.
        """
        ...

    def abandon(self, cell: Cell) -> None:
        """End a cell's worker, which no longer shows signs of life: the future then says that it is lost."""
        ...

    def close(self) -> None:
        """Ask what still runs to stop and to save its state, wait for it, and release all processors."""
        ...
