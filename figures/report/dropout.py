"""Grids of dropout rates with mean, interval and seeds under the pointer."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from figures.checks import naming, require, require_length
from figures.pictures.dropout import answers, best_cell, summarise
from figures.report.chart import SERIES, Chart, Panel, Table, hover, numbers, scale
from kdprobe.results import Result


def panels(results: Sequence[tuple[str, Result]]) -> list[Panel]:
    """One panel for all grids.

    Args:
        results: short file names and results of kind "dropout-sweep".
    """
    charts = []
    for name, result in results:
        with naming(name):
            charts.append(_chart(name, result))
    return [Panel("", "Accuracy of the student; the frame marks the highest mean.", charts, choose="Grid")]


def _chart(name: str, result: Result) -> Chart:
    require(result, {"accuracy": 3}, ("kind", "rates_teacher", "rates_student", "data"))
    accuracy, facts = 100 * result.arrays["accuracy"], result.facts
    rows = [f"{rate:g}" for rate in require_length(result, "rates_teacher", accuracy.shape[0], "rows")]
    columns = [f"{rate:g}" for rate in require_length(result, "rates_student", accuracy.shape[1], "columns")]
    means, halves = (100 * values for values in summarise(result))
    row, column = best_cell(means)
    texts = [[_worded(*cell) for cell in zip(*pair, strict=True)] for pair in zip(means, halves, strict=True)]
    told = [
        [
            hover(f"teacher {one}, student {other}", texts[i][j] or "not trained", _seeds(accuracy[i, j]))
            for j, other in enumerate(columns)
        ]
        for i, one in enumerate(rows)
    ]
    heat = {
        "type": "heatmap",
        "z": numbers(means, 3),
        "colorscale": scale(0.0, 1.0),
        "text": [[text.replace(" ± ", "<br>± ") for text in line] for line in texts],
        "texttemplate": "%{text}",
        "customdata": told,
        "hovertemplate": "%{customdata}<extra></extra>",
        "hoverongaps": False,
        "xgap": 1,
        "ygap": 1,
        "colorbar": {"title": {"text": "accuracy in %", "side": "right"}, "thickness": 12, "outlinewidth": 0},
    }
    frame = {"type": "rect", "x0": column - 0.5, "x1": column + 0.5, "y0": row - 0.5, "y1": row + 0.5}
    layout = {
        "height": max(300, 52 * len(rows) + 110),
        "width": max(480, 84 * len(columns) + 210),
        "shapes": [{**frame, "line": {"color": SERIES[1], "width": 3}}],
    }
    best = f"highest mean {texts[row][column]} at teacher {rows[row]}, student {columns[column]}"
    kind, n_seeds = facts["kind"], accuracy.shape[2]
    seeds = f"{n_seeds} seeds per cell, 95 % t-intervals" if n_seeds > 1 else "one seed per cell, no intervals"
    return Chart(
        f"{kind} dropout ({name})",
        f"Heatmap of accuracy over {len(rows)} teacher and {len(columns)} student {kind} dropout rates; {best}.",
        f"On {facts['data']}, {seeds}; {'; '.join([best, *answers(result)])}.",
        [heat],
        layout,
        {"xaxis": f"{kind} dropout rate, student", "yaxis": f"{kind} dropout rate, teacher"},
        {"xaxis": columns, "yaxis": rows},
        Table(["teacher rate", *columns], [[one, *line] for one, line in zip(rows, texts, strict=True)][::-1]),
    )


def _worded(mean: float, half: float) -> str:
    if np.isnan(mean):
        return ""
    return f"{mean:.2f}" if np.isnan(half) else f"{mean:.2f} ± {half:.2f}"


def _seeds(values: NDArray[np.float64]) -> str:
    seen = values[~np.isnan(values)]
    return "seeds: " + ", ".join(f"{value:.2f}" for value in seen) if seen.size else ""
