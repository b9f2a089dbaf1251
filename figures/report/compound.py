"""How well networks that know the basic emotions recognise both halves of compound ones."""

from figures.pictures.compound import READING_LABELS
from figures.report.elements import Chart, Panel, Results, one_at_a_time
from figures.report.intervals import interval_chart
from figures.words import intervals
from kdprobe.results import Result


def compound_panels(results: Results) -> list[Panel]:
    """One panel for all results of kind "compound"."""
    note = (
        "Acc-both: the two most likely classes are the pair. Acc-single: the most likely class is one of the pair. "
        "Acc-single-top2: one of the two most likely classes is."
    )
    return one_at_a_time(results, _chart, choose="Result", note=note)


def _chart(name: str, result: Result) -> Chart:
    facts = result.facts
    shares = {label: result.arrays[reading] for reading, label in READING_LABELS.items()}
    return interval_chart(name, facts["names"], shares, f"On {facts['data']}; {intervals(facts)}.")
