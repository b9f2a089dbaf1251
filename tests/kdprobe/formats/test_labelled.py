"""Results in notebooks: as tables, as an xarray Dataset, as a picture, and in a few lines."""

import re
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from kdprobe.errors import ResultError
from kdprobe.results import Result
from tests.saved_results import (
    cka_result,
    comparison_result,
    evaluation_result,
    images_result,
    knowledge_result,
)

SIDES = ("teacher", "student")


def test_tables_have_a_row_for_each_place_with_its_names():
    result = comparison_result(("plain", "kd"), 3)
    (table,) = result.to_frames().values()
    assert list(table) == ["methods", "seeds", "accuracy", "uar", "cka"]
    assert table.query("methods == 'kd' and seeds == 2")["uar"].item() == result.arrays["uar"][1, 2]
    of_cka = cka_result(2, 3).to_frames()
    assert set(of_cka) == {
        "teacher_layers student_layers",
        "minibatches teacher_layers student_layers",
        "minibatches teacher_layers",
        "minibatches student_layers",
    }
    layers = of_cka["teacher_layers student_layers"]
    assert layers.pivot(index="teacher_layers", columns="student_layers", values="matrix").shape == (2, 3)
    assert list(images_result().to_frames()["shown"]) == ["shown (place)", "shown"]


def test_pairs_have_the_names_of_both_layers_and_parts_theirs():
    result = knowledge_result(2, measured=True)
    found = result.to_frames()
    pairs = [f"{one} / {other}" for one, other in zip(*(result.facts[f"{who}_layers"] for who in SIDES), strict=True)]
    assert found["pairs interval"]["pairs"].unique().tolist() == pairs
    assert found["pairs parts interval"]["parts"].unique().tolist() == result.facts["parts"]
    assert {"cka", "teacher_probe"} <= set(found["pairs parts interval"])


def test_numbers_without_dimensions_and_kinds_without_a_schema_have_tables_too():
    result = Result("unheard-of", {"one": np.array(0.5), "many": np.arange(6).reshape(2, 3)})
    found = result.to_frames()
    assert found[""]["one"].tolist() == [0.5]
    assert list(found["many_0 many_1"]) == ["many_0", "many_1", "many"]


def test_xarray_gets_dimensions_and_names(monkeypatch):
    result = evaluation_result(("plain", "kd"), 3, 20)
    made = SimpleNamespace(Dataset=lambda variables, coords, attrs: SimpleNamespace(v=variables, c=coords, a=attrs))
    monkeypatch.setitem(sys.modules, "xarray", made)
    found = result.to_xarray()
    dims, values = found.v["recall"]
    assert dims == ("names", "classes", "interval")
    assert values is result.arrays["recall"]
    assert found.c["names"] == ["plain", "kd"]
    assert found.c["interval"] == ["value", "low", "high"]
    assert found.a["kind"] == "evaluation"
    assert found.a["n_images"] == 20
    assert "shown" not in images_result().to_xarray().c  # an array is its own coordinate
    monkeypatch.setitem(sys.modules, "xarray", None)
    with pytest.raises(ResultError, match="needs the package xarray; install it first"):
        result.to_xarray()


def test_real_xarray_takes_results():
    xarray = pytest.importorskip("xarray")
    for result in (cka_result(2, 3), comparison_result(), images_result()):
        found = result.to_xarray()
        assert isinstance(found, xarray.Dataset)
        assert set(result.arrays) <= set(found.variables)


def test_a_result_draws_itself():
    figure = comparison_result().plot()
    assert isinstance(figure, Figure)
    assert figure.axes
    axes = figure.add_subplot()
    assert cka_result(2, 2).plot(ax=axes, names={"blocks.0": "first"}, palette=["white", "#123456"]) is axes
    assert axes.get_yticklabels()[0].get_text() == "first"
    assert to_hex(axes.images[0].cmap(1.0)) == "#123456"
    with pytest.raises(ResultError, match="results of kind 'unheard-of' have no picture"):
        Result("unheard-of", {"a": np.zeros(2)}).plot()


def test_a_result_is_shown_by_its_kind_and_shapes() -> None:
    assert (
        repr(comparison_result(("plain", "kd"), 3)) == "Result('comparison': accuracy [2, 3], uar [2, 3], cka [2, 3])"
    )
    assert repr(Result("mine", {})) == "Result('mine': no arrays)"
    assert len(repr(evaluation_result())) < 500


def test_a_notebook_shows_the_head_the_shapes_and_the_origin_in_short():
    result = comparison_result(("<b>plain</b>", "kd"), 4)
    page = result._repr_html_()
    assert "<strong>comparison</strong> (digits)" in page
    assert page.count("<tr>") == 1 + 5
    assert "and 3 more rows" in page
    assert "accuracy, uar, cka [methods 2, seeds 4]" in page
    assert "<code>kdprobe cka --teacher runs/vit" in page
    assert "<b>" not in page
    assert f"<td>{result.arrays['cka'][0, 1]:.4g}</td>" in page
    assert len(page) < 2000


@pytest.mark.parametrize(
    "result", [images_result(), evaluation_result(), Result("unheard-of", {"a": np.zeros((2, 3, 4))})]
)
def test_large_results_stay_short(result):
    page = result._repr_html_()
    assert len(page) < 4000
    assert page.count("<tr>") in (0, 6)
    assert re.search(r"\[\S+ \d+, \S+ \d+", page)
