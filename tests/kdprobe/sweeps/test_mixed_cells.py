"""Cells of several methods in one sweep: some with a teacher and some without, and some that diverge."""

import pytest

from kdprobe.config import parse
from kdprobe.distillers import option_types
from kdprobe.errors import SweepError
from kdprobe.recipe import read_recipe
from kdprobe.sweeps.cells import make_cells
from kdprobe.sweeps.ledger import begin, open_ledger
from kdprobe.sweeps.places import as_begun
from tests.tiny_comparisons import bring, plan

GRID = [
    {"method.name": "plain", "teacher": None, "teacher_facts": None, "seed": 0},
    {"method.name": "kd", "method.kd_weight": 0.3, "seed": 0},
]


def base(teacher):
    values = read_recipe("digits/resnet8") | {"teacher": teacher}
    return parse(values, option_types()).model_dump(mode="json")


def test_a_cell_may_do_without_the_teacher_wherever_that_is(tmp_path):
    cells = make_cells(base("here"), GRID, option_types())
    assert [cell.config["teacher"] for cell in cells] == [None, "here"]
    assert [cell.label for cell in cells] == ["name=plain seed=0", "name=kd kd_weight=0.3 seed=0"]
    begin(tmp_path / "s", cells)
    begun, places = as_begun(tmp_path / "s", base("there"), GRID)
    assert (begun, places) == (base("here"), {"teacher": "there"})
    again = make_cells(begun, GRID, option_types())
    ledger = begin(tmp_path / "s", again, places=places)
    assert (
        [cell.id for cell in again]
        == [cell.id for cell in cells]
        == [cell.id for cell in open_ledger(ledger.path).cells]
    )
    placed = [ledger.placed(parse(cell.config, option_types())).teacher for cell in again]
    assert placed == [None, "there"]


def test_a_cell_that_diverges_is_tried_once_each_time_and_is_no_failure(tmp_path):
    high = plan("plain", n_trials=3, n_seeds=1)
    ledger = bring(high, tmp_path).trials
    states = [state.name for state in ledger.states().values()]
    assert states == ["done", "failed", "done"]
    lost = ledger.cells[1].id
    assert ledger.run(lost).state == "failed"
    assert len(list(ledger.attempts.glob(f"{lost}.*"))) == 1


def test_nothing_else_may_be_left_out(tmp_path):
    cells = make_cells(base("here"), GRID[1:], option_types())
    ledger = begin(tmp_path / "s", cells)
    text = (ledger.path / "sweep.json").read_text()
    (ledger.path / "sweep.json").write_text(text.replace('"method.kd_weight": 0.3', '"method.kd_weight": null'))
    with pytest.raises(SweepError, match="must be a mapping of keys to values, but are"):
        open_ledger(ledger.path)
