"""Whether students answer as their teacher does: methods and controls, tests of their differences, and images."""

from collections.abc import Iterator

import numpy as np

from figures.pictures.inherited_errors import inherited_shares
from figures.report.behind import images_key
from figures.report.elements import Chart, Gallery, Panel, Picture, Results, Table, one_below_the_other
from figures.report.examples import image_address
from figures.report.images import AGREEMENT_NOTE, agreement_chart
from figures.report.traces import HOVER, SERIES, THEMED_MUTED, error_bars, hover, numbers
from figures.words import inherited_heading, intervals, percentage
from kdprobe.mean_interval import worded_p_value
from kdprobe.results import Result

_HOW_TO_READ = (
    "Accurate networks agree often, whoever taught them: what counts is how far students are from controls, which did "
    "not learn from this teacher, and above all where it is wrong."
)


def fidelity_panels(results: Results) -> list[Panel]:
    """For each result of kind "fidelity" what the tests say, the numbers of all methods, and a chart per quantity."""
    return [*one_below_the_other(results, _panel), *one_below_the_other(results, _sets)]


def inherited_panels(results: Results) -> list[Panel]:
    """The images of all results of kind "inherited-errors", one method at a time."""
    galleries = [
        _gallery(f"{group} ({name})" if len(results) > 1 else group, result, number)
        for name, result in results
        for number, group in enumerate(result.facts["groups"])
        if (result.arrays["group"] == number).any()
    ]
    note = (
        "Test images that the teacher gets wrong, and on which students give the same wrong answer more often than "
        "controls, which did not learn from it. Whether they learnt this from the teacher is for the tests to say: who "
        "errs more has more mistakes in common with anyone. Below each: its class, that answer, and the shares of "
        "students | of controls that give it."
    )
    return [Panel("", note, galleries, choose="Method")]


def _panel(heading: str, result: Result) -> Panel:
    facts = result.facts
    accuracy = percentage(result.arrays["teacher_accuracy"][0])
    note = (
        f"Compared with {facts['teacher']} (accuracy {accuracy}) on {facts['n_images']} images of {facts['data']}; "
        f"{intervals(facts)}. {_HOW_TO_READ}"
    )
    charts = [_chart(result, number) for number in range(len(facts["quantities"]))]
    tables = [_means(result), *([_tests(result)] if facts["pairs"] else [])]
    return Panel(heading, note, charts, choose="Quantity", tables=tables)


def _sets(heading: str, result: Result) -> Panel:
    """Which images each network and the teacher get right."""
    arrays, facts = result.arrays, result.facts
    answers = arrays["targets"], arrays["teacher_predictions"], arrays["predictions"]
    chart = agreement_chart(facts["names"], answers, facts["classes"], images_key(result))
    return Panel(heading or "Right and wrong together", AGREEMENT_NOTE, [chart])


def _worded(result: Result, number: int, ends: np.ndarray) -> str:
    """A number with its interval."""
    scale = float(result.facts["scales"][number])
    value, low, high = scale * ends
    digits = 1 if scale > 1 else 3
    if np.isnan(value):
        return "-"
    return f"{value:z.{digits}f}" + ("" if np.isnan(low) else f" [{low:z.{digits}f}, {high:z.{digits}f}]")


def _label(result: Result, number: int) -> str:
    facts = result.facts
    return f"{facts['labels'][number]}{' in %' if facts['scales'][number] > 1 else ''}"


def _means(result: Result) -> Table:
    """A row for each method, a column for each quantity."""
    facts, quantities = result.facts, range(len(result.facts["quantities"]))
    rows = [
        [
            name if role == "student" else f"{name} (control)",
            *(_worded(result, each, ends[each]) for each in quantities),
        ]
        for name, role, ends in zip(facts["groups"], facts["group_roles"], result.arrays["means"], strict=True)
    ]
    return Table(["", *(_label(result, each) for each in quantities)], rows)


def _tests(result: Result) -> Table:
    """A row for each quantity and pair of methods."""
    facts, arrays = result.facts, result.arrays
    rows = [
        [
            _label(result, number),
            f"{pair['one']} - {pair['other']}",
            f"{pair['n']} {pair['by']}s",
            _signed(_worded(result, number, arrays["differences"][place, number])),
            "-" if np.isnan(arrays["adjusted"][place, number]) else worded_p_value(arrays["adjusted"][place, number]),
        ]
        for number in range(len(facts["quantities"]))
        for place, pair in enumerate(facts["pairs"])
    ]
    note = f"How methods differ: {facts['tests']}."
    return Table(["", "methods", "tested by", "difference", "p (Holm)"], rows, note=note)


def _signed(words: str) -> str:
    return words if words.startswith("-") else f"+{words}"


def _chart(result: Result, number: int) -> Chart:
    facts, label = result.facts, _label(result, number)
    rows = list(enumerate(zip(facts["groups"], facts["group_roles"], strict=True)))
    words = [_worded(result, number, result.arrays["means"][row, number]) for row, _ in rows]
    traces = []
    for role, colour in (("student", SERIES[0]), ("control", THEMED_MUTED)):
        places = [row for row, (_, own) in rows if own == role and words[row] != "-"]
        if not places:
            continue
        shown = facts["scales"][number] * result.arrays["means"][places, number]
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": f"{role}s",
                "showlegend": True,
                "x": numbers(shown[:, 0], 4),
                "y": places,
                "error_x": error_bars(shown, colour, 2),
                "marker": {"size": 9, "symbol": "diamond", "color": colour},
                "text": [hover(facts["groups"][row], f"{label} {words[row]}") for row in places],
                "hovertemplate": HOVER,
            }
        )
    each = "; ".join(f"{name} {text}" for (_, (name, _)), text in zip(rows, words, strict=True))
    return Chart(
        facts["labels"][number],
        f"{label} of methods: {each}.",
        f"{label} in nats, at temperature {facts['temperature']:g}."
        if facts["quantities"][number] == "jensen_shannon"
        else "",
        traces,
        {"height": 120 + 34 * len(rows), "yaxis": {"range": [len(rows) - 0.5, -0.5]}},
        {"xaxis": label},
        {"yaxis": list(facts["groups"])},
        Table(["network", label], list(_of_networks(result, number))),
    )


def _of_networks(result: Result, number: int) -> Iterator[list[str]]:
    for name, ends in zip(result.facts["names"], result.arrays["values"][:, number], strict=True):
        yield [name, _worded(result, number, ends)]


def _gallery(name: str, result: Result, group: int) -> Gallery:
    arrays, classes = result.arrays, result.facts["classes"]
    pictures, rows = [], []
    for place in np.flatnonzero(arrays["group"] == group):
        true, answer = (str(classes[int(arrays[key][place])]) for key in ("labels", "answers"))
        shares, index = inherited_shares(result, int(place)), str(int(arrays["index"][place]))
        alt = f"Test image {index} of class {true}, taken for {answer} by the teacher and by students: {shares}."
        pictures.append(Picture(image_address(arrays["images"][place]), alt, [true, f"taken for {answer}", shares]))
        rows.append([index, true, answer, *shares.split(" | "), f"{arrays['confidence'][place]:.2f}"])
    header = ["image", "class", "answer", "students", "controls", "students' probability"]
    return Gallery(name, inherited_heading(result, group) + ".", [("", pictures)], Table(header, rows))
