"""What is drawn stands where the result's numbers say: heights of bars, places of marks, ends of intervals."""

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from figures.pictures import draw
from figures.style import figure_of
from kdprobe.mean_interval import seeds_interval
from kdprobe.results import Result
from tests.saved_results import (
    compound_result,
    examples_result,
    fidelity_result,
    inherited_errors_result,
    knowledge_comparison_result,
    knowledge_result,
    reliability_result,
    training_result,
    tuned_result,
)


def axes_of(result: Result) -> list[Axes]:
    figure = figure_of(draw(result))
    assert isinstance(figure, Figure)
    return figure.axes


def diamonds(axes: Axes) -> NDArray[np.float64]:
    """Places of the marks of means [k, 2]."""
    return np.array([np.ravel(line.get_data()) for line in axes.lines if line.get_marker() == "D"], dtype=np.float64)


def dots(axes: Axes) -> list[NDArray[np.float64]]:
    """Horizontal places of the dots of each row."""
    return [np.asarray(line.get_xdata(), np.float64) for line in axes.lines if line.get_marker() == "o"]


def segments(axes: Axes) -> NDArray[np.float64]:
    """Lines without a marker, as of intervals: start and end of each [k, 2, 2]."""
    found = [part for lines in axes.collections if isinstance(lines, LineCollection) for part in lines.get_segments()]
    return np.array(found, dtype=np.float64)


def across(lines: NDArray[np.float64]) -> NDArray[np.float64]:
    """The horizontal ends of lines [k, 2]."""
    assert (lines[:, 0, 1] == lines[:, 1, 1]).all()
    return lines[:, :, 0]


def bars(axes: Axes) -> list[Rectangle]:
    return [patch for patch in axes.patches if isinstance(patch, Rectangle)]


def pictures(result: Result) -> tuple[NDArray[np.uint8], list[str]]:
    """The photographs of a picture [k, h, w, 3] in its order, and the last line below each."""
    found = [(np.asarray(axes.images[0].get_array()), axes.texts[0].get_text()) for axes in axes_of(result)]
    images, words = zip(*found, strict=True)
    return np.array(images), [text.split("\n")[-1] for text in words]


def test_curves_pass_through_the_losses_and_accuracies_of_each_epoch() -> None:
    result = training_result()
    for axes, values in zip(
        axes_of(result)[:2], (result.arrays["train_loss"], 100 * result.arrays["accuracy"]), strict=True
    ):
        lines = axes.lines[: len(values)]
        assert len(lines) == len(values)
        for line, row in zip(lines, values, strict=True):
            seen = ~np.isnan(row)
            assert np.array_equal(line.get_xdata(), result.arrays["epoch"][seen])
            assert np.asarray(line.get_ydata()) == pytest.approx(row[seen])


def test_bars_of_reliability_are_as_high_as_accuracies_and_counts() -> None:
    result = reliability_result()
    result.arrays["accuracy"] = result.arrays["accuracy"] * np.array([[1.0], [0.8], [0.6]])
    result.arrays["count"] = result.arrays["count"] + np.arange(3)[:, None] * (result.arrays["count"] > 0)
    by_label: dict[str, list[Axes]] = {"": [], "confidence in %": []}
    for axes in axes_of(result):
        by_label[axes.get_xlabel()].append(axes)
    middles = 50 * (result.arrays["edges"][1:] + result.arrays["edges"][:-1])
    for shown, heights in (
        (by_label[""], 100 * np.nan_to_num(result.arrays["accuracy"])),
        (by_label["confidence in %"], result.arrays["count"]),
    ):
        for axes, row in zip(shown, heights, strict=True):
            assert [bar.get_height() for bar in bars(axes)] == pytest.approx(row)
            assert [bar.get_x() + bar.get_width() / 2 for bar in bars(axes)] == pytest.approx(middles)


def test_compound_accuracies_are_marked_with_their_intervals() -> None:
    result = compound_result()
    for axes, key in zip(axes_of(result), ("both", "single", "single_top2"), strict=True):
        value, low, high = 100 * result.arrays[key].T
        assert diamonds(axes) == pytest.approx(np.column_stack([value, [0, 1]]))
        assert across(segments(axes)) == pytest.approx(np.column_stack([low, high]))


def test_bars_of_knowledge_are_as_long_as_the_general_shares() -> None:
    result = knowledge_result(3)
    axes = axes_of(result)[0]
    whole, lengths = np.split(np.array([bar.get_width() for bar in bars(axes)]).reshape(4, 3)[[0, 2, 1, 3]], 2)
    assert (whole == 100).all()
    ends = across(segments(axes)).reshape(2, 3, 2)
    for row, who in enumerate(("teacher", "student")):
        value, low, high = 100 * result.arrays[f"{who}_general"].T
        assert lengths[row] == pytest.approx(value)
        assert ends[row] == pytest.approx(np.column_stack([low, high]))


def test_bars_of_compared_students_are_as_long_as_their_general_shares() -> None:
    result = knowledge_comparison_result()
    for axes, who in zip(axes_of(result), ("teacher", "student"), strict=True):
        value, low, high = np.moveaxis(100 * result.arrays[f"{who}_general"], 2, 0)
        assert np.array([bar.get_width() for bar in bars(axes)]).reshape(value.shape) == pytest.approx(value)
        assert across(segments(axes)) == pytest.approx(np.column_stack([low.ravel(), high.ravel()]))
        heights = np.array([bar.get_y() + bar.get_height() / 2 for bar in bars(axes)]).reshape(value.shape)
        assert heights.mean(0) == pytest.approx(np.arange(value.shape[1]))
        assert (np.diff(heights, axis=0) > 0).all()


def test_examples_are_the_images_of_the_result_with_their_parts_below() -> None:
    result = examples_result(4)
    images, words = pictures(result)
    assert np.array_equal(images, result.arrays["images"].reshape(8, 8, 8, 3))
    parts = zip(result.arrays["specific"].ravel(), result.arrays["other"].ravel(), strict=True)
    assert words == [f"{here:.2f} | {there:.2f}" for here, there in parts]


def test_inherited_errors_are_the_images_of_each_method_with_their_shares_below() -> None:
    result = inherited_errors_result()
    result.arrays["controls"] = np.linspace(0, 0.3, len(result.arrays["controls"]))
    images, words = pictures(result)
    assert np.array_equal(images, result.arrays["images"])
    shares = zip(result.arrays["students"], result.arrays["controls"], strict=True)
    assert words == [f"{100 * students:.0f} % | {100 * controls:.0f} %" for students, controls in shares]


def test_fidelity_marks_means_with_their_intervals_and_dots_networks() -> None:
    result = fidelity_result()
    n_groups, n_seeds = len(result.facts["groups"]), 3
    for number, axes in enumerate(axes_of(result)):
        scale = result.facts["scales"][number]
        value, low, high = scale * result.arrays["means"][:, number].T
        assert diamonds(axes) == pytest.approx(np.column_stack([value, np.arange(n_groups)]))
        assert across(segments(axes)) == pytest.approx(np.column_stack([low, high]))
        networks = scale * result.arrays["values"][:, number, 0].reshape(n_groups, n_seeds)
        assert np.array(dots(axes)) == pytest.approx(networks, nan_ok=True)


def test_tuned_methods_are_marked_as_tested_as_published_and_as_tuned() -> None:
    result = tuned_result()
    accuracies, best = axes_of(result)
    reached, published = (
        100 * np.array([seeds_interval(row, n_images=360) for row in result.arrays[key]])
        for key in ("accuracy", "published")
    )
    assert diamonds(accuracies)[:, 0] == pytest.approx(reached[:, 0])
    assert np.ravel(dots(accuracies)) == pytest.approx(published[:, 0])
    ends = across(segments(accuracies)).reshape(-1, 2, 2)
    assert ends[:, 0] == pytest.approx(published[:, 1:])
    assert ends[:, 1] == pytest.approx(reached[:, 1:])
    expected = 100 * result.arrays["expected"]
    assert np.array([line.get_ydata() for line in best.lines]) == pytest.approx(expected[..., 0])
    bands = segments(best)[:, :, 1].reshape(*expected.shape[:2], 2)
    assert bands == pytest.approx(expected[..., 1:])
