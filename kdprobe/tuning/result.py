"""What came out of a comparison, as a result and its tables."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy import ndarray

from kdprobe.errors import SweepError
from kdprobe.provenance import provenance
from kdprobe.results import Result
from kdprobe.runs.compare import known_teacher
from kdprobe.runs.differences import against, differences
from kdprobe.runs.pooled import pooled_differences
from kdprobe.runs.weak_teacher import weak_teacher
from kdprobe.sweeps.ledger import Ledger
from kdprobe.tuning.chosen import CONFIDENCE, expected_best
from kdprobe.tuning.comparing import Finished
from kdprobe.tuning.decisions import decided_late

BASELINES = ("kd", "plain")  # what every method is compared with, where they take part

_Run = dict[str, Any] | None  # the numbers of a training; None of one that diverged


def comparison_result(outcome: Finished) -> Result:
    """A result of kind "tuned-comparison".

    Raises:
        SweepError: if all final trainings of a method diverged.
    """
    plan, chosen = outcome.plan, outcome.chosen
    names = [one.name for one in plan.contenders]
    finals = final_runs(outcome, published=False)
    published = final_runs(outcome, published=True) if plan.published else []
    trials = _runs(outcome.trials, len(names), plan.n_trials)
    for name, runs in zip(names, finals, strict=True):
        if not any(runs):
            raise SweepError(f"all {plan.n_seeds} final trainings of {name} diverged, so there is nothing to compare")
    held_out = _numbers(trials, "accuracy")
    arrays = {
        "held_out": held_out,
        "expected": np.stack([expected_best(row) for row in held_out]),
        "chosen": np.array([chosen[name].trial for name in names]),
        "accuracy": _numbers(finals, "accuracy"),
        **{f"trial_{key}": _numbers(trials, key) for key in ("seconds", "teacher_images")},
        **{key: _numbers(finals, key) for key in ("seconds", "teacher_images")},
        **({"published": _numbers(published, "accuracy")} if published else {}),
    }
    some, spec = next(run for run in finals[0] if run), plan.config.teacher
    judged_on = {(some["data"], some["evaluated_on"])}
    teacher, teacher_accuracy = (None, None) if spec is None else known_teacher(spec, judged_on)
    n_images, n_held_out = int(some["evaluated_images"]), _largest(trials, "evaluated_images")
    weak = weak_teacher({name: name for name in names}, arrays["accuracy"], teacher_accuracy)
    facts = {
        "methods": names,
        "seeds": list(range(plan.n_seeds)),
        "trials": [list(chosen[name].tried) for name in names],
        "sources": [one.source for one in plan.contenders],
        "student": plan.config.model.name,
        "data": plan.config.data.spec,
        "evaluated_on": some["evaluated_on"],
        "n_images": n_images,
        "n_held_out": n_held_out,
        "holdout": plan.holdout,
        "epochs": plan.final_config.training.epochs,
        "trial_epochs": plan.trial_config.training.epochs,
        "confidence": CONFIDENCE,
        "chosen_at": outcome.decisions[-1].at,
        "tested_before": outcome.decisions[-1].n_tested,
        "differences": _differences(arrays, names, [chosen[name].trial for name in names], n_images),
        "remarks": [{"reason": text} for text in (*_remarks(outcome, trials, finals), weak) if text],
        "teacher": teacher,
        "teacher_accuracy": teacher_accuracy,
    }
    if pooled := pooled_differences(arrays["accuracy"], names, against(names, BASELINES)):
        facts["pooled"] = pooled._asdict()
    origin = provenance(folders=[str(outcome.trials.path), str(outcome.finals.path)])
    return Result("tuned-comparison", arrays, facts, origin)


def final_runs(outcome: Finished, *, published: bool) -> list[list[_Run]]:
    """The final trainings of each method, by seed: as chosen, or as published."""
    plan = outcome.plan
    count = len(plan.contenders)
    return _runs(outcome.finals, count, plan.n_seeds, start=published * count * plan.n_seeds)


def _runs(ledger: Ledger, n_rows: int, n_columns: int, *, start: int = 0) -> list[list[_Run]]:
    """The numbers of a sweep's cells, row by row."""
    cells = ledger.cells[start : start + n_rows * n_columns]
    found = [ledger.state(cell.id).result for cell in cells]
    return [found[row * n_columns : (row + 1) * n_columns] for row in range(n_rows)]


def _numbers(rows: Sequence[Sequence[_Run]], key: str) -> ndarray:
    return np.array([[math.nan if run is None else float(run[key]) for run in row] for row in rows])


def _largest(rows: Sequence[Sequence[_Run]], key: str) -> int:
    return max(int(run[key]) for row in rows for run in row if run)


def _differences(
    arrays: dict[str, ndarray], names: Sequence[str], chosen: Sequence[int], n_images: int
) -> list[dict[str, Any]]:
    """Each method with each baseline, and, where these were tested too, each with its published setting.

    The second are a family of tests of their own; a method whose published setting was chosen has none.
    """
    values, rows = {"accuracy": arrays["accuracy"]}, {name: name for name in names}
    found = differences(values, rows, [n_images] * len(rows), pairs=against(names, BASELINES))
    if "published" not in arrays:
        return found
    both = {"accuracy": np.concatenate([arrays["accuracy"], arrays["published"]])}
    as_published = [f"{name} as published" for name in names]
    rows |= {name: name for name in as_published}
    pairs = [(one, two) for one, two, trial in zip(names, as_published, chosen, strict=True) if trial]
    return found + differences(both, rows, [n_images] * len(rows), pairs=pairs)


def _remarks(outcome: Finished, trials: list[list[_Run]], finals: list[list[_Run]]) -> Iterator[str]:
    """What a reader must know: what was decided late, and what diverged."""
    yield from decided_late(outcome.decisions)
    for what, runs in (("trials", trials), ("final trainings", finals)):
        for one, row in zip(outcome.plan.contenders, runs, strict=True):
            if lost := sum(run is None for run in row):
                yield f"{lost} of {len(row)} {what} of {one.name} diverged"


def tables(result: Result) -> dict[str, str]:
    """The tables of a result as CSV texts: a line for each final training, each trial, and each difference."""
    builders: dict[str, Callable[[Result], Iterator[dict[str, Any]]]] = {
        "finals": _final_lines,
        "trials": _trial_lines,
        "differences": _difference_lines,
    }
    return {name: pd.DataFrame(list(build(result))).to_csv(index=False) for name, build in builders.items()}


def _difference_lines(result: Result) -> Iterator[dict[str, Any]]:
    """Each difference, tested by its own variance and, where that was done, by one of all methods."""
    pooled = result.facts.get("pooled", {"differences": []})["differences"]
    for variance, entries in (("of the pair", result.facts["differences"]), ("of all methods", pooled)):
        yield from ({**entry, "variance": variance} for entry in entries)


def _final_lines(result: Result) -> Iterator[dict[str, Any]]:
    facts, arrays = result.facts, result.arrays
    for row, name in enumerate(facts["methods"]):
        for column, seed in enumerate(facts["seeds"]):
            costs = {key: arrays[key][row, column] for key in ("seconds", "teacher_images")}
            yield {
                "method": name,
                "setting": "chosen",
                "seed": seed,
                "accuracy": arrays["accuracy"][row, column],
                **costs,
            }
    for row, name in enumerate(facts["methods"] if "published" in arrays else ()):
        for column, seed in enumerate(facts["seeds"]):
            yield {"method": name, "setting": "published", "seed": seed, "accuracy": arrays["published"][row, column]}


def _trial_lines(result: Result) -> Iterator[dict[str, Any]]:
    facts, arrays = result.facts, result.arrays
    for row, name in enumerate(facts["methods"]):
        for trial, settings in enumerate(facts["trials"][row]):
            costs = {key: arrays[f"trial_{key}"][row, trial] for key in ("seconds", "teacher_images")}
            best = dict(zip(("expected_best", "low", "high"), arrays["expected"][row, trial], strict=True))
            number = {"method": name, "trial": trial, "chosen": trial == arrays["chosen"][row]}
            yield {**number, "held_out_accuracy": arrays["held_out"][row, trial], **settings, **costs, **best}
