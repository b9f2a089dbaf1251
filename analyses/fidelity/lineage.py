"""Which networks are runs of one method that differ in the seed alone, and who taught them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from analyses.evaluation.predictions import Judged
from kdprobe.distillers import DISTILLERS
from kdprobe.models.checkpoint import LAST
from kdprobe.runs import RunFolder
from kdprobe.runs.compare import group

STUDENT_OR_CONTROL = ("student", "control")


@dataclass(frozen=True)
class Lineage:
    """Where a network comes from.

    Attributes:
        role: `student` or `control`.
        group: the method, and what else tells it from the others; the network's name where it is no finished run.
        seed: the run's; None where it is no finished run.
        teacher: sha256 of the teacher that it learnt from; None where it had none, or that is not known.
        shuffled: whether that teacher's answers were shuffled.
        alone: whether it is known to have learnt without a teacher.
    """

    role: str
    group: str
    seed: int | None = None
    teacher: str | None = None
    shuffled: bool = False
    alone: bool = False

    def learnt_from(self, sha256: str | None) -> bool | None:
        """Whether it learnt from the teacher of this hash, answers in their places or not; None if not known."""
        if self.alone:
            return False
        return None if self.teacher is None or sha256 is None else self.teacher == sha256


def lineages(students: Sequence[Judged], controls: Sequence[Judged]) -> list[Lineage]:
    """The lineage of each network, students first.

    Raises:
        RunError: if two runs have the same configuration and seed, or had different teachers or data at one path.
    """
    networks = [*students, *controls]
    runs = {one.checkpoint: run for one in networks if (run := _run(one.checkpoint)) is not None}
    known: dict[Path, tuple[str, int]] = {}
    for found in group(list(runs.values())) if runs else []:
        known |= {run.path: (found.name, seed) for run, seed in zip(found.runs, found.seeds, strict=True)}
    made, roles = [], [STUDENT_OR_CONTROL[0]] * len(students) + [STUDENT_OR_CONTROL[1]] * len(controls)
    for one, role in zip(networks, roles, strict=True):
        run = runs.get(one.checkpoint)
        method = (one.name, None) if run is None else known[run.path]
        made.append(Lineage(role, *method, **_taught(one, run or _begun(one))))
    both = {one.group for one in made if one.role == STUDENT_OR_CONTROL[0]} & {
        one.group for one in made if one.role == STUDENT_OR_CONTROL[1]
    }
    return [_told_apart(one) if one.group in both else one for one in made]


def _told_apart(one: Lineage) -> Lineage:
    """The same with the role in its name, where students and controls are of one method."""
    return replace(one, group=f"{one.group} ({one.role})")


def _run(checkpoint: str) -> RunFolder | None:
    """The finished run whose last network a checkpoint is."""
    path = Path(checkpoint)
    folder = RunFolder(path.parent if path.name == LAST else path)
    return folder if folder.finished and folder.config_path.is_file() else None


def _begun(one: Judged) -> RunFolder | None:
    """The run, finished or not, in whose folder a network of kdprobe's own is, such as its best one or a snapshot."""
    parents = Path(one.checkpoint).parents[:2] if one.info.method else []
    return next((run for run in map(RunFolder, parents) if run.inputs_path.is_file()), None)


def _taught(one: Judged, run: RunFolder | None) -> dict[str, Any]:
    """What is known of a network's teacher: by its run, or else by its method."""
    if run is None:
        method = DISTILLERS.get(one.info.method)
        return {"alone": method is not None and not method.uses_teacher}
    config, inputs = run.values(), run.inputs()
    shuffled = bool((config["teacher_facts"] or {}).get("shuffle"))
    return {"teacher": inputs and inputs.teacher, "shuffled": shuffled, "alone": config["teacher"] is None}
