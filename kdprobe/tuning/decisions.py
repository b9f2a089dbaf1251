"""The file that says what was chosen, from which trials and when: written before the first final training begins.

choice.json    every decision, in their order: the settings that were chosen, of how many trials, for how many seeds,
               and how many final trainings had been judged on the test images by then
"""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kdprobe.errors import SweepError
from kdprobe.files import write_text
from kdprobe.formats.jsons import read_json

FORMAT = "kdprobe-choice"
VERSION = 1
CHOICE_FILE = "choice.json"

_Count = Annotated[int, Field(ge=0)]
_Share = Annotated[float, Field(ge=0, le=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Chosen(_Strict):
    """The setting that was chosen for one method.

    Attributes:
        trial: its number, from 0, which is the published setting.
        tried: the settings of all trials: what was tuned, as dotted keys and values.
        accuracies: of all trials on the held-out images; None where one diverged.
        cells: the trials' cells.
    """

    trial: _Count
    tried: tuple[dict[str, Any], ...]
    accuracies: tuple[_Share | None, ...]
    cells: tuple[str, ...]

    @property
    def settings(self) -> dict[str, Any]:
        """Those of the chosen trial."""
        return self.tried[self.trial]


class Decision(_Strict):
    """What was chosen at one time.

    Attributes:
        at: when, in UTC.
        n_tested: final trainings that had been judged on the test images by then.
        n_seeds: trainings of each chosen setting that are to follow.
        published: whether the published settings are trained too.
        chosen: by the methods' names.
    """

    at: str
    n_tested: _Count
    n_seeds: _Count
    published: bool
    chosen: dict[str, Chosen]

    @property
    def n_trials(self) -> int:
        """Trials of each method."""
        return max(len(one.cells) for one in self.chosen.values())


def decide(
    folder: Path, chosen: Mapping[str, Chosen], *, n_seeds: int, published: bool, n_tested: int
) -> list[Decision]:
    """Write a decision down, unless the last one was the same.

    Returns:
        all decisions, the last one at the end.
    """
    made = read_decisions(folder)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    decision = Decision(at=now, n_tested=n_tested, n_seeds=n_seeds, published=published, chosen=dict(chosen))
    if made and decision.model_copy(update={"at": made[-1].at, "n_tested": made[-1].n_tested}) == made[-1]:
        return made
    made.append(decision)
    values = {"format": FORMAT, "version": VERSION, "decisions": [one.model_dump(mode="json") for one in made]}
    write_text(folder / CHOICE_FILE, json.dumps(values, indent=1) + "\n")
    return made


def read_decisions(folder: Path) -> list[Decision]:
    """All decisions of a comparison; none where none was made yet.

    Raises:
        SweepError: if the file is damaged or of another version.
    """
    path = folder / CHOICE_FILE
    if not path.exists():
        return []
    values = read_json(path, SweepError, expected="the choice of a comparison")
    found = (values.get("format"), values.get("version")) if isinstance(values, dict) else None
    if found != (FORMAT, VERSION):
        raise SweepError(f"{path} is not the choice of a comparison, of format {FORMAT!r} version {VERSION}")
    try:
        return [Decision.model_validate(one) for one in values["decisions"]]
    except (ValidationError, KeyError, TypeError) as error:
        raise SweepError(f"{path} is not the choice of a comparison or is damaged: it holds no decisions") from error


def decided_late(made: Sequence[Decision]) -> list[str]:
    """What was decided after test images had been read, a sentence for each such decision."""
    found = []
    for before, after in pairwise(made):
        if after.n_tested and (changes := _changes(before, after)):
            trainings = f"{after.n_tested} final training{'s' if after.n_tested > 1 else ''}"
            found.append(f"after {trainings} had been tested, on {after.at}: {', '.join(changes)}")
    return found


def _changes(before: Decision, after: Decision) -> list[str]:
    """What differs between two decisions, in words."""
    found = []
    if added := [name for name in after.chosen if name not in before.chosen]:
        found.append(f"{' and '.join(added)} {'were' if len(added) > 1 else 'was'} added")
    if left := [name for name in before.chosen if name not in after.chosen]:
        found.append(f"{' and '.join(left)} {'were' if len(left) > 1 else 'was'} left out")
    if after.published and not before.published:
        found.append("the published settings were added")
    for what, one, other in (("trials", before.n_trials, after.n_trials), ("seeds", before.n_seeds, after.n_seeds)):
        if one != other:
            found.append(f"the {what} of each method became {other} instead of {one}")
    for name in (one for one in after.chosen if one in before.chosen):
        old, new = before.chosen[name].trial, after.chosen[name].trial
        if old != new:
            found.append(f"trial {new} was chosen for {name} instead of trial {old}")
    return found
