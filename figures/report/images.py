"""Test images one by one: where each network puts them, and which of them student and teacher get right."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from figures.report.behind import (
    AGREEMENT,
    Behind,
    ImageSet,
    agreement_sets,
    class_sets,
    images_key,
    numbered,
    standing_for,
)
from figures.report.elements import Chart, Panel, Results, Table
from figures.report.traces import HOVER, SERIES, THEMED_MUTED, hover, numbers
from figures.words import percentage
from kdprobe.results import Result

_SYMBOLS = ("circle", "square", "triangle-up", "diamond", "cross")
_POINTS = 2000  # of a scatter, at most
_NAMED = 35  # classes that have a colour and a symbol of their own
_COLOURS = (SERIES[0], SERIES[1], SERIES[2], SERIES[3], THEMED_MUTED)  # of the sets of agreement


def images_panels(results: Results) -> list[Panel]:
    """For each result of kind "images" what is alike in the networks' answers, and the places of the images."""
    panels = []
    for name, result in results:
        heading = name if len(results) > 1 else ""
        arrays, students = result.arrays, np.flatnonzero([role == "student" for role in result.facts["roles"]])
        note = (
            "Where each network puts the same images: a point is chosen in all of them at once. Near points have "
            "pooled features that are alike along these two axes, and may differ along all others."
        )
        sets = agreement_chart(
            [result.facts["names"][place] for place in students],
            (arrays["targets"], arrays["predictions"][0], arrays["predictions"][students]),
            result.facts["classes"],
            images_key(result),
        )
        panels.append(Panel(heading, AGREEMENT_NOTE, [sets], of=name))
        charts = [_scatter(result, number) for number in range(len(result.facts["names"]))]
        panels.append(Panel("Places of the images", note, charts))
    return panels


AGREEMENT_NOTE = "Which images student and teacher get right."


def agreement_chart(
    names: Sequence[str],
    answers: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]],
    classes: Sequence[str],
    key: str,
) -> Chart:
    """Bars of the sets of images that each student and its teacher have.

    Args:
        names: of m students.
        answers: true classes [n], the teacher's answers [n] and the students' [m, n].
        classes: names.
        key: of the test images.
    """
    found = agreement_sets(*answers)
    named = [
        [ImageSet(name, f"{name}: {label}", images) for name, images in zip(names, row, strict=True)]
        for label, row in zip(AGREEMENT, found, strict=True)
    ]
    sets, places = numbered(named)
    shares = [[100 * len(one.images) / len(answers[0]) for one in row] for row in named]
    traces = [
        standing_for(
            {
                "type": "bar",
                "orientation": "h",
                "name": label,
                "showlegend": True,
                "x": [round(share, 3) for share in shares[row]],
                "y": list(range(len(names))),
                "marker": {"color": _COLOURS[row]},
                "text": [
                    hover(one.label, f"{len(one.images)} images, {share:.1f} %")
                    for one, share in zip(named[row], shares[row], strict=True)
                ],
                "textposition": "none",
                "hovertemplate": HOVER,
            },
            places[row],
        )
        for row, label in enumerate(AGREEMENT)
    ]
    rows = [[name, *(str(len(row[place].images)) for row in named)] for place, name in enumerate(names)]
    each = "; ".join(
        f"{row[0]}: " + ", ".join(f"{n} {label}" for n, label in zip(row[1:], AGREEMENT, strict=True)) for row in rows
    )
    layout = {"barmode": "stack", "height": 150 + 34 * len(names), "xaxis": {"range": [0, 100]}}
    return Chart(
        "Right and wrong together",
        f"Stacked bars of sets of images. {each}.",
        f"{len(answers[0])} images.",
        traces,
        layout | {"yaxis": {"autorange": "reversed"}, "legend": {"traceorder": "normal"}},
        {"xaxis": "images in %"},
        {"yaxis": list(names)},
        Table(["student", *AGREEMENT], rows),
        behind=Behind(key, [*sets, *class_sets(answers[0], classes)]),
    )


def _scatter(result: Result, number: int) -> Chart:
    """The places of the images of which pictures were kept, in one network; of some of them where they are many."""
    facts, arrays = result.facts, result.arrays
    name, role, classes = facts["names"][number], facts["roles"][number], facts["classes"]
    shown = arrays["shown"].astype(np.int64)
    if len(shown) > _POINTS:
        shown = np.sort(np.random.default_rng(facts["seed"]).choice(shown, _POINTS, replace=False))
    right = arrays["predictions"][number] == arrays["targets"]
    by_class = len(classes) <= _NAMED
    groups = list(classes) if by_class else ["right", "wrong"]
    member = arrays["targets"][shown] if by_class else (~right[shown]).astype(int)
    traces = [_points(result, number, label, shown[member == place], place) for place, label in enumerate(groups)]
    if not by_class:
        traces.sort(key=lambda trace: -len(trace["x"]))  # the rarer answers on top
    pca = facts["projection"] == "pca"
    axes = [f"{100 * share:.0f} % of the variance" for share in arrays["shares"][number]] if pca else ["", ""]
    some = "" if len(shown) == facts["n_images"] else f"{len(shown):,} drawn at random of "
    how = "two directions of the largest variance" if pca else "UMAP"
    accuracy = percentage(float(right.mean()))
    return Chart(
        f"{role} {name}",
        f"Scatter of {len(shown)} images by the pooled features of {role} {name}; accuracy {accuracy}.",
        f"{role[:1].upper()}{role[1:]} {name}, accuracy {accuracy}: {some}{facts['n_images']:,} images of "
        f"{facts['data']}, {how}.",
        [trace for trace in traces if trace["x"]],
        {"height": 420 + 20 * (len(groups) // 6), "hovermode": "closest"},
        dict(zip(("xaxis", "yaxis"), axes, strict=True)),
        {},
        None,
        behind=Behind(images_key(result), class_sets(arrays["targets"], classes) if number == 0 else [], linked=True),
    )


def _points(result: Result, number: int, label: str, images: NDArray[np.int64], place: int) -> dict[str, Any]:
    """One trace: images of a class, or those answered rightly or wrongly."""
    arrays, classes = result.arrays, result.facts["classes"]
    places = arrays["coordinates"][number][images]
    texts = [
        hover(
            f"image {image} of class {classes[arrays['targets'][image]]}",
            f"taken for {classes[arrays['predictions'][number, image]]}",
        )
        for image in images.tolist()
    ]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": hover(label),
        "showlegend": True,
        "x": numbers(places[:, 0], 3),
        "y": numbers(places[:, 1], 3),
        "text": texts,
        "hovertemplate": HOVER,
        "marker": {
            "size": 6,
            "opacity": 0.75,
            "color": SERIES[place % len(SERIES)],
            "symbol": _SYMBOLS[place // len(SERIES) % len(_SYMBOLS)],
        },
        "meta": {"images": images.tolist()},
    }
