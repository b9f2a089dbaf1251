"""Pictures: every label whole and apart from the others, the same bytes each time, nothing left behind."""

import itertools
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection, PatchCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from scipy.stats import ttest_1samp

from figures import labels, style
from figures.commands import figures as figures_command
from figures.labels import shorten, text_width
from figures.pictures import FIGURES, draw, draw_files
from figures.pictures.cka import colour_label, stage_ends
from figures.pictures.confusion import row_shares
from figures.pictures.curves import look
from figures.pictures.map import ends_of
from figures.style import figure_of
from kdprobe.cli import main
from kdprobe.errors import ResultError
from kdprobe.mean_interval import mean_interval
from kdprobe.results import Result, save_result
from tests.saved_results import (
    calibrated,
    cka_result,
    comparison_result,
    compound_result,
    diagnosis_result,
    dropout_result,
    evaluation_result,
    examples_result,
    fidelity_result,
    images_result,
    inherited_errors_result,
    knowledge_comparison_result,
    knowledge_result,
    map_result,
    over_time_result,
    reliability_result,
    similarity_result,
    training_result,
    tuned_result,
    write_bare,
)


def remarked(result: Result) -> Result:
    """A result of runs that are not finished."""
    remarks = [{"reason": f"run{number} is stopped: {number} of 12 epochs"} for number in range(5)]
    return replace(result, facts={**result.facts, "remarks": [*remarks, remarks[0]]})


def over_whole_ranges(result: Result) -> Result:
    """The same with intervals so wide that numbers below the panels stand at their ends."""
    result.arrays["means"][:, :, 1:] = np.where(
        np.array(result.facts["scales"])[:, None] > 1, [0.0, 0.92], [-0.38, 0.9]
    )
    return replace(result, facts=result.facts | {"remarks": [{"reason": "kd0 learnt without a teacher"}]})


def far_apart(result: Result) -> Result:
    """The same with seeds so far apart that Student's intervals would leave 0 to 100 %."""
    seeds = np.linspace(0.2, 0.9, result.arrays["accuracy"].shape[-1])
    for name in {"accuracy", "uar", "published"} & set(result.arrays):
        result.arrays[name][:] = seeds
    return result


LONG = "vit_small_patch16_224.augreg_in21k_ft_in1k_and_then_some_more"
#: pictures with more or longer names than there is room for on a slide and in one column of a paper
WITHOUT_ROOM: dict[str, set[str]] = {"slides": set(), "column": {"deep, calibrated"}}
RESULTS = {
    "small": cka_result(),
    "one cell": cka_result(1, 1),
    "annotated": cka_result(12, 12, lowest=-0.3),
    "undefined": cka_result(5, 6, undefined=((0, 1), (4, 1))),
    "wide": cka_result(4, 87),
    "calibrated": calibrated(cka_result(4, 4, undefined=((0, 1),))),
    "deep, calibrated": calibrated(cka_result(61, 87, teacher=LONG, student=LONG)),
    "tall": cka_result(87, 4),
    "deep": cka_result(61, 87, teacher=LONG, student=LONG, undefined=((0, 0),)),
    "one evaluation": evaluation_result(("plain",)),
    "three evaluations": evaluation_result(),
    "long name": evaluation_result((LONG, "b", "c", "d", "e")),
    "hundred classes": evaluation_result(("a", "b"), 100, 4000),
    "comparison": comparison_result(),
    "tuned": tuned_result(),
    "tuned, late": tuned_result(late=True, published=False),
    "tuned, many": tuned_result(tuple(f"{LONG} {n}" for n in range(14)), 16),
    "tuned, as many as there are": tuned_result(tuple(f"method_{n}" for n in range(26)), 3),
    "tuned, one of each": tuned_result(("plain",), 1, 1),
    "comparison of seeds far apart": far_apart(comparison_result()),
    "tuned, seeds far apart": far_apart(tuned_result(n_seeds=2)),
    "dropout of seeds far apart": far_apart(dropout_result(2)),
    "one seed": comparison_result(("plain", LONG), 1),
    "compound": compound_result(),
    "many compounds": compound_result((LONG, *"bcdef")),
    "diagnosis": diagnosis_result(),
    "diagnosis of one term": diagnosis_result(("ce",)),
    "diagnosis of many terms": diagnosis_result((LONG, *"abcdefghijklmnopqrstuvwxyz")),
    "dropout": dropout_result(),
    "one dropout seed": dropout_result(1),
    "dropout answered": dropout_result(2, (0.3, 0.5, 0.7), answered=True),
    "many rates answered": dropout_result(2, tuple(round(0.1 * index, 1) for index in range(9)), answered=True),
    "many rates": dropout_result(2, tuple(round(0.1 * index, 1) for index in range(9))),
    "training": training_result(),
    "unfinished runs": remarked(training_result()),
    "over time, unfinished": remarked(over_time_result()),
    "many runs": training_result(tuple(f"{LONG} {index}" for index in range(20))),
    "knowledge": knowledge_result(),
    "one pair": knowledge_result(1),
    "knowledge, measured": knowledge_result(5, measured=True, name=LONG),
    "knowledge by rates": knowledge_result(2, rates=True),
    "students compared": knowledge_comparison_result(),
    "many students": knowledge_comparison_result((LONG, *"bcdef"), 9),
    "examples": examples_result(),
    "many examples": examples_result(19, name=LONG),
    "fidelity": fidelity_result(),
    "fidelity over whole ranges": over_whole_ranges(fidelity_result()),
    "one student": fidelity_result((LONG, "plain"), 1, tested=False),
    "images": images_result(n_classes=10),
    "images of many classes": images_result((LONG, *"bcdef"), 200, n_classes=40),
    "mistakes": inherited_errors_result(),
    "mistakes without controls": inherited_errors_result(3, controls=False, name=LONG),
    "similarity": similarity_result(),
    "reliability": reliability_result(),
    "many reliabilities": reliability_result((LONG, *"bcdef")),
    "one reliability": reliability_result((LONG,)),
    "map": map_result(),
    "map with long names": map_result(17, 3, name=LONG),
    "map with undefined pairs": map_result(2, 1, undefined=True),
    "map, calibrated": calibrated(map_result(2, 2, undefined=True), spread=0.6),
    "over time": over_time_result(),
    "over time, many": over_time_result(12),
}


def drawn(result: Result) -> Figure:
    """The figure of a result's picture."""
    return figure_of(draw(result))


def texts(figure: Figure) -> list[Text]:
    """All texts that are seen; labels of ticks beyond the axes' ends are made but not drawn."""
    FigureCanvasAgg(figure)
    figure.draw_without_rendering()
    beyond = set()
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        low, high = sorted(axis.get_view_interval())
        outside = [tick for tick in axis.get_major_ticks() if not low <= tick.get_loc() <= high]
        beyond |= {label for tick in outside for label in (tick.label1, tick.label2)}
    found = set(figure.findobj(Text)) - beyond
    return [text for text in found if text.get_visible() and text.get_text().strip()]  # type: ignore[attr-defined]


def written(figure: Figure) -> list[str]:
    return [text.get_text() for text in texts(figure)]


@pytest.fixture(autouse=True)
def settings_left_alone() -> Iterator[None]:
    before = dict(mpl.rcParams)
    yield
    assert dict(mpl.rcParams) == before


@pytest.mark.parametrize("name", RESULTS)
def test_labels_are_whole_and_apart_on_one_or_two_columns(name: str) -> None:
    width, height = apart(name, "paper") * 72
    assert round(width, 6) in (234, 495)
    assert height < 9 * 72


@pytest.mark.slow
@pytest.mark.parametrize(
    ("style_name", "width", "name"),
    [
        *(("slides", None, name) for name in RESULTS if name not in WITHOUT_ROOM["slides"]),
        *(("paper", "column", name) for name in RESULTS if name not in WITHOUT_ROOM["column"]),
    ],
)
def test_labels_are_whole_and_apart_on_slides_and_in_a_column(style_name: str, width: str | None, name: str) -> None:
    inches = apart(name, style_name, width=width)
    assert 25.4 * inches[0] == pytest.approx(304.8 if style_name == "slides" else 82.55)


def apart(name: str, style_name: str, width: str | None = None) -> Any:
    """Draw a result, see that its labels are whole and apart, and say how large it is in inches."""
    with style.drawing_style(style_name, width=width):
        figure = drawn(RESULTS[name])
        boxes = [(text.get_text(), text.get_window_extent()) for text in texts(figure)]
    assert boxes
    for text, box in boxes:
        assert box.x0 >= -0.5, text
        assert box.y0 >= -0.5, text
        assert box.x1 <= figure.bbox.x1 + 0.5, text
        assert box.y1 <= figure.bbox.y1 + 0.5, text
    for (first, a), (second, b) in itertools.combinations(boxes, 2):
        assert min(a.x1, b.x1) - max(a.x0, b.x0) < 1 or min(a.y1, b.y1) - max(a.y0, b.y0) < 1, (first, second)
    return figure.get_size_inches()


def test_what_a_panel_of_fidelity_shows_is_not_cut_short() -> None:
    shown = [" ".join(text.split()) for text in written(drawn(RESULTS["fidelity over whole ranges"]))]
    assert {"agreement if teacher wrong in %", "kd0 learnt without a teacher"} <= set(shown)


def test_a_diagnosis_shows_the_shares_of_each_term_and_its_cosine() -> None:
    result = diagnosis_result()
    axes = drawn(result).axes[0]
    widths = np.array([bar.get_width() for bar in axes.patches if isinstance(bar, Rectangle)]).reshape(2, -1)
    losses = result.arrays["loss"].mean(0)
    assert widths[0] == pytest.approx(100 * losses / losses.sum())
    assert widths[1] == pytest.approx(100 * result.arrays["share"])
    shown = written(axes.figure)  # type: ignore[arg-type]
    assert {"cosine with ce", "1.00", "-0.20", "-", "share of the gradient"} <= set(shown)


@pytest.mark.parametrize("name", [name for name in RESULTS if name.endswith("far apart")])
def test_no_interval_of_accuracies_leaves_0_to_100_percent(name: str) -> None:
    figure = drawn(RESULTS[name])
    shown = [text.replace("\n", " ") for text in written(figure) if re.search(r"\n?\[", text)]
    ends = [float(end) for text in shown for end in re.findall(r"[\d.]+(?=[],])", text)]
    panels = [axes for axes in figure.axes if axes.get_xlabel().endswith("in %")]
    lines = [line for axes in panels for line in axes.collections if isinstance(line, LineCollection)]
    ends += [float(x) for line in lines for segment in line.get_segments() for x in np.asarray(segment)[:, 0]]
    assert {0.0, 100.0} <= set(ends)
    assert all(0 <= end <= 100 for end in ends)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "ending"),
    [
        *(("knowledge", ending) for ending in style.FORMATS),
        *((kind, "svg") for kind in ("undefined", "three evaluations", "comparison", "dropout", "training")),
    ],
)
def test_same_result_gives_same_bytes(tmp_path: Path, kind: str, ending: str) -> None:
    for name in "ab":
        style.save_figure(drawn(RESULTS[kind]), tmp_path / f"{name}.{ending}")
    first = (tmp_path / f"a.{ending}").read_bytes()
    assert first == (tmp_path / f"b.{ending}").read_bytes()
    assert b"Date" not in first
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"a.{ending}", f"b.{ending}"]


def test_fonts_are_embedded_as_truetype(tmp_path: Path) -> None:
    style.save_figure(drawn(RESULTS["small"]), tmp_path / "a.pdf")
    data = (tmp_path / "a.pdf").read_bytes()
    assert b"/FontFile2" in data
    assert b"/Subtype /Type3" not in data


def test_cka_axes_name_their_network() -> None:
    axes = draw(cka_result(3, 5, teacher="vit_t", student="resnet_s"))
    figure = figure_of(axes)
    assert axes.get_ylabel() == "teacher: vit_t, layer"
    assert axes.get_xlabel() == "student: resnet_s, layer"
    assert [label.get_text() for label in axes.get_yticklabels()] == ["blocks.0", "blocks.1", "blocks.2"]
    assert len(axes.get_xticks()) == 5
    assert axes.get_ylim()[0] < axes.get_ylim()[1]  # the first layer at the bottom
    assert figure.axes[1].get_ylabel() == "CKA (unbiased, minibatches by their samples)"


def test_cka_axes_show_names_as_long_as_the_figure() -> None:
    assert "teacher: vit_tiny_patch16_224, layer" in written(drawn(cka_result(4, 4, teacher="vit_tiny_patch16_224")))


@pytest.mark.slow
def test_names_of_thousands_of_letters_leave_room_for_the_matrix() -> None:
    result = cka_result(3, 3, teacher="m" * 3000)
    for key in ("teacher_layers", "student_layers"):
        result.facts[key] = [name + "w" * 3000 for name in result.facts[key]]
    figure = drawn(result)
    assert figure.axes[0].get_position().width * figure.get_figwidth() * 72 >= 39.9
    assert max(map(len, written(figure))) < 200


def test_colours_say_how_cka_was_estimated() -> None:
    words = "CKA (biased, rbf kernel, minibatches by their samples)"
    assert colour_label({"estimator": "biased", "kernel": "rbf"}) == words
    words = "CKA (unbiased, minibatches by their samples)"
    assert colour_label({"estimator": "unbiased", "kernel": "linear"}) == words


def test_cka_values_stand_in_their_cells() -> None:
    result = cka_result(2, 3)
    result.arrays["matrix"][:] = [[0.1, 0.2, 0.3], [0.4, -0.001, -0.25]]
    found = {text.get_position(): text.get_text() for text in drawn(result).axes[0].texts}
    assert found[0, 0] == "0.10"
    assert found[2, 0] == "0.30"
    assert found[0, 1] == "0.40"
    assert found[1, 1] == "0.00"
    assert found[2, 1] == "\N{MINUS SIGN}0.25"


def test_many_layers_are_not_annotated() -> None:
    assert not drawn(cka_result(13, 4)).axes[0].texts


@pytest.mark.slow
def test_undefined_cells_are_hatched_and_explained() -> None:
    result = cka_result(4, 4, undefined=((0, 1), (2, 3)))
    axes = drawn(result).axes[0]
    (hatched,) = [item for item in axes.collections if isinstance(item, PatchCollection)]
    corners = {tuple(path.vertices.min(axis=0) + 0.5) for path in hatched.get_paths()}
    assert corners == {(1.0, 0.0), (3.0, 2.0)}
    assert hatched.get_hatch()
    assert "undefined (2 cells)" in written(axes.figure)  # type: ignore[arg-type]
    assert not any("undefined" in text for text in written(drawn(cka_result())))


def test_cells_within_their_null_are_grey_and_explained() -> None:
    result = calibrated(cka_result(4, 4, undefined=((3, 0),)), spread=0.15)
    chance = result.arrays["p_adjusted"] > 0.05
    assert 3 < chance.sum() < 12
    axes = drawn(result).axes[0]
    hatched, grey = (item for item in axes.collections if isinstance(item, PatchCollection))
    assert [bool(item.get_hatch()) for item in (hatched, grey)] == [True, False]
    assert len(grey.get_paths()) == chance.sum()
    found = {text.get_position()[::-1]: text.get_text() for text in axes.texts}
    values = result.arrays["calibrated"]
    assert found == {
        (row, column): f"{values[row, column]:.2f}"
        for row, column in np.argwhere(values > -1)
        if not chance[row, column]
    }
    words = written(axes.figure)  # type: ignore[arg-type]
    assert f"within its null, p > 0.05 ({chance.sum()} cells)" in words
    assert "calibrated CKA (unbiased)" in words


def test_pairs_of_networks_within_their_null_are_grey_and_the_others_keep_their_similarity() -> None:
    result = RESULTS["map, calibrated"]
    chance = result.arrays["p_adjusted"] > 0.05
    assert 3 < chance.sum() < 20
    figure = drawn(result)
    matrix = next(axes for axes in figure.axes if axes.images)
    assert {bool(item.get_hatch()) for item in matrix.collections if isinstance(item, PatchCollection)} == {True, False}
    assert f"within its null, p > 0.05 ({chance.sum()} cells)" in written(figure)
    assert "undefined (8 cells)" in written(figure)
    shown = np.ma.masked_invalid(np.where(chance, np.nan, result.arrays["similarity"])).compressed()
    assert sorted(matrix.images[0].get_array().compressed()) == pytest.approx(sorted(shown))


@pytest.mark.parametrize("n_methods", [21])
def test_each_of_many_networks_is_named_beside_the_matrix(n_methods: int) -> None:
    result = map_result(n_methods, 3)
    assert set(result.facts["networks"]) <= set(written(drawn(result)))


def test_runs_of_one_method_are_joined_and_seeds_are_numbers_only_where_there_is_room() -> None:
    for n_methods, numbers in ((3, True), (17, False)):
        figure = drawn(map_result(n_methods, 3))
        axes = next(axes for axes in figure.axes if axes.get_xlabel().endswith("of the squared distances"))
        joined = [line for line in axes.lines if line.get_alpha() == 0.6]
        assert len(joined) == 3 * n_methods
        assert {text.get_text() for text in axes.texts} == ({"vit_tiny", "0", "1", "2"} if numbers else {"vit_tiny"})
        note = next(text for text in written(figure) if "tree: average linkage" in text)
        assert note.endswith("numbers: seeds; lines: runs of one method" if numbers else "; lines: runs of one method")


@pytest.mark.parametrize(("values", "ends"), [([0.43, 0.9], (0.4, 1)), ([-0.05], (-0.1, 1)), ([1, 1.02], (0.9, 1.02))])
def test_colours_of_a_map_begin_where_its_similarities_do(values: list[float], ends: tuple[float, float]) -> None:
    assert ends_of(np.array(values)) == pytest.approx(ends)


def test_colour_scale_reaches_negative_values() -> None:
    assert drawn(cka_result()).axes[0].images[0].get_clim() == (0, 1)
    low, high = drawn(cka_result(lowest=-0.2)).axes[0].images[0].get_clim()
    assert low < 0
    assert high == 1


def linear(colours: Any) -> np.ndarray:  # type: ignore[type-arg]
    """sRGB in [0, 1] as shares of light [n, 3]."""
    shares = np.array([to_rgb(colour) for colour in colours])
    return np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)


def cielab(light: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
    """Lightness and the two axes of colour [n, 3], in which equal distances look about equal."""
    xyz = light @ np.array([[0.4124, 0.2126, 0.0193], [0.3576, 0.7152, 0.1192], [0.1805, 0.0722, 0.9505]])
    x, y, z = np.cbrt(np.maximum(xyz / (0.9505, 1.0, 1.0888), 0.0089)).T
    return np.column_stack([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def test_colours_fall_evenly_in_lightness_from_zero() -> None:
    rising = cielab(linear(style.colours(0, 1)(np.linspace(0, 1, 33))))[:, 0]
    assert np.diff(rising).max() < 0
    assert np.diff(rising).min() > 1.2 * np.diff(rising).mean()
    both = np.diff(cielab(linear(style.colours(-1, 1)(np.linspace(0, 1, 65))))[:, 0])
    assert (both[:32] > 0).all()
    assert (both[32:] < 0).all()
    assert both[:31].max() < 1.25 * both[:31].min()  # the last one ends at zero, between two of the 256 colours


#: what people without one kind of cones see, of linear sRGB (Machado, Oliveira and Fernandes, 2009, severity 1)
SEEN = {
    "all cones": np.eye(3),
    "protanopia": [[0.1523, 1.0526, -0.2049], [0.1145, 0.7863, 0.0992], [-0.0039, -0.0481, 1.0520]],
    "deuteranopia": [[0.3673, 0.8606, -0.2280], [0.2801, 0.6725, 0.0474], [-0.0118, 0.0429, 0.9690]],
    "tritanopia": [[1.2555, -0.0767, -0.1788], [-0.0784, 0.9308, 0.1476], [0.0047, 0.6914, 0.3039]],
}


@pytest.mark.parametrize("eyes", SEEN)
def test_all_readers_can_tell_the_colours_apart(eyes: str) -> None:
    seen = cielab(np.clip(linear(style.PALETTE) @ np.array(SEEN[eyes]).T, 0, 1))
    assert min(float(np.linalg.norm(a - b)) for a, b in itertools.combinations(seen, 2)) > 15


@pytest.mark.parametrize(
    ("layers", "ends"),
    [
        (["layer1.0", "layer1.1", "layer2.0", "layer2.1"], [2]),
        (["stages.0.a", "stages.0.b", "stages.1.a"], [2]),
        (["blocks.0", "blocks.1", "blocks.10"], []),
        (["conv", "conv"], []),
    ],
)
def test_stage_ends(layers: list[str], ends: list[int]) -> None:
    assert stage_ends(layers) == ends


def test_row_shares() -> None:
    shares = row_shares(np.array([[3, 1], [0, 0]]))
    assert shares[0].tolist() == [0.75, 0.25]
    assert np.isnan(shares[1]).all()


def test_a_class_without_images_is_drawn() -> None:
    result = evaluation_result(("plain",), 4)
    result.arrays["confusion"][0, 2] = 0
    assert "accuracy" in " ".join(written(drawn(result)))


def test_counts_are_written_up_to_twelve_classes() -> None:
    result = evaluation_result(("plain",), 12)
    assert str(result.arrays["confusion"][0, 0, 0]) in written(drawn(result))
    assert len(drawn(evaluation_result(("plain",), 13)).axes[0].texts) == 2


def test_bars_only_for_several() -> None:
    assert len(drawn(evaluation_result(("plain",))).axes) == 1
    assert len(drawn(evaluation_result(("plain", "kd"))).axes) == 3


def test_mean_interval_is_students() -> None:
    values = np.array([0.91, 0.95, 0.93, np.nan])
    mean, half = mean_interval(values)
    expected = ttest_1samp(values[:3], 0).confidence_interval(0.95)
    assert mean - half == pytest.approx(expected.low)
    assert mean + half == pytest.approx(expected.high)
    assert np.isnan(mean_interval(np.array([0.5]))[1])
    assert np.isnan(mean_interval(np.array([np.nan]))).all()


def test_comparison_leaves_out_what_was_not_measured() -> None:
    result = comparison_result()
    result.arrays["cka"][:] = np.nan
    result.arrays["uar"][1] = np.nan
    assert len(drawn(result).axes) == 2


def test_a_star_tells_what_differs_from_the_baseline() -> None:
    result = comparison_result()
    assert "* differs from plain (paired by seed, Holm)" in written(drawn(result))
    for entry in result.facts["differences"]:
        entry["adjusted_p_value"] = 0.04 if entry["method"] == "kd" and entry["quantity"] == "accuracy" else 0.06
    (starred,) = [text for text in written(drawn(result)) if text.endswith(" *")]
    assert starred.startswith(f"{100 * result.arrays['accuracy'][1].mean():.1f}")
    del result.facts["differences"]  # as files of 0.1.0
    assert not any("*" in text for text in written(drawn(result)))


def test_teacher_is_a_line_where_known() -> None:
    result = comparison_result()
    assert "teacher: vit_tiny" in written(drawn(result))
    result.facts["teacher_accuracy"] = None
    assert not any("teacher" in text for text in written(drawn(result)))


def test_of_one_trial_there_is_no_best_and_the_accuracies_have_the_width() -> None:
    both, (alone,) = drawn(tuned_result()).axes, drawn(tuned_result(n_trials=1)).axes
    assert [axes.get_ylabel() for axes in both] == ["", "best on held-out images in %"]
    assert alone.get_position().width > 1.6 * both[0].get_position().width
    assert "not tuned: mean and 95 % interval" in written(alone.figure)  # type: ignore[arg-type]


def test_the_best_cell_is_framed() -> None:
    result = dropout_result()
    result.arrays["accuracy"][3, 1] = 0.99
    axes = drawn(result).axes[0]
    (frame,) = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    assert frame.get_xy() == (0.5, 2.5)
    lines = written(axes.figure)  # type: ignore[arg-type]
    assert "99.00" in lines
    assert "no interval for 1 cell whose seeds are all equal" in lines


def test_answers_about_the_rates_are_written_below() -> None:
    result = dropout_result()
    of_rates = {"rate": 0.3, "other": 0.4, "difference": 0.01, "low": None, "high": None}
    wins = [
        {"fixed": "teacher", "wins": True} | of_rates,
        {"fixed": "teacher", "wins": False} | of_rates,
        {"fixed": "student", "wins": False} | of_rates,
    ]
    neighbour = {"teacher_rate": 0.3, "student_rate": 0.4}
    least = neighbour | {"difference": 0.002, "low": -0.01, "high": 0.014}
    leads = [
        neighbour | {"difference": 0.001, "low": 0.0, "high": 0.002},
        least,
        neighbour | {"difference": None, "low": None, "high": None},
    ]
    best = neighbour | {"mean": 0.9, "distinguishable": None, "neighbours": leads}
    result.facts.update(equal_rate=wins, best=best)
    lines = written(drawn(result))
    assert "equal rate best in 1 of 2 rows, 0 of 1 columns" in lines
    assert "best cell's least certain lead: +0.20 [-1.00, 1.40] points" in lines
    least |= {"low": None, "high": None, "difference": -0.002}
    leads[0]["low"] = None
    assert "best cell's least certain lead: -0.20 points" in written(drawn(result))


def test_a_picture_that_no_page_holds_is_told(tmp_path: Path) -> None:
    save_result(comparison_result(tuple(f"m{number}" for number in range(30)), 2), tmp_path / "many.npz", table="")
    with pytest.warns(UserWarning, match=r"^many is \d\d cm high; a page needs fewer networks, or more width \(`--w"):
        draw_files([tmp_path / "many.npz"], ["png"], width="column")
    save_result(comparison_result(tuple(f"m{number}" for number in range(40)), 2), tmp_path / "more.npz", table="")
    with pytest.warns(UserWarning, match=r"^more is \d\d cm high; a page needs fewer networks$"):
        draw_files([tmp_path / "more.npz"], ["png"])


@pytest.mark.parametrize("name", ["unfinished runs", "over time, unfinished"])
def test_the_first_remarks_are_written_below(name: str) -> None:
    lines = written(drawn(RESULTS[name]))
    assert "run0 is stopped: 0 of 12 epochs (2 times)" in lines
    assert "run2 is stopped: 2 of 12 epochs" in lines
    assert "and 2 more" in lines
    assert not any("run3" in line for line in lines)


def test_lines_differ_in_colour_or_dashes() -> None:
    looks = [tuple(map(str, look(index).values())) for index in range(28)]
    assert len(set(looks)) == 28


def test_names_are_never_mathematics() -> None:
    assert "teacher: $x^2$, layer" in written(drawn(cka_result(teacher="$x^2$")))


def test_a_long_name_is_fitted_by_measuring_few_of_its_lengths(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = []
    monkeypatch.setattr(labels, "text_width", lambda text, size: measured.append(text) or len(text) * size / 2)
    for room in (20.0, 60.0, 131.0):
        del measured[:]
        short = labels.fit("x" * 400, 10.0, room)
        assert len(short) == max(10, int(room / 5))
        assert len(measured) < 9


@pytest.mark.parametrize("limit", [9, 20, 60])
def test_shorten(limit: int) -> None:
    short = shorten(LONG, limit)
    assert len(short) <= limit
    assert short[:3] == LONG[:3]
    assert short[-3:] == LONG[-3:]
    assert shorten("a\n b") == "a b"


def test_text_width_grows_with_text() -> None:
    assert text_width(" ", 8) == 0 < text_width("a", 8) < text_width("aa", 8) < text_width("aa", 16)


def test_unknown_kind() -> None:
    with pytest.raises(
        ResultError, match=r"results of kind 'ckaa' have no picture \(kdprobe report .*\); did you mean 'cka'"
    ):
        drawn(Result("ckaa", {}))


def test_files_are_named_after_the_result(tmp_path: Path) -> None:
    save_result(cka_result(), tmp_path / "one.npz", table="")
    paths = draw_files([tmp_path / "one.npz"], ["pdf", "png", "svg", "png"])
    assert [path.name for path in paths] == ["one.pdf", "one.png", "one.svg"]
    assert all(path.stat().st_size > 1000 for path in paths)


def test_bad_files_are_told_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    foreign = tmp_path / "foreign.npz"
    foreign.write_bytes(b"not a result")
    save_result(Result("poem", {}), tmp_path / "poem.npz", table="")
    write_bare(tmp_path / "bare.npz")
    save_result(cka_result(), tmp_path / "good.npz", table="")
    out = tmp_path / "out"
    for name, message in {
        "foreign": "cannot be read as a kdprobe result",
        "poem": "poem.npz: results of kind 'poem' have no picture",
        "absent": "there is no result",
    }.items():
        with pytest.raises(SystemExit) as stop:
            main(["figures", str(tmp_path / "good.npz"), str(tmp_path / f"{name}.npz"), "--out", str(out)])
        told = capsys.readouterr().err
        assert stop.value.code == 2
        assert message in told
        assert f"{name}.npz" in told
        assert told.count("\n") == 1
        assert not out.exists()
    with pytest.raises(ResultError, match=r"bare\.npz: in this 'cka' result: the array 'matrix' is missing"):
        draw_files([tmp_path / "bare.npz"], ["png"])


def test_two_results_never_share_a_picture(tmp_path: Path) -> None:
    for folder in "ab":
        save_result(cka_result(), tmp_path / folder / "cka.npz", table="")
    paths = [tmp_path / folder / "cka.npz" for folder in "ab"]
    with pytest.raises(ResultError, match="would both be drawn as"):
        draw_files(paths, ["png"], out=tmp_path)
    assert len(draw_files(paths, ["png"])) == 2


@pytest.mark.slow
def test_command_lists_what_it_wrote(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_result(cka_result(), tmp_path / "cka.npz", table="")
    main_arguments = [str(tmp_path / "cka.npz"), "--out", str(tmp_path / "out")]
    figures_command.main(main_arguments, standalone_mode=False)
    assert capsys.readouterr().out.split() == [str(tmp_path / "out" / f"cka.{ending}") for ending in ("pdf", "png")]
    figures_command.main([*main_arguments, "--quiet"], standalone_mode=False)
    assert capsys.readouterr().out == ""


def test_every_kind_has_a_picture_here() -> None:
    assert set(FIGURES) == {result.kind for result in RESULTS.values()}


def test_commands_import_only_click() -> None:
    heavy = "{'numpy', 'matplotlib', 'plotly', 'pandas', 'torch'}"
    code = f"import sys, figures.commands; print(len({heavy} & sys.modules.keys()))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "0\n"


def test_methods_of_different_data_are_no_figure() -> None:
    result = comparison_result()
    trained = {"method": "kd", "model": "a", "teacher": None, "evaluated_on": "test", "parameters": 9}
    of_runs = {"runs": ["runs/a"], "sha256": [["0"]]}
    result.facts["groups"] = [trained | of_runs | {"data": data} for data in ("digits", "digits", "cifar10:x")]
    with pytest.raises(
        ResultError, match=r"a figure compares methods on one data set, but these are of cifar10:x, digits$"
    ):
        drawn(result)


def test_images_lie_where_each_network_puts_them() -> None:
    result = images_result(("vit", "plain", "kd"), n_classes=3)
    figure = drawn(result)
    assert len(figure.axes) == 3
    for axes, places in zip(figure.axes, result.arrays["coordinates"], strict=True):
        found = np.concatenate([np.column_stack(line.get_data()) for line in axes.lines])
        assert {tuple(point) for point in found} == {tuple(point) for point in places}
    (wrong,) = [line for line in drawn(images_result(n_classes=40)).axes[1].lines if line.get_label() == "wrong"]
    many = images_result(n_classes=40)
    assert len(wrong.get_xdata()) == (many.arrays["predictions"][1] != many.arrays["targets"]).sum()
