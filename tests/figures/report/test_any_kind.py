"""What other packages bring for kinds of their own: a picture, a section, or nothing but the numbers."""

import html
import re
import textwrap
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

import figures
import figures.report
from figures.report import KindSection, Panel, Table
from kdprobe.errors import ResultError
from kdprobe.kinds import Kind, List, Text, Values
from kdprobe.results import Result, save_result
from tests.saved_results import cka_result

FOREST = Result(
    "random-forest",
    {
        "depth": np.array([3, 4]),
        "height": np.array([1.25, np.nan]),
        "birds": np.array(7),
        "leaves": np.arange(300.0).reshape(100, 3),
    },
    {"data": "woods <b>", "n_trees": 2, "names": ["oak", "ash"]},
    {"command": "forest grow"},
)


def draw_forest(result: Result) -> Figure:
    """As a package of one's own would draw it."""
    figure = Figure(figsize=(100 / 72, 50 / 72))
    figure.text(0.5, 0.5, str(result.facts["n_trees"]))
    return figure


def forest_panels(results: list[tuple[str, Result]]) -> list[Panel]:
    return [
        Panel(name, "All trees.", [], tables=[Table(["trees"], [[str(result.facts["n_trees"])]])])
        for name, result in results
    ]


FOREST_KIND = Kind(
    arrays={"depth": Values("trees"), "height": Values("trees", nan="some")},
    facts={"names": List(Text(), "trees")},
    open=True,
)
FOREST_SECTION = KindSection("The woods", forest_panels)


def offer(monkeypatch: pytest.MonkeyPatch, group: str, target: str) -> None:
    """As if a package with this entry point were installed."""
    entry = EntryPoint("random-forest", target, group)

    def entry_points(*, group: str, name: str | None = None) -> list[EntryPoint]:
        return [entry] if entry.group == group and name in (None, entry.name) else []

    monkeypatch.setattr("kdprobe.packages.entry_points", entry_points)


def report(folder: Path) -> str:
    save_result(FOREST, folder / "forest.npz", table="", overwrite=True)
    return figures.write_report([folder], folder / "r.html", title="t").read_text(encoding="utf-8")


def test_numbers_of_any_kind_are_tables(tmp_path: Path) -> None:
    text = report(tmp_path)
    assert '<section id="kind-random-forest">' in text
    assert "<h2>Random forest</h2>" in text
    assert html.escape("data: woods <b>; n trees: 2") in text
    assert '<th scope="row">0</th><td>3</td><td>1.25</td>' in text
    assert '<th scope="row">1</th><td>4</td><td>-</td>' in text
    assert '<th scope="row">birds</th><td>7</td>' in text
    assert re.findall(r'<th scope="col">(.*?)</th>', text)[-3:] == ["index", "index", "leaves"]
    assert "The first 200 of 300 rows; all are in the CSV file beside the result." in text
    assert text.count("<tr>") == 3 + 2 + 1 + 200
    assert "<img" not in text.split("<script")[0]


def test_rows_have_the_names_that_the_kind_gives_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, "kdprobe.kinds", f"{__name__}:FOREST_KIND")
    text = report(tmp_path)
    assert re.findall(r'<th scope="col">(.*?)</th>', text)[:3] == ["trees", "depth", "height"]
    assert '<th scope="row">oak</th><td>3</td><td>1.25</td>' in text
    assert '<th scope="row">ash</th><td>4</td><td>-</td>' in text


def test_a_kind_with_a_picture_shows_it_in_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, "kdprobe.figures", f"{__name__}:draw_forest")
    text = report(tmp_path)
    assert text.count('<img src="data:image/png;base64,') == 1
    assert '<th scope="row">birds</th><td>7</td>' in text
    assert [path.name for path in figures.draw_files([tmp_path / "forest.npz"], ["png"])] == ["forest.png"]


def test_a_package_brings_a_section_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, "kdprobe.sections", f"{__name__}:FOREST_SECTION")
    text = report(tmp_path)
    assert "<h2>The woods</h2>" in text
    assert "<p>All trees.</p>" in text
    assert "leaves" not in text.split("<script")[0]


def test_the_example_of_a_section_runs() -> None:
    found = re.search(r"# rhymes/section.py\n(.*?)\n    # setup.cfg", figures.report.__doc__ or "", re.S)
    assert found
    scope: dict[str, Any] = {}
    exec(textwrap.dedent(found[1]), scope)
    (panel,) = scope["SECTION"].panels([("one", Result("rhyme", {"purity": np.array([[0.5, 1.0]])}))])
    assert panel.tables[0].rows == [["one", "0.75"]]


def test_kdprobes_own_pictures_are_not_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("figures.pictures.by_kind.installed", lambda group, kind: pytest.fail(f"asked for {kind}"))
    assert figures.draw(cka_result()).axes


@pytest.mark.parametrize("group", ["kdprobe.figures", "kdprobe.sections"])
def test_a_package_that_cannot_be_imported_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, group: str
) -> None:
    offer(monkeypatch, group, "no_such_forest:draw")
    message = f"'random-forest' of {group} cannot be imported from no_such_forest:draw: No module"
    with pytest.raises(ResultError, match=message):
        report(tmp_path)
