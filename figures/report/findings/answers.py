"""Whether students answer as their teacher does, which networks differ on the same images, and which only guess."""

import re
from collections.abc import Iterator, Sequence

import numpy as np

from figures.report.elements import ALIKE, CARE, DIFFER, NEXT, Finding, Results
from figures.report.findings.wording import capital, enumerated, several, worded_p_values
from figures.words import percentage
from kdprobe.mean_interval import difference_interval, differs, holm, worded, worded_p_value
from kdprobe.results import Result

_ALWAYS = "agreement_wrong"  # what a verdict on the teacher's function hangs on
_VERDICT = re.compile(r"Beside .+? \(\d+ \w+\), .+? ((?:is|makes) .+)")
_MANY = {"is": "are", "makes": "make", "gets": "get", "it has": "they have", "it is": "they are", "it did": "they did"}
_ONE = re.compile(rf"\b(?:{'|'.join(sorted(_MANY, key=len, reverse=True))})\b")


def fidelity_findings(results: Results) -> Iterator[Finding]:
    """The verdicts of the tests with the numbers that bear them, and what keeps them from saying more."""
    for name, result in results:
        facts = result.facts
        controls = [name for name, role in zip(facts["groups"], facts["group_roles"], strict=True) if role == "control"]
        places = [place for place, pair in enumerate(facts["pairs"]) if pair["other"] in controls]
        for verdict, of_it in _alike(result, places):
            numbers = _numbers(result, of_it[0]) if len(of_it) == 1 else _ranges(result, of_it)
            yield Finding(ALIKE, f"{verdict}{numbers}.", name, f"{capital(facts['tests'])}.")
        if not controls:
            text = "Give controls to `kdprobe fidelity`: without networks that this teacher did not teach, nothing "
            yield Finding(NEXT, f"{text}tells agreement with it from being right.", name)
        n_wrong = int((result.arrays["teacher_predictions"] != result.arrays["targets"]).sum())
        if n_wrong < 10:
            text = f"{facts['teacher']} makes {several(n_wrong, 'mistake')} on {facts['n_images']} images"
            yield Finding(CARE, f"{text}: too few to tell whether students have learnt them.", name)
            yield Finding(
                NEXT, "Ask for fidelity on more or harder images, on which the teacher errs more often.", name
            )


def evaluation_findings(results: Results) -> Iterator[Finding]:
    """Networks tested against one of them, those that are no better than guessing, and how sure the others are."""
    for name, result in results:
        if result.facts["against"] is not None:
            yield from _against(result, name)
    yield from _guessing(results)
    yield from _calibration(results)
    empty = {
        result.facts["classes"][place]
        for _, result in results
        for place in np.flatnonzero(result.arrays["confusion"][0].sum(1) == 0)
    }
    if empty:
        yield Finding(CARE, f"There is no image of {enumerated(sorted(empty))}, so recall and UAR leave it out.")


def _alike(result: Result, places: Sequence[int]) -> Iterator[tuple[str, list[int]]]:
    """Each verdict with the pairs that it is true of: one sentence for all methods that it says the same of."""
    found: dict[tuple[str, str], list[int]] = {}
    for place, verdict in zip(places, result.facts["verdicts"], strict=False):
        pair = result.facts["pairs"][place]
        whole = _VERDICT.fullmatch(verdict)
        beside = f"Beside {pair['other']} ({pair['n']} {pair['by']}s), "
        found.setdefault((beside, whole[1]) if whole else (verdict, ""), []).append(place)
    for (beside, said), of_it in found.items():
        names = enumerated([result.facts["pairs"][place]["one"] for place in of_it])
        words = said if len(of_it) == 1 else _ONE.sub(lambda word: _MANY[word[0]], said)
        yield f"{beside}{names} {words}" if said else beside, of_it


def _numbers(result: Result, place: int) -> str:
    """The differences that a verdict speaks of, each with its interval and p value."""
    words = []
    for number, (scale, digits, unit) in _quantities(result, [place]):
        ends = result.arrays["differences"][place, number].tolist()
        shown = worded(ends, scale=scale, digits=digits, signed=True) + unit
        words.append(f"{result.facts['labels'][number]} {shown}, {worded_p_value(_p_value(result, place, number))}")
    return f" ({'; '.join(words)})" if words else ""


def _ranges(result: Result, places: Sequence[int]) -> str:
    """The same of several methods: the smallest and the largest difference with their intervals, and the least sure."""
    facts, words = result.facts, []
    for number, (scale, digits, unit) in _quantities(result, places):
        ends = {place: result.arrays["differences"][place, number].tolist() for place in places}
        furthest = (end(places, key=lambda place: ends[place][0]) for end in (min, max))
        shown = (
            f"{worded(ends[place], scale=scale, digits=digits, signed=True)}{unit} ({facts['pairs'][place]['one']})"
            for place in furthest
        )
        p_values = [_p_value(result, place, number) for place in places]
        words.append(f"{facts['labels'][number]} {' to '.join(shown)}, {worded_p_values(p_values)}")
    return f" ({'; '.join(words)})" if words else ""


def _quantities(result: Result, places: Sequence[int]) -> Iterator[tuple[int, tuple[float, int, str]]]:
    """The quantities that differ in all these pairs, or that verdicts hang on: number, and scale, digits and unit."""
    for number, quantity in enumerate(result.facts["quantities"]):
        p_values = [_p_value(result, place, number) for place in places]
        shown = quantity == _ALWAYS or (quantity != "accuracy" and all(map(differs, p_values)))
        if shown and not any(map(np.isnan, p_values)):
            scale = float(result.facts["scales"][number])
            yield number, (scale, *((1, " points") if scale > 1 else (3, "")))


def _p_value(result: Result, place: int, number: int) -> float:
    return float(result.arrays["adjusted"][place, number])


def _against(result: Result, name: str) -> Iterator[Finding]:
    """The networks that are tested, paired by image, against one of them."""
    facts, other = result.facts, result.facts["against"]
    p_values = result.arrays["accuracy_difference"][:, 1].astype(np.float64)
    p_values[facts["names"].index(other)] = np.nan
    tested = int((~np.isnan(p_values)).sum())
    how = (
        f"Paired by image ({facts['n_images']}), by permutation; the {100 * facts['confidence']:g} % intervals are of "
        f"single differences, p is Holm's over {several(tested, 'network')}. "
        "It says nothing of other trainings of the same networks."
    )
    right = result.arrays["predictions"] == result.arrays["targets"]
    beside = right[facts["names"].index(other)]
    rows = zip(facts["names"], right, result.arrays["accuracy_difference"][:, 0], holm(p_values).tolist(), strict=True)
    for network, own, difference, p_value in rows:
        if np.isnan(p_value):
            continue
        _, *ends = difference_interval(own, beside, n_images=len(own), confidence=facts["confidence"])
        interval = worded([difference, *ends], scale=100, digits=1, signed=True)
        shown = f"({interval} points, {worded_p_value(p_value)})"
        word = "more" if difference > 0 else "less"
        verdict = f"is {word} accurate than" if differs(p_value) else "is not shown to differ in accuracy from"
        yield Finding(DIFFER, f"{network} {verdict} {other} on these images {shown}.", name, how)


def _guessing(results: Results) -> Iterator[Finding]:
    """Networks whose accuracy could be that of giving every image the most frequent class."""
    for name, result in results:
        confusion = result.arrays["confusion"]
        most = float(confusion[0].sum(1).max() / confusion[0].sum())
        for network, ends in zip(result.facts["names"], result.arrays["accuracy"], strict=True):
            if ends[1] <= most and len(result.facts["classes"]) > 1:
                shown = f"{percentage(ends[0])} [{100 * ends[1]:.1f}, {100 * ends[2]:.1f}]"
                text = (
                    f"{network} is not shown to do better than giving every image the most frequent class: {shown} "
                    f"against {percentage(most)}. It may be untrained, or its classes in another order."
                )
                yield Finding(CARE, text, name, f"{100 * result.facts['confidence']:g} % interval over images.")


def _calibration(results: Results) -> Iterator[Finding]:
    """How many networks are certainly not as often right as they are sure."""
    found = [
        (f"{network} ({name})" if len(results) > 1 else network, ends)
        for name, result in results
        for network, ends in zip(result.facts["names"], result.arrays["ece"], strict=True)
    ]
    wrong = [(network, ends[0]) for network, ends in found if ends[1] > 0]
    if not wrong:
        return
    most, least = max(wrong, key=lambda one: one[1]), min(wrong, key=lambda one: one[1])
    whose = wrong[0][0] if len(found) == 1 else f"{len(wrong)} of {len(found)} networks"
    ends = f"calibration error {percentage(least[1])}"
    if len(wrong) > 1:
        ends += f" ({least[0]}) to {percentage(most[1])} ({most[0]})"
    text = f"The confidence of {whose} is not to be taken at its word: {ends}."
    how = "A 95 % interval for each network by itself leaves out perfect calibration."
    yield Finding(CARE, text, results[0][0] if len(results) == 1 else "", how)
