"""Whatever a result holds, it is drawn and shown, or refused in one line."""

import copy
import random
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from figures.pictures import FIGURES, draw
from figures.report.page import page
from figures.style import figure_of
from kdprobe.errors import ResultError
from kdprobe.results import Result
from tests.saved_results import (
    calibrated,
    cka_result,
    comparison_result,
    complexity_result,
    compound_result,
    diagnosis_result,
    dropout_result,
    evaluation_result,
    examples_result,
    fidelity_result,
    images_result,
    inherited_errors_result,
    knowledge_comparison_result,
    knowledge_result,
    map_result,
    over_time_result,
    reliability_result,
    similarity_result,
    training_result,
    tuned_result,
)

REMARK = {"teacher_layer": "a", "student_layer": "b", "reason": "few samples"}
GROUP = {
    "method": "kd",
    "model": "resnet8",
    "teacher": None,
    "data": "digits",
    "evaluated_on": "test",
    "parameters": 78_042,
    "runs": ["runs/kd"],
    "sha256": [["0" * 64]],
}


def further(result: Result, **facts: Any) -> Result:
    """With facts that not all results of its kind state."""
    return replace(result, facts={**result.facts, **facts})


RESULTS = {
    "cka": calibrated(cka_result(3, 4, undefined=((1, 2),))),
    "cka-over-time": further(over_time_result(2, 3), missing_epochs=[4], remarks=[{"reason": "no snapshot"}]),
    "comparison": further(
        comparison_result(("plain", "kd"), 2), groups=[GROUP, GROUP], n_images=[360, None], budget_differences="epochs"
    ),
    "complexity": complexity_result(latency=True),
    "compound": compound_result(),
    "diagnosis": further(diagnosis_result(("ce", "kd"), 2), undefined=[{"network": "a", "view": "b", "reason": "c"}]),
    "dropout-sweep": further(
        dropout_result(2, (0.3, 0.5), answered=True),
        teacher=None,
        n_images=360,
        n_missing=1,
        confidence=0.95,
        fixed_rates={"logit_rate_teacher": None},
    ),
    "evaluation": further(
        evaluation_result(("plain", "kd"), 3, 20),
        probe={
            **{"kind": "linear", "words": ["logistic regression", "the same"], "n_images": [60, 60]},
            **{"dimension": [64, 32], "C": [0.1, 1.0], "converged": [True, False], "held_out": 0.2},
        },
    ),
    "examples": examples_result(2),
    "fidelity": fidelity_result(("kd", "plain"), 1),
    "images": further(images_result(n_images=12, n_shown=5), paths=[f"{place}.png" for place in range(12)]),
    "inherited-errors": inherited_errors_result(3),
    "knowledge": further(knowledge_result(2, measured=True, rates=True, samples=4), left_out=[REMARK]),
    "knowledge-comparison": knowledge_comparison_result(("plain", "kd"), 2),
    "map": further(map_result(2, 2, undefined=True), remarks=[REMARK]),
    "reliability": reliability_result(("plain",)),
    "similarity": further(similarity_result(2, 3), remarks=[REMARK]),
    "training": further(training_result(("teacher", "kd"), 4), remarks=[{"reason": "kd is unfinished"}]),
    "tuned-comparison": tuned_result(("plain", "kd"), 2, 2, late=True),
}
ARRAYS = {
    "dropped": None,
    "text": lambda a: a.astype("U5"),
    "bytes": lambda a: a.astype("S5"),
    "complex": lambda a: a.astype("c8"),
    "bool": lambda a: a > 0,
    "objects": lambda a: a.astype("O"),
    "dates": lambda a: np.zeros(a.shape, "M8[s]"),
    "float16": lambda a: a.astype("f2"),
    "int8": lambda a: np.nan_to_num(a).astype("i1"),
    "big-endian": lambda a: a.astype(">f8"),
    "nan": lambda a: np.full(a.shape, np.nan),
    "one nan": lambda a: np.where(np.arange(a.size).reshape(a.shape) == 0, np.nan, a),
    "inf": lambda a: np.full(a.shape, np.inf),
    "-inf": lambda a: np.where(np.arange(a.size).reshape(a.shape) == 0, -np.inf, a),
    "1e300": lambda a: np.full(a.shape, 1e300),
    "1e99": lambda a: np.full(a.shape, 1e99),
    "1e-320": lambda a: np.full(a.shape, 1e-320),
    "zeros": np.zeros_like,
    "negative": lambda a: -a.astype("f8") - 1,
    "negative whole": lambda a: np.full(a.shape, -1),
    "large whole": lambda a: np.full(a.shape, 2**62),
    "reversed": lambda a: a[..., ::-1],
    "transposed": lambda a: a.T,
    "0-d": lambda a: np.float64(0.5),
    "a list": lambda a: a.tolist(),
    "one more axis": lambda a: a[None],
    "flat": lambda a: a.ravel(),
    "empty": lambda a: a[:0],
    "doubled": lambda a: np.concatenate([a, a]),
    "first alone": lambda a: a[:1],
    "last axis cut": lambda a: a[..., :1],
}
VALUES = [
    None, True, 0, -1, 0.5, 1e308, float("nan"), 10**30, "", "x", "x" * 5000, "$\\frac{", "\0\u2028\n", "\ud800",
    [], [1], ["x"], [[1]], [None], ["x"] * 3, {}, {"a": 1}, {"x": {"y": "z"}},
]  # fmt: skip


def places(value: Any, before: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The ways to all values in a nested one."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, item in items for place in ((*before, key), *places(item, (*before, key)))]


def put(value: Any, place: tuple[Any, ...], change: Any) -> Any:
    """A copy with one value changed; dropped where `change` is None."""
    made = within = copy.deepcopy(value)
    for key in place[:-1]:
        within = within[key]
    if change is None:
        del within[place[-1]]
    else:
        within[place[-1]] = change(within[place[-1]])
    return made


def altered(result: Result, part: str, value: Any) -> Result:
    """A copy with another part, whatever its type: in tests the types of arguments are checked."""
    made = copy.copy(result)
    object.__setattr__(made, part, value)
    return made


def mutations(result: Result) -> dict[str, Result]:
    """Results that differ from a right one in one array, fact or word of its origin."""
    found = {}
    for name in result.arrays:
        for what, change in ARRAYS.items():
            with np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found[f"array {name} {what}"] = altered(result, "arrays", put(result.arrays, (name,), change))
    for part in ("facts", "provenance"):
        held = getattr(result, part)
        changes: dict[str, Any] = {"dropped": None, "wrapped": lambda v: [v]}
        changes |= {f"= {value!r:.20}": lambda _, value=value: value for value in VALUES}
        for place in places(held):
            further = {"doubled": lambda v: v + v} if isinstance(place[-1], str) and place[0] != "command" else {}
            for what, change in (changes | further).items():
                try:
                    found[f"{part} {place} {what}"] = altered(result, part, put(held, place, change))
                except TypeError:  # what cannot be doubled
                    continue
    return found


def outcome(result: Result) -> str:
    """How a result ends in the figures and in the report: `drawn`, or what is wrong with it in one line."""
    ends = []
    for show in (draw, lambda one: page([(Path("r.npz"), one)], title="t")):
        if show is draw and result.kind not in FIGURES:
            continue
        try:
            made = show(result)
            if show is draw:
                figure_of(made).canvas.draw()
            ends.append("drawn")
        except ResultError as error:
            ends.append(str(error))
    return max(ends, key=len)


def try_all(tries: list[tuple[str, Result]]) -> dict[str, str]:
    """How each ends; whatever else is raised says of which it was."""
    ends = {}
    for name, result in tries:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph .* missing from font")
            try:
                ends[name] = outcome(result)
            except Exception as error:
                raise AssertionError(f"{name}: {type(error).__name__}: {error}") from error
    return ends


def sample(kind: str, n: int) -> list[tuple[str, Result]]:
    """Some of the more than ten thousand mutations, the same ones each time."""
    return random.Random(31).sample(list(mutations(RESULTS[kind]).items()), n)


def judge(ends: dict[str, str]) -> None:
    refusals = {end for end in ends.values() if end != "drawn"}
    assert len(refusals) > len(ends) / 4
    assert all("\n" not in end and len(end) < 400 and "result: the" in end for end in refusals)


@pytest.mark.slow
def test_a_few_mutations_of_every_kind():
    judge(try_all([one for kind in RESULTS for one in sample(kind, 5)]))


@pytest.mark.slow
@pytest.mark.parametrize("kind", RESULTS)
def test_many_mutations(kind):
    judge(try_all(sample(kind, 100)))
