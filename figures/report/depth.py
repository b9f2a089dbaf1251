"""The most alike teacher layer of each student layer, shallow to deep, beside the best that chance gives."""

import numpy as np

from figures.report.elements import Chart, Table
from figures.report.traces import HOVER, SERIES, THEMED_MUTED, hover, numbers
from figures.words import number
from kdprobe.results import Result


def over_depth(name: str, result: Result) -> Chart:
    """A chart of a calibrated result of kind "cka" or "similarity"."""
    facts, arrays, matrix = result.facts, result.arrays, result.arrays["matrix"]
    measure, columns = str(facts.get("measure", "CKA")), facts["student_layers"]
    best = np.max(np.where(np.isnan(matrix), -np.inf, matrix), axis=0)
    best = np.where(np.isinf(best), np.nan, best)
    rows = [
        ["-" if np.isnan(value) else facts["teacher_layers"][int(np.nanargmax(matrix[:, place]))]]
        for place, value in enumerate(best)
    ]
    kept = [best, *(arrays[f"student_{key}"] for key in ("threshold", "calibrated", "p_adjusted"))]
    table = [
        [column, *teacher, *(number(float(values[place]), 3) for values in kept)]
        for place, (column, teacher) in enumerate(zip(columns, rows, strict=True))
    ]
    best_of = f"calibrated as best of {len(matrix)}" if len(matrix) > 1 else "calibrated"
    heads = [f"largest {measure}", "by chance", best_of, "p"]
    pointed = [
        hover(f"student {row[0]}", f"teacher {row[1]}", *map(" ".join, zip(heads, row[2:], strict=True)))
        for row in table
    ]
    common = {"type": "scatter", "x": list(range(len(columns))), "text": pointed, "hovertemplate": HOVER}
    looks = [
        ("most alike teacher layer", "lines+markers", best, {"color": SERIES[0], "width": 2}),
        ("largest by chance", "lines", kept[1], {"color": THEMED_MUTED, "width": 1.5, "dash": "dash"}),
    ]
    traces = [
        common | {"name": title, "mode": mode, "y": numbers(values), "line": line, "showlegend": True}
        for title, mode, values, line in looks
    ]
    beyond = f"{int((kept[3] <= facts['calibration']['alpha']).sum())} of {len(columns)} student layers"
    return Chart(
        name,
        f"Largest {measure} over the teacher's layers for each layer of student {facts['student']}; {beyond} exceed "
        "what chance gives.",
        f"The largest of as many values is compared with the largest under the null; {beyond} exceed it.",
        traces,
        {"height": 360, "width": max(480, 64 * len(columns) + 230), "xaxis": {"showgrid": False}},
        {"xaxis": f"student: {facts['student']}, layer", "yaxis": f"largest {measure}"},
        {"xaxis": columns},
        Table(["student layer", "teacher layer", *heads], table),
    )
