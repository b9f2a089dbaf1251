"""Which methods differ from plain training, from `kd` and from themselves untuned, by how much, and which do not."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import t

from figures.pictures.comparison import QUANTITIES
from figures.remarks import remarks_on
from figures.report.elements import ALIKE, CARE, DIFFER, NEXT, Finding, Results
from figures.report.findings.wording import capital, enumerated, several, worded_p_values
from kdprobe.mean_interval import (
    SHOWS_NOTHING,
    all_equal,
    detectable_difference,
    differs,
    largest_difference,
    seeds_to_tell,
    worded,
    worded_p_value,
)
from kdprobe.results import Result

_UNTUNED = " as published"
_WANTED = 0.01  # the difference of accuracies whose price in seeds is told
_MOST = 6  # differences that are written one by one
_MANY = 50  # seeds: where more are needed, their number is no advice


class _Pair(NamedTuple):
    """A method beside another one, in the unit that is shown.

    Attributes:
        ends: the mean difference, and the ends of its interval.
        p_value: Holm's.
        tests: over how many differences.
        n: seeds that both have.
        equal: whether all seeds differ alike, so that the interval is that of the images.
        room: the largest difference to the other one that there can be.
    """

    method: str
    other: str
    ends: tuple[float, float, float]
    p_value: float
    tests: int
    n: int
    equal: bool
    room: float

    @property
    def error(self) -> float:
        """Standard error of the difference."""
        value, low, high = self.ends
        return max(value - low, high - value) / float(t.ppf(0.975, self.freedom))

    @property
    def freedom(self) -> float:
        """Degrees of freedom of the test."""
        return math.inf if self.equal else self.n - 1

    @property
    def detectable(self) -> float:
        """The true difference that the test finds four times out of five; infinite where none can be that large."""
        found = detectable_difference(self.error, self.freedom, tests=self.tests)
        return found if found < self.room else math.inf


def comparison_findings(results: Results) -> Iterator[Finding]:
    """What a comparison of runs says of methods: their accuracy, UAR where it says something else, and CKA."""
    for name, result in results:
        most = int((~np.isnan(result.arrays["accuracy"])).sum(1).max())
        told = {key: _pairs(result, key, _seeds(result, key)) for key in QUANTITIES}
        verdicts = {key: [(one.method, one.other, differs(one.p_value)) for one in told[key]] for key in told}
        for key, pairs in told.items():
            if key != "uar" or verdicts["uar"] != verdicts["accuracy"]:
                label, _, digits = QUANTITIES[key]
                topic = ALIKE if key == "cka" else DIFFER
                yield from _beside_each(pairs, label.removesuffix(" in %"), digits, topic, name)
        yield from _remarks(result, name)
        yield from _untested(result, name)
        models = sorted({group["model"] for group in result.facts.get("groups", ())})
        asks = f"seeds of {', '.join(models)} on {result.facts['data']}" if models else ""
        yield from _next(told["accuracy"], name, asks, one_seed=most < 2)


def tuned_findings(results: Results) -> Iterator[Finding]:
    """What methods that were tuned alike say: of each other, and of themselves as published."""
    for name, result in results:
        values = _seeds(result, "accuracy")
        if "published" in result.arrays:
            methods = result.facts["methods"]
            values |= {f"{one}{_UNTUNED}": row for one, row in zip(methods, result.arrays["published"], strict=True)}
        pairs = _pairs(result, "accuracy", values)
        between, untuned = _families(pairs)
        yield from _beside_each(between, "accuracy", 1, DIFFER, name)
        yield from _tuning(untuned, name)
        yield from _remarks(result, name)
        yield from _untested(result, name)
        asks = f"seeds of {result.facts['student']} on {result.facts['data']}"
        yield from _next(between, name, asks, one_seed=len(result.facts["seeds"]) < 2)


def _families(pairs: Sequence[_Pair]) -> tuple[list[_Pair], list[_Pair]]:
    """The differences of methods, and those to themselves as published, each under one correction."""
    untuned = [one for one in pairs if one.other == f"{one.method}{_UNTUNED}"]
    return [one for one in pairs if one not in untuned], untuned


def _seeds(result: Result, key: str) -> dict[str, Any]:
    return dict(zip(result.facts["methods"], result.arrays[key], strict=True))


def _pairs(result: Result, key: str, values: Mapping[str, Any]) -> list[_Pair]:
    """The differences of a quantity that were tested, those between two baselines both ways round."""
    needed = ("difference", "low", "high", "adjusted_p_value")
    entries = [one for one in result.facts.get("differences", ()) if one["quantity"] == key]
    entries = [one for one in entries if {one["method"], one["other"]} <= values.keys()]
    entries = [one for one in entries if all(one[name] is not None for name in needed)]
    families = [one["other"].endswith(_UNTUNED) for one in entries]
    factor, found = QUANTITIES[key][1], []
    baselines = {one["other"] for one in entries}
    for entry, family in zip(entries, families, strict=True):
        seeds = values[entry["method"]] - values[entry["other"]]
        numbers = {"p_value": entry["adjusted_p_value"], "tests": families.count(family)}
        numbers |= {"n": int((~np.isnan(seeds)).sum()), "equal": all_equal(seeds)}
        value, low, high = (factor * entry[end] for end in needed[:3])
        rooms = {name: factor * largest_difference(values[name]) for name in (entry["method"], entry["other"])}
        found.append(_Pair(entry["method"], entry["other"], (value, low, high), **numbers, room=rooms[entry["other"]]))
        if entry["method"] in baselines and not family:
            turned = (-value, -high, -low)
            found.append(_Pair(entry["other"], entry["method"], turned, **numbers, room=rooms[entry["method"]]))
    return found


def _beside_each(pairs: Sequence[_Pair], label: str, digits: int, topic: str, name: str) -> Iterator[Finding]:
    """For each baseline the methods above it, those below it, and those that cannot be told from it."""
    for other in dict.fromkeys(one.other for one in pairs):
        beside = [one for one in pairs if one.other == other]
        told = [one for one in beside if differs(one.p_value)]
        for word, some in (
            ("higher", [one for one in told if one.ends[0] > 0]),
            ("lower", [one for one in told if one.ends[0] < 0]),
        ):
            if some:
                which = several([one.method for one in some], "has", "have")
                text = f"{which} a {word} {label} than {other} ({_differences(some, label, digits)})."
                yield Finding(topic, text, name, _tested(some))
        if rest := [one for one in beside if not differs(one.p_value)]:
            which = several([one.method for one in rest], "is", "are")
            yield _not_told(f"{which} not shown to differ from {other} in {label}", rest, label, digits, topic, name)


def _tuning(pairs: Sequence[_Pair], name: str) -> Iterator[Finding]:
    """What the tuning of each method changed."""
    told = [one for one in pairs if differs(one.p_value)]
    if told:
        which, changed = enumerated([one.method for one in told]), _differences(told, "accuracy", 1)
        yield Finding(DIFFER, f"Tuning changes the accuracy of {which} ({changed}).", name, _tested(told))
    if rest := [one for one in pairs if not differs(one.p_value)]:
        which = f"{len(rest)} methods" if len(rest) > _MOST else enumerated([one.method for one in rest])
        text = f"Tuning is not shown to change the accuracy of {which}"
        yield _not_told(text, rest, "accuracy", 1, DIFFER, name)


def _not_told(text: str, pairs: Sequence[_Pair], label: str, digits: int, topic: str, name: str) -> Finding:
    """That no difference is shown, and the true one that the tests would have found four times out of five."""
    found = sorted(one.detectable for one in pairs if one.detectable < math.inf)
    seen = [SHOWS_NOTHING] if len(found) < len(pairs) else []
    if found:
        ends = dict.fromkeys(f"{value:.{digits}f}" for value in (found[0], found[-1]))
        much = f"{' to '.join(ends)}{_unit(label)}{', depending on the method,' * (len(ends) > 1)}"
        blind = [one.method for one in pairs if one.detectable == math.inf]
        seen = [
            f"a true difference of {much} would have been found four times out of five",
            *([f"for {enumerated(blind)} {SHOWS_NOTHING}"] if blind else []),
        ]
    return Finding(
        topic, "; ".join([f"{text} ({_differences(pairs, label, digits)})", *seen]) + ".", name, _tested(pairs)
    )


def _differences(pairs: Sequence[_Pair], label: str, digits: int) -> str:
    """Each difference with its interval and p value, or the range of many."""
    unit = _unit(label)
    if len(pairs) > _MOST:
        values = sorted((one.ends[0], one.method) for one in pairs)
        low, high = (f"{value:+z.{digits}f}{unit} ({method})" for value, method in (values[0], values[-1]))
        p_values = [one.p_value for one in pairs]
        return f"from {low} to {high}; {worded_p_values(p_values)}"
    words = [
        f"{f'{one.method} ' * (len(pairs) > 1)}{worded(one.ends, digits=digits, signed=True)}{unit}, "
        f"{worded_p_value(one.p_value)}"
        for one in sorted(pairs, key=lambda one: -abs(one.ends[0]))
    ]
    return "; ".join(words)


def _unit(label: str) -> str:
    return "" if "CKA" in label else " points"


def _tested(pairs: Sequence[_Pair]) -> str:
    """How the p values were found."""
    seeds = " to ".join(map(str, sorted({min(one.n for one in pairs), max(one.n for one in pairs)})))
    of = several(pairs[0].tests, "difference")
    return f"Paired by seed ({seeds}); the 95 % intervals are of single differences, p is Holm's over {of}."


def _remarks(result: Result, name: str) -> Iterator[Finding]:
    """What a reader has to know of a comparison, such as that the teacher is less accurate than its students."""
    yield from (Finding(CARE, f"{capital(text)}.", name) for text in remarks_on(result))


def _untested(result: Result, name: str) -> Iterator[Finding]:
    """Pairs that could not be tested, by their reasons."""
    reasons: dict[str, list[str]] = {}
    for entry in result.facts.get("differences", ()):
        if entry["adjusted_p_value"] is None and entry["quantity"] == "accuracy":
            reasons.setdefault(entry["reason"] or "no reason is stated", []).append(
                f"{entry['method']} against {entry['other']}"
            )
    for reason, pairs in reasons.items():
        yield Finding(CARE, f"Not tested is the accuracy of {enumerated(pairs)}: {reason}.", name)


def _next(pairs: Sequence[_Pair], name: str, asks: str, *, one_seed: bool) -> Iterator[Finding]:
    """How many seeds would tell what these do not."""
    if one_seed:
        yield Finding(NEXT, "Train more seeds of each method: one seed tells no methods apart.", name, asks=asks)
    unclear = [one for one in pairs if not differs(one.p_value) and not one.equal and one.error > 0]
    if not unclear:
        return
    n_seeds = max(one.n for one in unclear)
    needed = sorted(
        seeds_to_tell(100 * _WANTED, one.error * math.sqrt(one.n), tests=one.tests, most=_MANY) or _MANY + 1
        for one in unclear
    )
    if needed[-1] <= n_seeds:
        return
    middle, last = (f"more than {_MANY}" if n > _MANY else f"{n}" for n in (needed[len(needed) // 2], needed[-1]))
    many = f"{last} seeds" if middle == last else f"{middle} seeds for half of the methods and {last} for all"
    text = (
        f"Train more seeds: as these {n_seeds} scatter, a true difference of 1 point in accuracy is found four times "
        f"out of five with {many}."
    )
    yield Finding(NEXT, text, name, _tested(unclear), asks)
