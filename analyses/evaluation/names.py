"""What networks are called in results and pictures."""

from collections.abc import Sequence
from pathlib import Path

from kdprobe.errors import AnalysisError, RunError
from kdprobe.files import shortest_names
from kdprobe.models.checkpoint import LAST
from kdprobe.runs.compare import group, run_names
from kdprobe.runs.folder import RunFolder
from kdprobe.sweeps.ledger import CELL_ID


def network_names(checkpoints: Sequence[str]) -> list[str]:
    """A name for each checkpoint, all different: the end of its path, or of a sweep's runs what tells them apart.

    Raises:
        AnalysisError: if a checkpoint is given twice.
    """
    names = checkpoint_names(checkpoints)
    cells = {place: run for place, one in enumerate(checkpoints) if (run := _cell(one)) is not None}
    try:
        groups = group(list(cells.values())) if cells else []
    except RunError:  # of other data, say, which the analysis itself will report if it matters
        return names
    called = run_names(groups)
    found = [called[cells[place].path] if place in cells else name for place, name in enumerate(names)]
    return found if len(set(found)) == len(found) else names


def checkpoint_names(checkpoints: Sequence[str]) -> list[str]:
    """The shortest ends of the paths that tell the checkpoints apart; a file in a run folder has the folder's name.

    Raises:
        AnalysisError: if a checkpoint is given twice.
    """
    for checkpoint in checkpoints:
        if checkpoints.count(checkpoint) > 1:
            raise AnalysisError(f"{checkpoint} is given twice")
    names = shortest_names([_shown_path(checkpoint) for checkpoint in checkpoints])
    return names if len(set(names)) == len(names) else list(checkpoints)


def _shown_path(checkpoint: str) -> Path:
    path = Path(checkpoint.removeprefix("timm:"))
    if path.name == LAST:
        return path.parent
    return path.with_suffix("") if path.suffix == ".safetensors" else path


def _cell(checkpoint: str) -> RunFolder | None:
    """The finished run of a sweep whose last network a checkpoint is."""
    path = Path(checkpoint)
    run = RunFolder(path.parent if path.name == LAST else path)
    is_cell = run.path.parent.name == "cells" and CELL_ID.fullmatch(run.path.name)
    return run if is_cell and run.finished and run.config_path.is_file() else None
