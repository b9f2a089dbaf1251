"""How well networks of the basic emotions see both halves of compound ones."""

from collections.abc import Sequence

from figures.checks import naming, require, require_length
from figures.pictures.compound import READINGS
from figures.report.chart import Chart, Panel
from figures.report.intervals import interval_chart
from kdprobe.results import Result


def panels(results: Sequence[tuple[str, Result]]) -> list[Panel]:
    """One panel for all results.

    Args:
        results: short file names and results of kind "compound".
    """
    charts = []
    for name, result in results:
        with naming(name):
            charts.append(_chart(name, result))
    note = "Both: the two best classes are the pair. Single: the best is one of it. Top 2: one of the two best is."
    return [Panel("", note, charts, choose="Result")]


def _chart(name: str, result: Result) -> Chart:
    require(result, dict.fromkeys(READINGS, 2), ("names", "data", "confidence"))
    facts = result.facts
    models = require_length(result, "names", len(result.arrays["both"]), "models")
    shares = {label: result.arrays[reading] for reading, label in READINGS.items()}
    return interval_chart(name, models, shares, f"On {facts['data']}; {100 * facts['confidence']:g} % intervals.")
