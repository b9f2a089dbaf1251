"""Whether networks are as sure as they are right, and what they make of compound expressions: shares of images."""

from collections.abc import Iterator

import numpy as np

from figures.report.elements import CARE, Finding, Results
from figures.report.findings.wording import enumerated, from_to
from figures.words import intervals, percentage, with_ends
from kdprobe.mean_interval import wilson
from kdprobe.results import Result

_HOW = "Mean confidence beside Wilson's 95 % interval of the share of images on which each network by itself is right."


def reliability_findings(results: Results) -> Iterator[Finding]:
    """Of results of kind "reliability": networks that are on average surer, or less sure, than they are right."""
    for name, result in results:
        sure, right = _sure_and_right(result)
        for word, apart in (("surer", sure > right[:, 2]), ("less sure", sure < right[:, 1])):
            if places := sorted(np.flatnonzero(apart).tolist(), key=lambda place: -abs(sure[place] - right[place, 0])):
                names = [result.facts["names"][place] for place in places]
                verb, they = ("is", "it is") if len(names) == 1 else ("are", "they are")
                most = f", most of all {names[0]}" * (len(names) > 1)
                shown = f"{percentage(sure[places[0]])} sure, right on {with_ends(100 * right[places[0]], ' %')}"
                text = f"On average {enumerated(names)} {verb} {word} than {they} right{most} ({shown})."
                yield Finding(CARE, text, name, _HOW)


def compound_findings(results: Results) -> Iterator[Finding]:
    """Of results of kind "compound": on what share of the images both halves are found."""
    for name, result in results:
        facts = result.facts
        shown = from_to(list(zip(facts["names"], 100 * result.arrays["both"], strict=True)), digits=1)
        text = f"Both halves of a compound expression are the two likeliest answers on {shown} of {facts['n_images']}"
        how = f"{intervals(facts)}, of each network by itself; whether networks differ is not tested."
        yield Finding(CARE, f"{text} images.", name, how)


def _sure_and_right(result: Result) -> tuple[np.ndarray, np.ndarray]:
    """Mean confidence [m], and the share of images on which each network is right with its interval [m, 3]."""
    count = result.arrays["count"].astype(np.float64)
    sure, right = (np.nansum(result.arrays[key] * count, axis=1) for key in ("confidence", "accuracy"))
    total = count.sum(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return sure / total, wilson(np.stack([right, total - right], axis=1))
