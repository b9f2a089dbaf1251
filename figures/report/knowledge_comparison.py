"""What is general in students of several methods, at equal layers."""

from figures.report.elements import Chart, Panel, Results, one_below_the_other
from figures.report.intervals import interval_table, interval_words
from figures.report.knowledge import PAIR, SIDES, bars, bars_layout, layer_pairs
from figures.words import intervals, lower_bounds
from kdprobe.results import Result


def knowledge_comparison_panels(results: Results) -> list[Panel]:
    """For each result two charts side by side: what is general in the teacher, and what is general in the students."""
    return one_below_the_other(results, _panel)


def _panel(heading: str, result: Result) -> Panel:
    charts = [_chart(result, who) for who in SIDES]
    facts = result.facts
    note = (
        f"Compared with {facts['teacher']} on {facts['data']}; {intervals(facts)}. Behind ≥ a share is a lower bound."
    )
    return Panel(heading, note, charts)


def _chart(result: Result, who: str) -> Chart:
    percent = 100 * result.arrays[f"{who}_general"]
    names = result.facts["names"]
    pairs, students, lower = layer_pairs(result), list(percent), lower_bounds(result, who)
    share = f"general share of the {who}'s variance in %"
    return Chart(
        share,
        f"Bars of the {share} by pair of layers. {interval_words(pairs, names, students, lower)}.",
        f"The {share}.",
        [
            bars(name, pairs, student, index, lower[index])
            for index, (name, student) in enumerate(zip(names, students, strict=True))
        ],
        bars_layout(110 + (24 + 14 * len(names)) * len(pairs), students, lower),
        {"xaxis": f"general in {who}, in %"},
        {"yaxis": pairs},
        interval_table([PAIR, *names], pairs, students, lower),
    )
