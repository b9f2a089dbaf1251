"""What a run's loss is made of, what its gradient comes from, and what of that stands out."""

from typing import TYPE_CHECKING

from kdprobe import face

if TYPE_CHECKING:
    from analyses.diagnosis.findings import Symptom as Symptom
    from analyses.diagnosis.result import diagnose as diagnose

__all__ = ["Symptom", "diagnose"]

__getattr__, __dir__ = face(
    __name__,
    {"Symptom": "analyses.diagnosis.findings", "diagnose": "analyses.diagnosis.result"},
)
