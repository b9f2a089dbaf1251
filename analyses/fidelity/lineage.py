"""Which networks are runs of one method that differ in the seed alone, and who taught them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from analyses.evaluation.predictions import Judged
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
    """

    role: str
    group: str
    seed: int | None = None
    teacher: str | None = None
    shuffled: bool = False


def lineages(students: Sequence[Judged], controls: Sequence[Judged]) -> list[Lineage]:
    """The lineage of each network, students first.

    Raises:
        RunError: if two runs have the same configuration and seed, or had different teachers or data at one path.
    """
    networks = [*students, *controls]
    runs = {one.checkpoint: run for one in networks if (run := _run(one.checkpoint)) is not None}
    known: dict[Path, tuple[str, int, str | None, bool]] = {}
    for found in group(list(runs.values())) if runs else []:
        shuffled = bool((found.config.get("teacher_facts") or {}).get("shuffle"))
        for run, result in zip(found.runs, found.results, strict=True):
            known[run.path] = found.name, result["seed"], result.get("teacher_sha256"), shuffled
    made, roles = [], [STUDENT_OR_CONTROL[0]] * len(students) + [STUDENT_OR_CONTROL[1]] * len(controls)
    for one, role in zip(networks, roles, strict=True):
        run = runs.get(one.checkpoint)
        made.append(Lineage(role, one.name) if run is None else Lineage(role, *known[run.path]))
    both = {one.group for one in made if one.role == STUDENT_OR_CONTROL[0]} & {
        one.group for one in made if one.role == STUDENT_OR_CONTROL[1]
    }
    return [_told_apart(one) if one.group in both else one for one in made]


def _told_apart(one: Lineage) -> Lineage:
    """The same with the role in its name, where students and controls are of one method."""
    return Lineage(one.role, f"{one.group} ({one.role})", one.seed, one.teacher, one.shuffled)


def _run(checkpoint: str) -> RunFolder | None:
    """The finished run whose last network a checkpoint is."""
    path = Path(checkpoint)
    folder = RunFolder(path.parent if path.name == LAST else path)
    return folder if folder.finished and folder.config_path.is_file() else None
