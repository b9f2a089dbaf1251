"""The publication's tables and figures: the printed numbers, their sources, their misprints."""

import csv
import io
import sys
from pathlib import Path

import numpy as np
import pytest

from figures.paper.tables import latex, markdown
from figures.paper.write import GRIDS, TABLES, published_grid, published_table, write_paper
from figures.pictures.dropout import best_cell
from kdprobe.cli import main


@pytest.mark.parametrize("name", TABLES)
def test_each_number_has_a_source(name: str) -> None:
    table = published_table(name)
    assert all(cell.source and 0 < float(cell.value) < 100 for cell in table.cells)
    assert len({(cell.row, cell.column) for cell in table.cells}) == len(table.cells)


def test_table_4_is_whole() -> None:
    printed = {
        "ResNet50": ("3.89", "23.52", "88.75"),
        "ResNet18": ("1.8", "11.18", "86.53"),
        "SCN": ("1.8", "11.18", "88.14"),
        "EAC (ResNet18)": ("1.8", "11.18", "89.20"),
        "MobileNetV2": ("0.32", "3.5", "84.49"),
        "ResNet18 + DropKD": ("1.8", "11.18", "90.45"),
        "MobileNetV2 + DropKD": ("0.32", "3.5", "89.18"),
    }
    table = published_table("table4")
    found = {(cell.row, cell.column): cell.value for cell in table.cells}
    columns = ("FLOPs (G)", "Parameters (M)", "Accuracy")
    assert table.columns == list(columns)
    assert {row: tuple(found[row, column] for column in columns) for row in table.rows} == printed
    assert "stride in the first 1 x 1 convolution" in markdown(table)


def test_misprints_are_footnoted() -> None:
    table = published_table("table1")
    notes = {(cell.row, cell.column): cell.note for cell in table.cells}
    assert "ResNet101" in notes["ResNet110 to ResNet20", "Teacher"]
    assert "FitNet" in notes["ResNet110 to ResNet20", "AT"]
    assert list(table.notes) == ["a", "b", "c", "d"]


@pytest.mark.parametrize("name", GRIDS)
def test_equal_rates_win_for_every_student_rate(name: str) -> None:
    means = published_grid(name).arrays["accuracy"][..., 0]
    assert means.shape == (5, 5)
    assert best_cell(means) == (2, 2)
    assert means[2, 2] == pytest.approx(0.8918)
    assert np.array_equal(np.nanmax(means, axis=0), np.diag(means))


def test_missing_cells_are_two_corners() -> None:
    grids = {name: np.isnan(published_grid(name).arrays["accuracy"][..., 0]) for name in GRIDS}
    assert np.argwhere(grids["figure2"]).tolist() == [[0, 4], [1, 4], [3, 0], [4, 0]]
    assert np.argwhere(grids["figure3"]).tolist() == [[0, 4], [1, 4]]


@pytest.mark.parametrize("name", TABLES)
def test_markdown_and_latex_hold_every_number(name: str) -> None:
    table = published_table(name)
    for text in (markdown(table), latex(table)):
        assert all(cell.value in text for cell in table.cells)
        assert len(table.notes) == len({cell.note for cell in table.cells} - {""})


def test_latex_is_balanced_and_escaped() -> None:
    text = latex(published_table("table4"))
    assert text.count("{") == text.count("}")
    assert r"\toprule" in text
    assert "in \\%" in text
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert {line.count("&") for line in rows} == {3}


@pytest.mark.parametrize("name", TABLES)
def test_markdown_rows_have_one_shape_that_a_page_has_room_for(name: str) -> None:
    lines = [line for line in markdown(published_table(name)).splitlines() if line.startswith("|")]
    (bars,) = {line.count("|") for line in lines}
    assert bars <= 5


def test_pairs_stand_side_by_side_and_notes_in_the_order_of_reading() -> None:
    lines = markdown(published_table("table1")).splitlines()
    assert lines[2] == "|  | ResNet56 to ResNet20 | ResNet110 to ResNet20 | ResNet110 to ResNet32 |"
    assert "| AT | 70.55 | 70.22 <sup>b</sup> | 72.31 |" in lines
    assert "| DIST | 71.75 |  |  |" in lines
    letters = [line[5] for line in lines if line.startswith("<sup>")]
    marks = [part[0] for line in lines if line.startswith("|") for part in line.split("<sup>")[1:]]
    assert list(dict.fromkeys(marks)) == letters == ["a", "b", "c", "d"]


def test_notes_and_sources_are_below_the_table() -> None:
    text = latex(published_table("table1"))
    caption, _, rest = text.partition(r"\begin{tabular}{lrrr}")
    assert "top-1 accuracy" in caption
    assert "FitNet" not in caption
    _, _, below = rest.partition(r"\end{tabular}")
    assert "From the RepDistiller README" in below
    assert r"\shortstack[r]{ResNet110\\to ResNet20}" in rest


def test_sources_are_named() -> None:
    assert "From the RepDistiller README" in markdown(published_table("table1"))


@pytest.mark.slow
def test_command_writes_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["paper", "--out", str(tmp_path), "--format", "svg"])
    said = capsys.readouterr()
    names = {Path(line).name for line in said.out.splitlines()}
    assert names == {f"{name}.{ending}" for name in TABLES for ending in ("tex", "md", "csv")} | {
        f"{name}.svg" for name in GRIDS
    }
    assert names == {path.name for path in tmp_path.iterdir()}
    assert "figure4" in said.err
    main(["paper", "--out", str(tmp_path), "--quiet"])
    said = capsys.readouterr()
    assert said.out == said.err == ""


def test_figures_have_the_style_and_the_width_that_are_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["paper", "--out", str(tmp_path / "p"), "--format", "svg"]
    for wrong in (["--width", "10"], ["--style", "poster"]):
        with pytest.raises(SystemExit) as end:
            sys.exit(main([*words, *wrong]))
        assert end.value.code == 2
        assert wrong[1] in capsys.readouterr().err
        assert not (tmp_path / "p").exists()
    main([*words, "--width", "100", "--quiet"])
    assert all('width="283.464567pt"' in (tmp_path / "p" / f"{name}.svg").read_text("utf-8") for name in GRIDS)
    main([*words, "--style", "slides", "--width", "column", "--quiet"])
    assert all('width="432pt"' in (tmp_path / "p" / f"{name}.svg").read_text("utf-8") for name in GRIDS)


def test_csv_is_the_kept_file(tmp_path: Path) -> None:
    write_paper(tmp_path, [])
    rows = list(csv.DictReader(io.StringIO((tmp_path / "table5.csv").read_text(encoding="utf-8"))))
    assert rows[0] == {
        "row": "MobileNetV2",
        "column": "Acc-both",
        "value": "31.90",
        "source": "supplement Table 5",
        "note": "",
    }


def test_names_are_text_in_every_kind_of_table():
    from figures.paper.tables import _marked
    from kdprobe.formats.tables import as_latex

    assert as_latex("a\n\nb_&\\<x>") == r"a b\_\&\text{}".replace(
        r"\text{}", r"\textbackslash{}\textless{}x\textgreater{}"
    )
    assert _marked("a|b\n<script> <sup>a</sup>") == r"a\|b &lt;script> <sup>a</sup>"
