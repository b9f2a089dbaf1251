"""Run folders: what a training leaves behind, several of them side by side, and their curves."""

from typing import TYPE_CHECKING

from kdprobe import face

if TYPE_CHECKING:
    from kdprobe.runs.curves import training_curves as training_curves
    from kdprobe.runs.folder import RunFolder as RunFolder
    from kdprobe.runs.folder import find_runs as find_runs
    from kdprobe.runs.inputs import Inputs as Inputs

__all__ = ["Inputs", "RunFolder", "find_runs", "training_curves"]

__getattr__, __dir__ = face(
    __name__,
    {
        "Inputs": "kdprobe.runs.inputs",
        "RunFolder": "kdprobe.runs.folder",
        "find_runs": "kdprobe.runs.folder",
        "training_curves": "kdprobe.runs.curves",
    },
)
