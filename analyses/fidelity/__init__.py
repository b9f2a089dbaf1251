"""Whether a student has its teacher's function or only its accuracy: its answers beside the teacher's and controls'."""

from typing import TYPE_CHECKING

from kdprobe import face

if TYPE_CHECKING:
    from analyses.fidelity.result import measure_fidelity as measure_fidelity

__all__ = ["measure_fidelity"]

__getattr__, __dir__ = face(__name__, {"measure_fidelity": "analyses.fidelity.result"})
