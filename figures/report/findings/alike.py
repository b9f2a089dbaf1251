"""Where teacher and students are alike, beyond what chance gives, and what of each other's features they have."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from figures.calibrated import Beside, beside_null
from figures.report.elements import ALIKE, CARE, NEXT, Finding, Results
from figures.report.findings.wording import capital, enumerated, from_to, several
from figures.words import lower_bounds
from kdprobe.formats.map_words import map_findings
from kdprobe.results import Result

_MOST = 6  # results of a kind that are told one by one; of more it is said together what they say
_DIRECTIONS = (("student", "teacher"), ("teacher", "student"))


def likeness_findings(results: Results) -> Iterator[Finding]:
    """Of results of kind "cka" or "similarity": pairs of layers beyond and within their null, and undefined ones."""
    besides = [(name, result, beside_null(result)) for name, result in results]
    tested = [(name, result, beside) for name, result, beside in besides if beside]
    if len(tested) > _MOST:
        yield Finding(ALIKE, _all_beyond_chance([beside for *_, beside in tested]), how=_null(tested[0][1]))
    else:
        for name, result, beside in tested:
            yield Finding(ALIKE, _beyond_chance(result, beside), name, _null(result))
    if plain := [name for name, _, beside in besides if not beside]:
        whose, of = ("it", plain[0]) if len(results) == 1 else (enumerated(plain), "")
        text = f"Set likeness beside chance (`kdprobe {results[0][1].kind} --calibrate`): without, nothing is said of"
        yield Finding(NEXT, f"{text} {whose}.", of)
    for name, result in results:
        if undefined := result.facts["undefined"]:
            reasons = enumerated(list(dict.fromkeys(cell["reason"] for cell in undefined)), 3)
            of = f"{len(undefined)} of {result.arrays['matrix'].size} pairs of layers"
            yield Finding(CARE, f"{of} have no value: {reasons}.", name)


def map_likeness_findings(results: Results) -> Iterator[Finding]:
    """Of results of kind "map": what groups the networks, and how many are alike beyond chance."""
    for name, result in results:
        for entry in result.facts["groupings"]:
            yield Finding(ALIKE if entry["p_value"] is not None else CARE, _grouped(entry), name, _permanova(entry))
        if "calibration" in result.facts:
            beyond = next(text for text in map_findings(result) if "exceed their null" in text)
            yield Finding(ALIKE, f"{beyond}.", name)
        if undefined := result.facts["undefined"]:
            have = "has" if len(undefined) == 1 else "have"
            yield Finding(CARE, f"{several(len(undefined), 'pair')} of networks {have} no value.", name)


def knowledge_findings(results: Results) -> Iterator[Finding]:
    """What teacher and student have in common at the deepest layers, and where the samples were too few."""
    if len(results) > _MOST:
        yield from _all_general(results)
    for name, result in results if len(results) <= _MOST else ():
        facts = result.facts
        known = [pair for pair in _DIRECTIONS if not np.isnan(result.arrays[f"{pair[0]}_general"][-1]).any()]
        words = [_general(result, who, other) for who, other in known]
        level = f"{100 * facts['confidence']:g} % intervals"
        how = f"By the {facts['method']} method on {facts['n_samples']} samples; {level}."
        if words:
            yield Finding(ALIKE, " ".join(words), name, how)
    for name, result in results:
        limited = np.array([lower_bounds(result, who) for who in ("teacher", "student")])
        if limited.any():
            of = f"{int(limited.sum())} of {limited.size} general shares"
            n = result.facts.get("n_independent", result.facts["n_samples"])
            text = f"{of} are lower bounds: {n} samples are too few for all directions."
            yield Finding(CARE, text, name)
            yield Finding(NEXT, "Decompose more samples, or narrower layers.", name)
        if undefined := result.facts["undefined"]:
            reasons = enumerated(list(dict.fromkeys(cell["reason"] for cell in undefined)), 3)
            yield Finding(CARE, f"{several(len(undefined), 'number')} undefined, or bounds: {reasons}.", name)


def knowledge_comparison_findings(results: Results) -> Iterator[Finding]:
    """What several students and their teacher have in common at the deepest layers."""
    for name, result in results:
        facts = result.facts
        how = (
            f"By the {facts['method']} method; {100 * facts['confidence']:g} % intervals of each student by itself; "
            "whether students differ is not tested."
        )
        layers = {"teacher": f"the teacher's {facts['teacher_layers'][-1]}"}
        layers["student"] = f"the students' {facts['student_layers'][-1]}"
        for who, other in _DIRECTIONS:
            percents = 100 * result.arrays[f"{who}_general"][:, -1]
            bounded = [one for one, flags in zip(facts["names"], lower_bounds(result, who), strict=True) if flags[-1]]
            if shown := from_to(list(zip(facts["names"], percents, strict=True)), bounded=bounded):
                text = f"{capital(layers[other])} explains {shown} of the variance of {layers[who]}."
                yield Finding(ALIKE, text, name, how)


def _beyond_chance(result: Result, beside: Beside) -> str:
    """How many pairs of layers exceed their null, the most alike one, and those that do not."""
    facts = result.facts
    defined = ~np.isnan(beside.values)
    beyond = defined & ~beside.chance
    n, total = int(beyond.sum()), int(defined.sum())
    networks = f"{facts['teacher']} and {facts['student']}"
    if not n:
        return f"no pair of layers of {networks} is more alike than chance makes it."
    how_many = f"all {total}" if n == total else f"{n} of {total}"
    text = f"{how_many} pairs of layers of {networks} are more alike than chance makes them"
    shown = np.where(beyond, result.arrays["matrix"], np.nan)
    ends = [f"most {_pair(result, int(np.nanargmax(shown)))}"]
    if n > 1:
        ends.append(f"least {_pair(result, int(np.nanargmin(shown)))}")
    text = f"{text}: {', '.join(ends)}"
    if n == total:
        return f"{text}."
    chance = [_layers(result, int(place)) for place in np.flatnonzero((defined & beside.chance).ravel())]
    return f"{text}. Not so {enumerated(chance, 4)}."


def _pair(result: Result, place: int) -> str:
    value = float(result.arrays["matrix"].ravel()[place])
    ends = [float(result.arrays[key].ravel()[place]) if key in result.arrays else np.nan for key in ("low", "high")]
    interval = "" if np.isnan(ends[0]) else f" [{ends[0]:.2f}, {ends[1]:.2f}]"
    return f"{_layers(result, place)} ({result.facts.get('measure', 'CKA')} {value:.2f}{interval})"


def _layers(result: Result, place: int) -> str:
    row, column = divmod(place, result.arrays["matrix"].shape[1])
    return f"{result.facts['teacher_layers'][row]} with {result.facts['student_layers'][column]}"


def _null(result: Result) -> str:
    known = result.facts["calibration"]
    return (
        f"Beside {known['permutations']} random orders of {result.facts['n_samples']} samples; p ≤ {known['alpha']:g} "
        "holds for all pairs of layers together. It is no sign of transfer: networks that learnt apart are alike too; "
        "compare with some."
    )


def _grouped(entry: dict[str, Any]) -> str:
    of, other = entry["of"], "seeds" if entry["of"] == "methods" else "methods"
    if entry["p_value"] is None:
        return f"Whether {of} lie apart on the map is not tested: {entry['reason']}."
    verdict = "lie apart" if entry["p_value"] < 0.05 else "are not shown to lie apart"
    p_value = f"p = {entry['p_value']:.2g}"
    return (
        f"Given {other}, {of} {verdict} on the map ({100 * entry['share']:.0f} % of the squared distances, {p_value})."
    )


def _permanova(entry: dict[str, Any]) -> str:
    return (
        ""
        if entry["p_value"] is None
        else (
            f"PERMANOVA, {entry['permutations']} permutations of {entry['n_networks']} networks; the smallest p there "
            f"can be is {entry['smallest_p']:.2g}."
        )
    )


def _general(result: Result, who: str, other: str) -> str:
    """What part of a network's last layer the other one has too."""
    facts = result.facts
    value, low, high = 100 * result.arrays[f"{who}_general"][-1]
    layers = f"the {who}'s {facts[f'{who}_layers'][-1]}", f"the {other}'s {facts[f'{other}_layers'][-1]}"
    if low <= 0:
        shown = f"({value:z.0f} % [{low:z.0f}, {high:z.0f}])"
        return f"{capital(layers[1])} is not shown to explain any of the variance of {layers[0]} {shown}."
    bound = "at least " * bool(lower_bounds(result, who)[-1])
    return f"{capital(layers[1])} explains {bound}{value:.0f} % [{low:.0f}, {high:.0f}] of the variance of {layers[0]}."


def _all_general(results: Results) -> Iterator[Finding]:
    """The same of many decompositions: the range of what last layers explain, and whose are its ends."""
    levels = enumerated(list(dict.fromkeys(f"{100 * result.facts['confidence']:g} %" for _, result in results)))
    how = f"{levels} intervals of single decompositions, of which these are the lowest and the highest."
    for who, other in _DIRECTIONS:
        percents = [(name, 100 * result.arrays[f"{who}_general"][-1]) for name, result in results]
        if n := sum(not np.isnan(ends[0]) for _, ends in percents):
            shown = from_to(percents, bounded=[name for name, result in results if lower_bounds(result, who)[-1]])
            text = f"Teacher and student in {several(n, 'decomposition')}: of the variance of the {who}'s last"
            yield Finding(ALIKE, f"{text} layer, the {other}'s explains {shown}.", how=how)


def _all_beyond_chance(tested: Sequence[Beside]) -> str:
    """In how many of many results all pairs of layers exceed their null, and how many pairs that are."""
    defined = [~np.isnan(one.values) for one in tested]
    beyond = [known & ~one.chance for known, one in zip(defined, tested, strict=True)]
    n, total = (sum(int(some.sum()) for some in each) for each in (beyond, defined))
    whole = sum(bool((some == known).all()) for some, known in zip(beyond, defined, strict=True))
    return (
        f"{n:,} of {total:,} pairs of layers in {several(len(tested), 'result')} are more alike than chance makes "
        f"them; in {whole} of these results all are."
    )
