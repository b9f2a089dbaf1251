"""What a section of the report is made of: panels that hold charts, galleries and tables.

Texts are plain here, whatever they say. They are escaped where they meet markup: by the page's templates for HTML, by
`figures.report.traces.hover` for plotly.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from figures.report.behind import Behind
from kdprobe.results import Result

Results = Sequence[tuple[str, Result]]  # short file names, and results of one kind


@dataclass(frozen=True)
class Table:
    """A header and rows of texts, and a note above them; empty for none.

    Example:
        >>> from figures.report import Table
        >>> Table(["poem", "purity"], [["first", "0.50"]]).note
        ''
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


@dataclass(frozen=True)
class Chart:
    """One interactive chart.

    Attributes:
        name: what tells it from its neighbours, in a selector or as its heading.
        alt: what it shows, in words.
        caption: how it was measured.
        traces: plotly traces.
        layout: plotly layout, without the look that all charts share.
        titles: axis titles (`xaxis`, `yaxis`); the page shortens them to the room there is.
        ticks: names at 0, 1, ... of an axis (`xaxis`, `yaxis`); the page thins them out.
        table: the same numbers; None where they are places of images, of which `kdprobe table` writes one.
        of: the short file name of the result that it shows; empty for none of its own.
        behind: the images that its parts stand for, if they are known.

    Example:
        >>> from figures.report import Chart
        >>> bars = [{"type": "bar", "x": [0, 1], "y": [0.5, 0.7]}]
        >>> ticks = {"xaxis": ["first", "second"]}
        >>> chart = Chart("purity", "Purity of two poems", "By ear.", bars, {}, {"yaxis": "purity"}, ticks, None)
        >>> len(chart.traces[0]["y"]) == len(chart.ticks["xaxis"])
        True
    """

    name: str
    alt: str
    caption: str
    traces: list[dict[str, Any]]
    layout: dict[str, Any]
    titles: dict[str, str]
    ticks: dict[str, list[str]]
    table: Table | None
    of: str = ""
    behind: Behind | None = None


@dataclass(frozen=True)
class Picture:
    """One image in a gallery.

    Attributes:
        source: a `data:` address.
        alt: what it shows, in words.
        lines: texts below it.

    Example:
        >>> from figures.report import Picture
        >>> Picture("data:image/png;base64,", "a handwritten three", ["3, taken for 8"]).lines
        ['3, taken for 8']
    """

    source: str
    alt: str
    lines: Sequence[str]


@dataclass(frozen=True)
class Gallery:
    """Rows of images.

    Attributes:
        name: what tells it from its neighbours, in a selector or as its heading.
        caption: how the images were chosen.
        rows: a heading (which may be empty) with its images, for each row.
        table: the same numbers, if there are any.
        large: whether each image is as wide as the page; otherwise they are thumbnails.
        of: as in a chart.

    Example:
        >>> from figures.report import Gallery, Picture
        >>> picture = Picture("data:image/png;base64,", "a handwritten three", ["3, taken for 8"])
        >>> [heading for heading, _ in Gallery("mistakes", "The surest ones.", [("digit 3", [picture])], None).rows]
        ['digit 3']
    """

    name: str
    caption: str
    rows: Sequence[tuple[str, Sequence[Picture]]]
    table: Table | None
    large: bool = False
    of: str = ""


@dataclass(frozen=True)
class Panel:
    """Charts or galleries that belong together: side by side, or one at a time with a selector.

    Attributes:
        heading: above them; empty for none.
        note: a sentence below the heading; empty for none.
        charts: what is shown; may be empty if there are tables.
        choose: the selector's label ("Pair"); empty to show the charts side by side.
        tables: always open, above the charts.
        findings: what was found, a line each, below the note.
        of: as in a chart.

    Example:
        >>> from figures.report import Panel, Table
        >>> panel = Panel("Purity", "By ear.", [], tables=[Table(["poem"], [["first"]])])
        >>> panel.tables[0].rows
        [['first']]
    """

    heading: str
    note: str
    charts: Sequence[Chart | Gallery]
    choose: str = ""
    tables: Sequence[Table] = ()
    findings: Sequence[str] = ()
    of: str = ""


#: what sentences are about, in the order of the page
DIFFER, ALIKE, CARE, NEXT = TOPICS = (
    "Which methods differ",
    "Where teacher and students are alike",
    "What to take with care",
    "What to do next",
)


@dataclass(frozen=True)
class Finding:
    """A sentence that a result's numbers bear.

    Attributes:
        topic: one of `TOPICS`.
        text: the sentence.
        of: the short file name of the result; empty where it is about all of its kind.
        how: how that was tested.
        asks: what it asks for, in the same words as others that ask for it too; empty if it may be said of each result.
    """

    topic: str
    text: str
    of: str = ""
    how: str = ""
    asks: str = ""


def no_findings(_results: Results) -> Iterable[Finding]:
    """Nothing that a test bears."""
    return ()


@dataclass(frozen=True)
class KindSection:
    """How the report shows all results of one kind.

    Attributes:
        heading: the section's title.
        panels: makes its panels from the results and their short file names.
        findings: makes the sentences that these results add to the first ones of the page.

    Example:
        >>> from figures.report import KindSection, Panel, Table
        >>> def panels(results):
        ...     return [Panel("", "", [], tables=[Table(["poem"], [[name] for name, _ in results])])]
        >>> section = KindSection("Rhymes", panels)
        >>> section.panels([("sonnet", None)])[0].tables[0].rows, list(section.findings([]))
        ([['sonnet']], [])
    """

    heading: str
    panels: Callable[[Results], list[Panel]]
    findings: Callable[[Results], Iterable[Finding]] = no_findings


def each_network(results: Results) -> Iterator[tuple[str, Result, int]]:
    """What to call each network of all results, its result, and its place there; two of one name have their file's."""
    names = Counter(name for _, result in results for name in result.facts["names"])
    for file, result in results:
        for place, name in enumerate(result.facts["names"]):
            yield (name if names[name] == 1 else f"{name} ({file})"), result, place


def one_at_a_time(
    results: Results, build: Callable[[str, Result], Chart | Gallery], *, choose: str, note: str
) -> list[Panel]:
    """One panel with a chart for each result and a selector.

    Args:
        results: what is shown.
        build: makes a chart from a short file name and a result.
        choose: the selector's label.
        note: text above the charts.
    """
    return [Panel("", note, [replace(build(name, result), of=name) for name, result in results], choose=choose)]


def one_below_the_other(results: Results, build: Callable[[str, Result], Panel]) -> list[Panel]:
    """A panel for each result, under its file's name if there are several.

    Args:
        results: what is shown.
        build: makes a panel from its heading and a result.
    """
    return [replace(build(name if len(results) > 1 else "", result), of=name) for name, result in results]
