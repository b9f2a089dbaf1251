"""What the dropout rates do: accuracy over teacher rate and student rate, and two questions about it.

Does the equal rate win, for each teacher rate among the student rates and the other way round? And can the best cell be
distinguished from its neighbours at all? Often not: neighbouring rates differ by less than two seeds do.
Differences are paired by seed, because cells of one seed share initialisation and order of images.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float64
from numpy.typing import NDArray

from kdprobe.errors import AnalysisError
from kdprobe.mean_interval import clearness, difference_interval
from kdprobe.provenance import provenance
from kdprobe.results import Result
from kdprobe.sweeps.ledger import Ledger, open_ledger

DROPOUTS = ("feature", "logit")
_NETWORKS = ("teacher", "student")

_Array = NDArray[np.float64]


def dropout_results(folder: Path) -> list[Result]:
    """One result per pair of rates that a sweep varies; cells that are not done yet are NaN.

    Args:
        folder: of the sweep.

    Raises:
        AnalysisError: if the sweep varies no dropout rates or something else besides, no cell is done, or cells
            had different teachers or data.
    """
    ledger = open_ledger(folder)
    table = _table(ledger)
    if table.empty:
        raise AnalysisError(f"{folder} varies no dropout rates; see kdprobe sweep status {folder}")
    done = table.dropna(subset=["accuracy"])
    if done.empty and table["data"].notna().any():
        raise AnalysisError(f"the cells of {folder} learnt without labels, so they have no accuracy to compare")
    if done.empty:
        raise AnalysisError(f"no cell of {folder} is done yet; see kdprobe sweep status {folder}")
    for key, what in (("teacher_sha256", "teachers"), ("data", "data sets"), ("data_sha256", "contents of the data")):
        found = sorted(map(str, done[key].dropna().unique()))
        if len(found) > 1:
            raise AnalysisError(f"the cells of {folder} were trained with different {what}: {', '.join(found)}")
    kinds = [kind for kind in DROPOUTS if kind in set(done["kind"])]
    return [_result(ledger, table[table["kind"] == kind], kind) for kind in kinds]


def dropout_table(result: Result) -> pd.DataFrame:
    """One row per cell and seed that was trained."""
    facts = result.facts
    rows = [
        {"kind": facts["kind"], "teacher_rate": t, "student_rate": s, "seed": seed, "accuracy": accuracy}
        for t, plane in zip(facts["rates_teacher"], result.arrays["accuracy"], strict=True)
        for s, line in zip(facts["rates_student"], plane, strict=True)
        for seed, accuracy in zip(facts["seeds"], line, strict=True)
        if not np.isnan(accuracy)
    ]
    return pd.DataFrame(rows)


def difference(
    first: Float64[np.ndarray, " seeds"],
    second: Float64[np.ndarray, " seeds"],
    *,
    n_tests: int = 1,
    n_images: int | None = None,
) -> dict[str, float | None]:
    """Mean difference over the seeds that both have, with Student's 95 % interval of the paired differences.

    Args:
        first: accuracies by seed; NaN where not trained.
        second: subtracted.
        n_tests: number of intervals that must hold together; each is widened accordingly (Bonferroni).
        n_images: number of images on which the accuracies were measured, for an interval of equal differences.

    Returns:
        `difference`, `low`, `high`; the ends are None with fewer than two seeds in common, or equal differences without
        a number of images.
    """
    ends = difference_interval(first, second, n_images=n_images, confidence=1 - 0.05 / n_tests)
    worded = [None if np.isnan(value) else value for value in ends]
    return dict(zip(("difference", "low", "high"), worded, strict=True))


def equal_rates(
    accuracy: Float64[np.ndarray, "teacher student seeds"],
    rates: tuple[Sequence[float], Sequence[float]],
    *,
    n_images: int | None = None,
) -> list[dict[str, Any]]:
    """Whether the equal rate has the highest mean in each row (teacher rate fixed) and column (student rate fixed).

    Args:
        accuracy: fractions; NaN where not trained.
        rates: of the teacher and of the student.
        n_images: as `difference` takes it.

    Returns:
        one entry per row and column that has a cell of equal rates and another cell: which network's rate is `fixed`,
        `rate`, whether the equal rate `wins` over the seeds of both (a tie is none), the best `other` rate and the
        difference to it.
    """
    entries = []
    for axis, fixed in enumerate(_NETWORKS):
        for rate, line in zip(rates[axis], np.moveaxis(accuracy, axis, 0), strict=True):
            means = _means(line)
            others = [
                index for index, other in enumerate(rates[1 - axis]) if other != rate and not np.isnan(means[index])
            ]
            equal = list(rates[1 - axis]).index(rate) if rate in rates[1 - axis] else None
            if equal is None or np.isnan(means[equal]) or not others:
                continue
            best = max(others, key=lambda index: means[index])
            versus = difference(line[equal], line[best], n_images=n_images)
            wins = versus["difference"] is not None and versus["difference"] > 0
            entries.append({"fixed": fixed, "rate": rate, "wins": wins, "other": rates[1 - axis][best], **versus})
    return entries


def best_against_neighbours(
    accuracy: Float64[np.ndarray, "teacher student seeds"],
    rates: tuple[Sequence[float], Sequence[float]],
    *,
    n_images: int | None = None,
) -> dict[str, Any]:
    """The cell with the highest mean among those of most seeds, and its differences to the up to eight cells around it.

    The intervals hold together with 95 % confidence (Bonferroni). They flatter the best cell somewhat, because it was
    chosen for being the best; the point is that they often include zero all the same.

    Args:
        accuracy: fractions; NaN where not trained.
        rates: of the teacher and of the student.
        n_images: as `difference` takes it.

    Returns:
        `teacher_rate`, `student_rate`, `mean`, `neighbours` (rates, difference, low, high of each), and
        `distinguishable`: whether every interval lies above zero; None where there are no such intervals.
    """
    means, n_seeds = _means(accuracy), (~np.isnan(accuracy)).sum(2)
    eligible = np.where(n_seeds == n_seeds.max(), means, -np.inf)  # a lucky seed alone is no best cell
    row, column = divmod(int(eligible.argmax()), means.shape[1])
    around = [
        (i, j)
        for i in range(max(row - 1, 0), min(row + 2, means.shape[0]))
        for j in range(max(column - 1, 0), min(column + 2, means.shape[1]))
        if (i, j) != (row, column) and not np.isnan(means[i, j])
    ]
    neighbours: list[dict[str, Any]] = [
        {
            "teacher_rate": rates[0][i],
            "student_rate": rates[1][j],
            **difference(accuracy[row, column], accuracy[i, j], n_tests=len(around), n_images=n_images),
        }
        for i, j in around
    ]
    lows = [entry["low"] for entry in neighbours]
    known = bool(lows) and None not in lows
    return {
        "teacher_rate": rates[0][row],
        "student_rate": rates[1][column],
        "mean": float(means[row, column]),
        "neighbours": neighbours,
        "distinguishable": all(low > 0 for low in lows if low is not None) if known else None,
    }


def answers_table(result: Result) -> pd.DataFrame:
    """Both answers in numbers: one row per row and column of the grid, then one per neighbour of the best cell.

    Columns: question, fixed (network whose rate is; empty for the best cell), rates of the cell in question and of
    the other one, difference of their mean accuracies, low, high, and answer (empty where there is none).
    """
    rows = []
    for entry in result.facts["equal_rate"]:
        fixed, rate = entry["fixed"], entry["rate"]
        other = {network: rate if network == fixed else entry["other"] for network in _NETWORKS}
        cell = {"question": "does the equal rate win", "fixed": fixed, "teacher_rate": rate, "student_rate": rate}
        rows.append({**cell, **_compared(entry, other), "answer": entry["wins"]})
    best = result.facts["best"]
    for entry in best["neighbours"]:
        other = {network: entry[f"{network}_rate"] for network in _NETWORKS}
        rates = {f"{network}_rate": best[f"{network}_rate"] for network in _NETWORKS}
        cell = {"question": "is the best cell distinguishable", "fixed": "", **rates}
        answer = None if entry["low"] is None else entry["low"] > 0
        rows.append({**cell, **_compared(entry, other), "answer": answer})
    return pd.DataFrame(rows, columns=_ANSWERS)


def dropout_summary(result: Result) -> str:
    """Both answers in words."""
    facts, n_seeds = result.facts, result.arrays["accuracy"].shape[2]
    lines = [
        f"{facts['kind']} dropout rates on {facts['data']}, {n_seeds} seeds, {facts['n_missing']} trainings missing"
    ]
    for fixed in _NETWORKS:
        entries = [entry for entry in facts["equal_rate"] if entry["fixed"] == fixed]
        wins = [f"{entry['rate']:g}" for entry in entries if entry["wins"]]
        clear = sum(entry["low"] is not None and (entry["low"] > 0 or entry["high"] < 0) for entry in entries)
        lines.append(
            f"{fixed} rate fixed: the equal rate wins for {len(wins)} of {len(entries)} rates "
            f"({', '.join(wins) or 'none'}); the interval of the difference to the best other rate "
            f"excludes zero for {clear}"
        )
        lines += [f"  {entry['rate']:g}: {_points(entry)} against {entry['other']:g}" for entry in entries]
    best = facts["best"]
    lines.append(
        f"best: teacher {best['teacher_rate']:g}, student {best['student_rate']:g}, "
        f"{100 * best['mean']:.2f} %; {_standing(best)}"
    )
    return "\n".join(lines)


def _standing(best: dict[str, Any]) -> str:
    if not best["neighbours"]:
        return "it has no neighbour"
    unclear = min(best["neighbours"], key=clearness)
    against = f"{_points(unclear)} against teacher {unclear['teacher_rate']:g}, student {unclear['student_rate']:g}"
    if best["distinguishable"] is None:
        return (
            "whether it differs from its neighbours cannot be said from so few seeds, or such equal ones "
            f"(least certain lead: {against})"
        )
    word = "distinguishable from all" if best["distinguishable"] else "not distinguishable from all"
    return f"{word} of its {len(best['neighbours'])} neighbours (least certain lead: {against})"


#: of each cell's result
_READ = ("accuracy", "data", "data_sha256", "teacher_sha256", "teacher", "model", "evaluated_images")
_RATES = tuple(f"{network}_rate" for network in _NETWORKS)
_ENDS = ("difference", "low", "high")
_ANSWERS = ["question", "fixed", *_RATES, *(f"other_{rate}" for rate in _RATES), *_ENDS, "answer"]


def _compared(entry: dict[str, Any], other: dict[str, float]) -> dict[str, Any]:
    """Columns of the other cell and of the difference to it."""
    return {f"other_{network}_rate": rate for network, rate in other.items()} | {end: entry[end] for end in _ENDS}


def _points(entry: dict[str, Any]) -> str:
    """`+0.28 points [-1.20, 1.76]`."""
    if entry["difference"] is None:
        return "no seed in common"
    interval = "" if entry["low"] is None else f" [{100 * entry['low']:.2f}, {100 * entry['high']:.2f}]"
    return f"{100 * entry['difference']:+.2f} points{interval}"


def _means(accuracy: _Array) -> _Array:
    """Mean over the last axis of the values that are there; NaN where none is."""
    count = (~np.isnan(accuracy)).sum(-1)
    means: _Array = np.divide(np.nansum(accuracy, -1), count, out=np.full(count.shape, np.nan), where=count > 0)
    return means


def _table(ledger: Ledger) -> pd.DataFrame:
    """One row per cell of the plan that varies a pair of rates, done or not."""
    states = ledger.states()
    rows = []
    for cell in ledger.cells:
        for kind in DROPOUTS:
            keys = [f"method.{kind}_rate_{network}" for network in _NETWORKS]
            if all(key in cell.values for key in keys):
                if others := cell.values.keys() - {*keys, "seed"}:
                    raise AnalysisError(
                        f"{ledger.path} varies more than one pair of dropout rates: {', '.join(others)}"
                    )
                found = states[cell.id].result or {}
                numbers = {key: found.get(key, np.nan) for key in _READ}
                rates = dict(zip(_NETWORKS, (cell.values[key] for key in keys), strict=True))
                seed = cell.values.get("seed", cell.base["seed"])
                _check_values(ledger, cell.id, {**rates, "seed": seed})
                rows.append({"kind": kind, "seed": seed} | {f"{n}_rate": r for n, r in rates.items()} | numbers)
    return pd.DataFrame(rows)


def _check_values(ledger: Ledger, cell: str, values: dict[str, Any]) -> None:
    for name, value in values.items():
        number = type(value) is int if name == "seed" else type(value) in (int, float) and 0 <= value < 1
        if not number:
            wanted = "a seed, a whole number" if name == "seed" else f"the {name}'s rate, a number in [0, 1)"
            raise AnalysisError(f"{ledger.path} is damaged: the cell {cell} has {value!r} for {wanted}")


def _result(ledger: Ledger, table: pd.DataFrame, kind: str) -> Result:
    rates = sorted(table["teacher_rate"].unique().tolist()), sorted(table["student_rate"].unique().tolist())
    seeds = sorted(table["seed"].unique().tolist())
    accuracy = np.full((len(rates[0]), len(rates[1]), len(seeds)), np.nan)
    for row in table.to_dict("records"):
        place = rates[0].index(row["teacher_rate"]), rates[1].index(row["student_rate"]), seeds.index(row["seed"])
        accuracy[place] = row["accuracy"]
    done = table.dropna(subset=["accuracy"])
    n_images = None if done["evaluated_images"].isna().any() else int(done["evaluated_images"].min()) or None
    base, other = ledger.cells[0].base, DROPOUTS[1 - DROPOUTS.index(kind)]
    facts = {
        "kind": kind,
        "rates_teacher": rates[0],
        "rates_student": rates[1],
        "seeds": seeds,
        "data": done["data"].iloc[0],
        "teacher": done["teacher"].iloc[0],
        "student": done["model"].iloc[0],
        "fixed_rates": {f"{other}_rate_{n}": base["method"].get(f"{other}_rate_{n}") for n in _NETWORKS},
        "n_images": n_images,
        "n_missing": len(table) - len(done),
        "confidence": 0.95,
        "equal_rate": equal_rates(accuracy, rates, n_images=n_images),
        "best": best_against_neighbours(accuracy, rates, n_images=n_images),
    }
    origin = provenance(sweep=str(ledger.path), teacher_sha256=done["teacher_sha256"].iloc[0], config=base)
    return Result("dropout-sweep", {"accuracy": accuracy}, facts, origin)
