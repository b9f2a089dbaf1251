"""Why a loss does not fall: what stands out in a run, its terms and their gradients, and who is right about what."""

import numpy as np

from figures.pictures.diagnosis import term_shares
from figures.report.elements import Panel, Results, Table, one_below_the_other
from figures.words import number
from kdprobe.formats.counts import counted
from kdprobe.mean_interval import worded
from kdprobe.results import Result


def diagnosis_panels(results: Results) -> list[Panel]:
    """Tables for each result of kind "diagnosis"."""
    return one_below_the_other(results, _panel)


def _panel(heading: str, result: Result) -> Panel:
    facts = result.facts
    note = (
        f"{facts['student']} by {facts['method']} on {facts['data']}: {facts['course']}. Weights: {facts['weights']}. "
        f"Terms are means over {counted(len(result.arrays['loss']), 'minibatch')} of {facts['batch_size']} images."
    )
    return Panel(heading, note, [], tables=[_findings(result), _terms(result), _accuracies(result)])


def _findings(result: Result) -> Table:
    found = result.facts["findings"]
    rows = [[one["sentence"], one["advice"]] for one in found] or [["nothing stands out", ""]]
    return Table(
        ["what stands out", "what to try"], rows, "Thresholds are rules of thumb: they say where to look first."
    )


def _terms(result: Result) -> Table:
    shares, arrays = term_shares(result), result.arrays
    columns = {
        "weighted": arrays["loss"].mean(0),
        "share of the loss in %": 100 * shares["loss"],
        "share of the gradient in %": 100 * shares["gradient"],
        f"cosine with {result.facts['task'] or 'the task'}": arrays["cosine"],
    }
    digits = (4, 1, 1, 2)
    rows = [
        [name, *(number(float(values[row]), places) for values, places in zip(columns.values(), digits, strict=True))]
        for row, name in enumerate(result.facts["terms"])
    ]
    return Table(["term", *columns], rows)


def _accuracies(result: Result) -> Table:
    facts = result.facts
    rows = [
        [
            view,
            *(
                "-" if np.isnan(ends[0]) else worded(ends.tolist(), scale=100)
                for ends in result.arrays["accuracy"][:, place]
            ),
        ]
        for place, view in enumerate(facts["views"])
    ]
    note = "Accuracy in %, with Wilson's 95 % interval."
    return Table(["shown", *facts["networks"]], rows, note)
