"""Grids of dropout rates with mean, interval and seeds under the pointer."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from figures.pictures.dropout import answers, best_cell, summarise, worded_cells
from figures.report.elements import Chart, Panel, Results, Table, one_at_a_time
from figures.report.traces import SERIES, heatmap, hover
from kdprobe.results import Result


def dropout_panels(results: Results) -> list[Panel]:
    """One panel for all results of kind "dropout-sweep"."""
    note = "Accuracy of the student; the frame marks the highest mean."
    return one_at_a_time(results, _chart, choose="Grid", note=note)


def _chart(name: str, result: Result) -> Chart:
    accuracy, facts = 100 * result.arrays["accuracy"], result.facts
    rows = [f"{rate:g}" for rate in result.facts["rates_teacher"]]
    columns = [f"{rate:g}" for rate in result.facts["rates_student"]]
    ends = summarise(result)
    row, column = best_cell(ends[..., 0])
    texts = worded_cells(ends)
    best = f"highest mean {texts[row][column]} at teacher {rows[row]}, student {columns[column]}"
    kind, n_seeds = facts["kind"], accuracy.shape[2]
    seeds = f"{n_seeds} seeds per cell, 95 % t-intervals" if n_seeds > 1 else "one seed per cell, no intervals"
    frame = {"type": "rect", "x0": column - 0.5, "x1": column + 0.5, "y0": row - 0.5, "y1": row + 0.5}
    return Chart(
        f"{kind} dropout ({name})",
        f"Heatmap of accuracy over {len(rows)} teacher and {len(columns)} student {kind} dropout rates; {best}.",
        f"On {facts['data']}, {seeds}; {'; '.join([best, *answers(result)])}.",
        [_heat(accuracy, ends, (rows, columns))],
        {
            "height": max(300, 52 * len(rows) + 110),
            "width": max(480, 84 * len(columns) + 210),
            "shapes": [{**frame, "line": {"color": SERIES[1], "width": 3}}],
        },
        {"xaxis": f"{kind} dropout rate, student", "yaxis": f"{kind} dropout rate, teacher"},
        {"xaxis": columns, "yaxis": rows},
        Table(["teacher rate", *columns], [[one, *line] for one, line in zip(rows, texts, strict=True)][::-1]),
    )


def _heat(
    accuracy: NDArray[np.float64], ends: NDArray[np.float64], rates: tuple[list[str], list[str]]
) -> dict[str, Any]:
    texts, written = worded_cells(ends), worded_cells(ends, "<br>")
    pointed = [
        [
            hover(f"teacher {one}, student {other}", texts[row][column] or "not trained", _seeds(accuracy[row, column]))
            for column, other in enumerate(rates[1])
        ]
        for row, one in enumerate(rates[0])
    ]
    return heatmap(100 * ends[..., 0], pointed, "accuracy in %", ends=None, texts=written, digits=3) | {
        "hoverongaps": False
    }


def _seeds(values: NDArray[np.float64]) -> str:
    present = values[~np.isnan(values)]
    return "seeds: " + ", ".join(f"{value:.2f}" for value in present) if present.size else ""
