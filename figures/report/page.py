"""The page: the sections of all kinds in a template, with everything it needs inside."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from itertools import count, takewhile
from pathlib import Path
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined

from figures.remarks import all_remarks
from figures.report.any_kind import section_of
from figures.report.behind import images_key
from figures.report.cka import cka_panels, similarity_panels
from figures.report.comparison import comparison_panels
from figures.report.complexity import complexity_panels
from figures.report.compound import compound_panels
from figures.report.curves import over_time_panels, training_panels
from figures.report.diagnosis import diagnosis_panels
from figures.report.dropout import dropout_panels
from figures.report.elements import Chart, Finding, Gallery, KindSection, Panel
from figures.report.evaluation import evaluation_panels
from figures.report.examples import examples_panels
from figures.report.fidelity import fidelity_panels, inherited_panels
from figures.report.findings.advice import diagnosis_findings
from figures.report.findings.alike import (
    knowledge_comparison_findings,
    knowledge_findings,
    likeness_findings,
    map_likeness_findings,
)
from figures.report.findings.answers import evaluation_findings, fidelity_findings
from figures.report.findings.assembly import Chapter, Told, by_topic
from figures.report.findings.methods import comparison_findings, tuned_findings
from figures.report.findings.networks import network_findings
from figures.report.findings.rates import rates_findings
from figures.report.findings.shares import compound_findings, reliability_findings
from figures.report.findings.wording import enumerated
from figures.report.images import images_panels
from figures.report.knowledge import knowledge_panels
from figures.report.knowledge_comparison import knowledge_comparison_panels
from figures.report.map import map_panels
from figures.report.overview import origins, package_versions, tiles
from figures.report.reliability import reliability_panels
from figures.report.thumbnails import PAGE_BYTES, Album, albums, behind_spec
from figures.report.tuned_comparison import tuned_comparison_panels
from kdprobe.errors import ResultError
from kdprobe.kinds import installed
from kdprobe.results import Result, check_result, naming

_STEP = 20_000  # bytes by which pictures have too little room, if they turn out to have too little
_ELSEWHERE = ("comparison", "tuned-comparison")  # kinds whose differences are not in the table beside the result
_SHORT = 12  # letters of a cell of a table that never goes on in the next line, as numbers never do
_GROUP = "kdprobe.sections"  # entry points of other packages: kind -> a KindSection

# the page has this order
SECTIONS = {
    "tuned-comparison": KindSection("Methods, tuned alike", tuned_comparison_panels, tuned_findings),
    "comparison": KindSection("Methods", comparison_panels, comparison_findings),
    "fidelity": KindSection("Fidelity to the teacher", fidelity_panels, fidelity_findings),
    "inherited-errors": KindSection("Mistakes in common with the teacher", inherited_panels),
    "cka": KindSection("Representations: CKA", cka_panels, likeness_findings),
    "cka-over-time": KindSection("CKA over epochs", over_time_panels),
    "similarity": KindSection("Representations: other measures", similarity_panels, likeness_findings),
    "map": KindSection("Many networks", map_panels, map_likeness_findings),
    "knowledge": KindSection("General and specific knowledge", knowledge_panels, knowledge_findings),
    "knowledge-comparison": KindSection(
        "General knowledge by method", knowledge_comparison_panels, knowledge_comparison_findings
    ),
    "examples": KindSection("What one network alone sees", examples_panels),
    "dropout-sweep": KindSection("Dropout rates", dropout_panels, rates_findings),
    "images": KindSection("Image by image", images_panels),
    "evaluation": KindSection("Where it errs", evaluation_panels, evaluation_findings),
    "compound": KindSection("Compound expressions", compound_panels, compound_findings),
    "reliability": KindSection("How sure it is", reliability_panels, reliability_findings),
    "training": KindSection("Training", training_panels),
    "diagnosis": KindSection("What a run's loss is made of", diagnosis_panels, diagnosis_findings),
    "complexity": KindSection("Cost", complexity_panels),
}


def page(results: Sequence[tuple[Path, Result]], *, title: str) -> str:
    """A whole HTML document about results.

    Args:
        results: files and what they hold, at least one.
        title: the page's heading.

    Raises:
        ResultError: naming the file, if a result does not fit its kind.
    """
    for path, result in results:
        with naming(path):
            check_result(result)
    from plotly.offline import get_plotlyjs

    sections = list(_filled(results))
    shown = [figure for section in sections for _, _, figures in section.panels for figure in figures]
    charts = {key: chart for key, chart in shown if isinstance(chart, Chart)}
    of_all = [result for _, result in results]
    named = list(zip(differing_parts([path for path, _ in results]), of_all, strict=True))

    def rendered(held: dict[str, Album]) -> str:
        template = _templates().get_template("report.html")
        return template.render(
            title=title,
            findings=_told(sections, named),
            tiles=tiles(named),
            versions=package_versions(of_all),
            sections=sections,
            origins=origins(results),
            charts={key: _spec(chart, held) for key, chart in charts.items()},
            albums=held,
            kept={images_key(result) for result in of_all if result.kind == "images"},
            style=_read("report.css"),
            plotly=get_plotlyjs(),
            script=_read("report.js"),
        )

    bare = rendered({})
    room = PAGE_BYTES - _size(bare)
    while held := albums(of_all, list(charts.values()), room):
        text = rendered(held)
        if (too_much := _size(text) - PAGE_BYTES) <= 0:
            return text
        room -= too_much + _STEP
    return bare


def _size(text: str) -> int:
    return len(text.encode("utf-8", "backslashreplace"))


@dataclass(frozen=True)
class _Filled:
    """A section as the template takes it: panels and charts with their `id`, remarks with file names, and findings.

    Its `files` are those with all numbers of each result, by the result's short file name.
    """

    id: str
    heading: str
    panels: list[tuple[str, Panel, list[tuple[str, Chart | Gallery]]]]
    remarks: list[tuple[str, str]]
    findings: list[Finding]
    n_results: int
    files: dict[str, str]

    def places(self) -> dict[str, str]:
        """The id of the first panel or chart that shows each result, by the result's short file name."""
        found: dict[str, str] = {}
        for key, panel, figures in self.panels:
            for name, place in ((panel.of, key), *((figure.of, place) for place, figure in figures)):
                if name:
                    found.setdefault(name, place)
        return found

    def held_in(self, panel: Panel) -> str:
        """The files that have all numbers of a panel."""
        return self.files.get(panel.of) or enumerated(list(self.files.values()), 3)

    def behind(self, held: Mapping[str, Album], kept: Collection[str]) -> str:
        """Which of the images behind its charts can be seen; empty for charts with none behind them."""
        charts = [figure for _, _, figures in self.panels for _, figure in figures if isinstance(figure, Chart)]
        wanted = list(dict.fromkeys(chart.behind.of for chart in charts if chart.behind))
        if missing := [key for key in wanted if key not in held]:
            if set(missing) <= set(kept):
                return "The images behind these numbers are not in this page: it would be larger than 10 MB with them."
            some = "" if len(missing) == len(wanted) else " some of"
            return f"The images behind{some} these numbers are not in this page: `kdprobe images` keeps them for it."
        return " ".join(held[key].words for key in wanted)


def _filled(results: Sequence[tuple[Path, Result]]) -> Iterator[_Filled]:
    """The sections of the kinds that there are, kdprobe's own first."""
    numbers = count()
    kinds = {result.kind for _, result in results}
    for kind in [*(kind for kind in SECTIONS if kind in kinds), *sorted(kinds - SECTIONS.keys())]:
        of_kind = [(path, result) for path, result in results if result.kind == kind]
        names = differing_parts([path for path, _ in of_kind])
        named = [(name, result) for name, (_, result) in zip(names, of_kind, strict=True)]
        section = SECTIONS.get(kind) or installed(_GROUP, kind, ResultError) or section_of(kind)
        panels = section.panels(named)
        ending = ".npz" if kind in _ELSEWHERE else ".csv"
        files = {name: str(path.with_suffix(ending)) for name, (path, _) in zip(names, of_kind, strict=True)}
        id_ = kind if kind in SECTIONS else f"kind-{kind}"
        keyed = [
            (f"{id_}-{place}", panel, [(f"chart-{next(numbers)}", chart) for chart in panel.charts])
            for place, panel in enumerate(panels)
        ]
        yield _Filled(
            id_, section.heading, keyed, list(_remarks(named)), list(section.findings(named)), len(named), files
        )


def _told(sections: Sequence[_Filled], results: Sequence[tuple[str, Result]]) -> list[tuple[str, list[Told]]]:
    """All sentences by their topics; those about networks, which are behind results of any kind, come last."""
    of_networks = network_findings(results)
    of_kinds = [Chapter(one.id, one.heading, one.places(), one.findings, one.n_results) for one in sections]
    return by_topic([*of_kinds, Chapter("reproduce", "How to reproduce", {}, of_networks)])


def _remarks(named: Sequence[tuple[str, Result]]) -> Iterator[tuple[str, str]]:
    """Each remark once, behind the names of the results that it is about; without names where it is about all."""
    about: dict[str, list[str]] = {}
    for name, result in named:
        for text in all_remarks(result):
            about.setdefault(text, []).append(name)
    for text, names in about.items():
        yield "" if len(names) == len(named) else enumerated(names), text


def differing_parts(paths: Sequence[Path]) -> list[str]:
    """What tells files apart: their paths without the folders and file names that all share."""
    parts = [path.with_suffix("").parts for path in paths]
    if len(parts) == 1:
        return [parts[0][-1]]
    first = _shared(parts)
    last = _shared([rest[first:][::-1] for rest in parts])
    return ["/".join(rest[first : len(rest) - last]) or rest[-1] for rest in parts]


def _shared(parts: Sequence[Sequence[str]]) -> int:
    """How many parts at the start are the same everywhere."""
    return len(list(takewhile(lambda level: len(set(level)) == 1, zip(*parts, strict=False))))


def _spec(chart: Chart, held: Mapping[str, Album]) -> dict[str, Any]:
    """What the page's script draws."""
    spec: dict[str, Any] = {"layout": chart.layout, "titles": chart.titles, "ticks": chart.ticks, "data": chart.traces}
    album = held.get(chart.behind.of) if chart.behind else None
    if chart.behind and album:
        return spec | {"images": behind_spec(chart.behind, album)}
    return spec | {"data": [{key: value for key, value in trace.items() if key != "meta"} for trace in chart.traces]}


def _templates() -> Environment:
    """The templates; all texts are escaped where they meet markup."""
    found = Environment(
        loader=FunctionLoader(_read), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    found.filters["pieces"] = lambda text: re.split(r"(?<=[_/])", text)
    found.filters["quoted"] = lambda text: text.split("`")
    found.filters["wordy"] = lambda text: len(text) > _SHORT and re.search(r"[^\W\d_]{2}", text) is not None
    found.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    return found


def _read(name: str) -> str:
    return files("figures.report").joinpath(name).read_text(encoding="utf-8")
