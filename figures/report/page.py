"""The page: sections of panels in a template, with everything it needs inside."""

import json
from collections.abc import Callable, Sequence
from html import escape
from importlib.resources import files
from itertools import takewhile
from pathlib import Path
from string import Template
from typing import Any

from figures.report import (
    cka,
    comparison,
    complexity,
    compound,
    curves,
    dropout,
    evaluation,
    examples,
    knowledge,
    knowledge_comparison,
    overview,
    reliability,
)
from figures.report.chart import Chart, Gallery, Panel, Picture, Table, breakable
from figures.report.remarks import remarks_html
from kdprobe.results import Result

Results = Sequence[tuple[str, Result]]

# kind -> heading and what makes its panels; the page has this order
SECTIONS: dict[str, tuple[str, Callable[[Results], list[Panel]]]] = {
    "comparison": ("Methods", comparison.panels),
    "cka": ("Representations: CKA", cka.panels),
    "cka-over-time": ("CKA over epochs", curves.over_time_panels),
    "similarity": ("Representations: other measures", cka.similarity_panels),
    "knowledge": ("General and specific knowledge", knowledge.panels),
    "knowledge-comparison": ("General knowledge by method", knowledge_comparison.panels),
    "examples": ("What one network alone sees", examples.panels),
    "dropout-sweep": ("Dropout rates", dropout.panels),
    "evaluation": ("Where it errs", evaluation.panels),
    "compound": ("Compound expressions", compound.panels),
    "reliability": ("How sure it is", reliability.panels),
    "training": ("Training", curves.training_panels),
    "complexity": ("Cost", complexity.panels),
}


def page(results: Sequence[tuple[Path, Result]], *, title: str) -> str:
    """A whole HTML document about results; kinds without a section appear under how to reproduce.

    Args:
        results: files and what they hold, at least one.
        title: heading of the page.

    Raises:
        ResultError: naming the file, if a result lacks something.
    """
    from plotly.offline import get_plotlyjs

    charts: dict[str, Any] = {}
    sections = [("overview", "Overview", overview.overview([result for _, result in results]))]
    for kind, (heading, build) in SECTIONS.items():
        of_kind = [(path, result) for path, result in results if result.kind == kind]
        if of_kind:
            names = short_names([path for path, _ in of_kind])
            chosen = [(name, result) for name, (_, result) in zip(names, of_kind, strict=True)]
            body = "".join(_panel(panel, charts) for panel in build(chosen))
            sections.append((kind, heading, body + remarks_html(chosen)))
    sections.append(("reproduce", "How to reproduce", overview.reproduce(results)))
    return Template(_read("report.html")).substitute(
        title=escape(title),
        style=_read("report.css"),
        links="".join(f'<a href="#{key}">{escape(heading)}</a>' for key, heading, _ in sections),
        sections="".join(
            f'<section id="{key}"><h2>{escape(heading)}</h2>{body}</section>' for key, heading, body in sections
        ),
        charts=safe_json({key: spec for key, spec in charts.items() if spec}),
        plotly=get_plotlyjs(),
        script=_read("report.js"),
    )


def safe_json(value: Any) -> str:
    """JSON that can stand inside a script element whatever it holds."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def short_names(paths: Sequence[Path]) -> list[str]:
    """What tells files apart: their names without the folders and file names that all share."""
    parts = [path.with_suffix("").parts for path in paths]
    if len(parts) == 1:
        return [parts[0][-1]]
    first = _shared(parts)
    last = _shared([rest[first:][::-1] for rest in parts])
    return ["/".join(rest[first : len(rest) - last]) or rest[-1] for rest in parts]


def _shared(parts: Sequence[Sequence[str]]) -> int:
    """How many parts at the start are the same everywhere."""
    return len(list(takewhile(lambda level: len(set(level)) == 1, zip(*parts, strict=False))))


def _panel(panel: Panel, charts: dict[str, Any]) -> str:
    keys = [f"chart-{len(charts) + index}" for index in range(len(panel.charts))]
    charts.update({key: _spec(chart) for key, chart in zip(keys, panel.charts, strict=True)})  # None for a gallery
    heading = f"<h3>{escape(panel.heading)}</h3>" if panel.heading else ""
    note = f"<p>{escape(panel.note)}</p>" if panel.note else ""
    table = table_html(panel.table) if panel.table else ""
    body = _chosen(panel, keys) if panel.choose else _beside(panel, keys)
    return f'<div class="panel">{heading}{note}{table}{body}</div>'


def _beside(panel: Panel, keys: Sequence[str]) -> str:
    figures = "".join(_figure(key, chart) for key, chart in zip(keys, panel.charts, strict=True))
    return f'<div class="beside">{figures}</div>'


def _chosen(panel: Panel, keys: Sequence[str]) -> str:
    if len(keys) == 1:
        return _figure(keys[0], panel.charts[0], heading=True)
    options = "".join(
        f'<option value="{key}">{escape(chart.name)}</option>' for key, chart in zip(keys, panel.charts, strict=True)
    )
    figures = "".join(
        _figure(key, chart, hidden=index > 0) for index, (key, chart) in enumerate(zip(keys, panel.charts, strict=True))
    )
    label = f'<label class="choose"><span>{escape(panel.choose)}</span><select>{options}</select></label>'
    return f'<div class="chosen">{label}{figures}</div>'


def _figure(key: str, chart: Chart | Gallery, *, hidden: bool = False, heading: bool = False) -> str:
    name = f"<h4>{escape(chart.name)}</h4>" if heading else ""
    shown = _gallery(chart) if isinstance(chart, Gallery) else _drawn(chart)
    return (
        f'<figure id="{key}"{" hidden" if hidden else ""}>{name}{shown}'
        f"<figcaption>{escape(chart.caption)}</figcaption>"
        f"<details><summary>Numbers</summary>{table_html(chart.table)}</details></figure>"
    )


def _drawn(chart: Chart) -> str:
    return f'<div class="chart" role="img" aria-label="{escape(chart.alt)}"></div>'


def _gallery(gallery: Gallery) -> str:
    return "".join(
        f'<h5>{escape(heading)}</h5><ul class="gallery">{"".join(map(_picture, pictures))}</ul>'
        for heading, pictures in gallery.rows
    )


def _picture(picture: Picture) -> str:
    below = "".join(f"<span>{escape(line)}</span>" for line in picture.lines)
    return f'<li><img src="{escape(picture.source)}" alt="{escape(picture.alt)}">{below}</li>'


def _spec(chart: Chart | Gallery) -> dict[str, Any] | None:
    if isinstance(chart, Gallery):
        return None
    return {"data": chart.traces, "layout": chart.layout, "titles": chart.titles, "ticks": chart.ticks}


def table_html(table: Table) -> str:
    """A table that scrolls sideways where it is too wide; reachable by keyboard."""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in table.header)
    rows = "".join(
        f'<tr><th scope="row">{breakable(row[0])}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in row[1:])}</tr>'
        for row in table.rows
    )
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="table of {escape(", ".join(table.header[:3]))}">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _read(name: str) -> str:
    return files("figures.report").joinpath(name).read_text(encoding="utf-8")
