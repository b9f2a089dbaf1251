"""What all functions that draw a result have in common: they draw where they are told, with these names and colours."""

import inspect
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import Collection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.text import Text

import figures
from figures.pictures import FIGURES
from figures.style import PALETTE, figure_of
from kdprobe.cli import main
from kdprobe.errors import ConfigError, ResultError
from kdprobe.results import Result, save_result
from tests.saved_results import (
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
)

#: a result of each kind, and what is called something else in its picture
CASES: dict[str, tuple[Result, str]] = {
    "cka": (cka_result(2, 3), "blocks.0"),
    "cka-over-time": (over_time_result(2), "blocks.0"),
    "comparison": (comparison_result(), "kd"),
    "compound": (compound_result(), "dropkd"),
    "diagnosis": (diagnosis_result(), "feature"),
    "dropout-sweep": (dropout_result(2, (0.3, 0.5)), ""),  # only numbers are named
    "evaluation": (evaluation_result(("plain", "kd"), 3), "kd"),
    "examples": (examples_result(2), "vit_tiny"),
    "fidelity": (fidelity_result(), "kd"),
    "images": (images_result(n_classes=3), "plain"),
    "inherited-errors": (inherited_errors_result(3), "kd"),
    "knowledge": (knowledge_result(2), "blocks.0"),
    "knowledge-comparison": (knowledge_comparison_result(), "kd"),
    "map": (map_result(2, 2), "kd0"),
    "reliability": (reliability_result(), "kd"),
    "similarity": (similarity_result(), "blocks.0"),
    "training": (training_result(), "kd"),
    "tuned-comparison": (tuned_result(), "kd"),
}
OURS = ["#12ab34", "#ab1234", "#3412ab"]


def colours_in(picture: Any) -> set[str]:
    """The colours of all that is drawn, and of matrices those of the lowest and the highest value."""
    found: list[Any] = []
    for artist in picture.findobj():
        if isinstance(artist, Line2D | Text):
            found.append(artist.get_color())
        elif isinstance(artist, Patch):
            found += [artist.get_facecolor(), artist.get_edgecolor()]
        elif isinstance(artist, Collection):
            found += [*artist.get_facecolor(), *artist.get_edgecolor()]
        elif isinstance(artist, AxesImage) and artist.get_array().ndim == 2:
            found += [artist.get_cmap()(0.0), artist.get_cmap()(1.0)]
    return {to_hex(colour) for colour in found if not (isinstance(colour, str) and colour == "none")}


def texts_in(picture: Any) -> str:
    return " ".join(" ".join(text.get_text().split()) for text in picture.findobj(Text))


@pytest.mark.parametrize("kind", FIGURES)
def test_a_result_is_drawn_where_and_as_it_is_told(kind: str) -> None:
    result, name = CASES[kind]
    names = {name: "called so"} if name else {}
    one_panel = "ax" in inspect.signature(FIGURES[kind]).parameters
    whole = Figure(figsize=(18, 10))
    left, right = whole.subfigures(1, 2)
    place: Any = right.add_axes((0.2, 0.2, 0.6, 0.6)) if one_panel else right
    before = dict(mpl.rcParams)
    drawn = FIGURES[kind](result, **{"ax" if one_panel else "fig": place}, names=names, palette=OURS)
    assert drawn is place
    assert dict(mpl.rcParams) == before
    assert not left.get_children()[1:]  # nothing but its background
    assert right.axes
    assert "called so" in texts_in(right) or not name
    assert name not in texts_in(right).split() or not name
    shown = colours_in(right)
    assert {to_hex(colour) for colour in OURS[:1]} <= shown
    assert not shown & (set(PALETTE) - {PALETTE[1], PALETTE[6]})  # the best cell's frame, and black


@pytest.mark.parametrize("kind", [kind for kind in FIGURES if "ax" in inspect.signature(FIGURES[kind]).parameters])
def test_a_picture_with_one_panel_also_fills_a_part_of_a_figure(kind: str) -> None:
    upper, lower = Figure(figsize=(5, 10)).subfigures(2, 1)
    axes = figures.draw(CASES[kind][0], fig=lower)
    assert isinstance(axes, Axes)
    assert axes.get_figure() is lower
    assert not upper.axes
    with pytest.raises(ResultError, match="a picture is drawn into ax or into fig, but both are given"):
        figures.draw(CASES[kind][0], fig=lower, ax=axes)


def test_what_a_picture_cannot_be_drawn_into_is_told() -> None:
    figure = Figure(figsize=(6, 1))
    with pytest.raises(ResultError, match="kind 'comparison' takes no ax; it has several panels: give fig"):
        figures.draw(comparison_result(), ax=figure.subplots())
    with pytest.raises(ResultError, match=r"this picture needs \d+ mm of height at this width .* its figure has 25 mm"):
        figures.draw(comparison_result(), fig=figure)


def test_given_axes_keep_the_users_settings_unless_a_style_is_chosen() -> None:
    sizes = []
    for style in (None, "slides", "paper"):
        with mpl.rc_context({"font.size": 20.0}):
            if style is None:
                axes = figures.draw(cka_result(2, 2), ax=Figure().subplots())
            else:
                with figures.drawing_style(style):
                    axes = figures.draw(cka_result(2, 2), ax=Figure().subplots())
        assert isinstance(axes, Axes)
        sizes.append(axes.get_yticklabels()[0].get_fontsize())
    assert sizes == [20.0, 13.0, 6.5]


def test_slides_have_larger_type_and_thicker_lines_and_are_wide() -> None:
    looks = []
    for style in ("paper", "slides"):
        with figures.drawing_style(style):
            figure = figure_of(figures.draw(training_result()))  # type: ignore[arg-type]
        width, height = figure.get_size_inches()
        looks.append((figure.axes[0].xaxis.label.get_size(), figure.axes[0].lines[0].get_linewidth(), width / height))
    paper, slides = looks
    assert [one / other for one, other in zip(slides[:2], paper[:2], strict=True)] == [2, 2]
    assert slides[2] >= 16 / 9


@pytest.mark.parametrize("width", ["column", "page", 120, "60"])
def test_a_width_is_that_of_new_figures(width: Any) -> None:
    with figures.drawing_style(width=width):
        figure = figure_of(figures.draw(comparison_result()))  # type: ignore[arg-type]
    expected = {"column": 82.55, "page": 174.625}.get(width) or float(width)
    assert 25.4 * figure.get_figwidth() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"name": "slide"}, r"a style is paper or slides, but got 'slide'; did you mean 'slides'"),
        ({"width": "59"}, "a width is column, page, or a number of millimetres from 60 to 1000, but got '59'"),
        ({"width": "wide"}, "a number of millimetres from 60 to 1000, but got 'wide'"),
        ({"width": float("nan")}, "a number of millimetres from 60 to 1000, but got nan"),
        ({"name": "slides", "width": 119}, "a number of millimetres from 120 to 1000, but got 119"),
        ({"palette": "colourful"}, "a palette is colours, .* or a name that seaborn knows, but got 'colourful'"),
        ({"palette": "viridiss"}, "but got 'viridiss'; did you mean 'viridis' or"),
        ({"palette": "colorblnd"}, "but got 'colorblnd'; did you mean 'colorblind'"),
        ({"palette": ["red", "rde"]}, "a palette is colours"),
        ({"palette": []}, "a palette is colours"),
    ],
)
def test_looks_that_there_are_not_are_told(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message), figures.drawing_style(**given):
        pass


def test_palettes_have_names() -> None:
    (line, *_) = figures.draw(training_result(), palette="colorblind").axes[0].lines  # type: ignore[union-attr]
    assert to_hex(line.get_color()) == "#0173b2"
    axes = figures.draw(cka_result(2, 2), palette="viridis")
    assert to_hex(axes.images[0].cmap(0.0)) == to_hex(mpl.colormaps["viridis"](0.125))  # type: ignore[union-attr]


def test_the_command_takes_styles_and_widths_or_says_in_one_line_what_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_result(cka_result(2, 2), tmp_path / "cka.npz", table="")
    words = ["figures", str(tmp_path / "cka.npz"), "--format", "svg", "--quiet"]
    main([*words, "--width", "100"])
    assert 'width="283.464567pt"' in (tmp_path / "cka.svg").read_text()
    main([*words, "--style", "slides", "--width", "column"])
    assert 'width="432pt"' in (tmp_path / "cka.svg").read_text()
    for wrong in (["--width", "10"], ["--width", "A4"], ["--style", "poster"]):
        with pytest.raises(SystemExit) as stop:
            main([*words, *wrong])
        assert stop.value.code == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_kinds_of_packages_are_drawn_with_the_options_that_their_functions_take(monkeypatch: Any) -> None:
    def drawn(result: Result, palette: Any) -> Figure:
        figure = Figure()
        figure.text(0, 0, " ".join(result.facts["names"]), color=palette[0])
        return figure

    monkeypatch.setitem(FIGURES, "training", drawn)  # type: ignore[arg-type]
    picture = figures.draw(training_result(), names={"kd": "called so"}, palette=OURS)
    assert "called so" in texts_in(picture)
    with pytest.raises(ResultError, match="a picture of kind 'training' takes no fig"):
        figures.draw(training_result(), fig=Figure())


def test_every_kind_has_a_case_here() -> None:
    assert CASES.keys() == FIGURES.keys()
    assert all(result.kind == kind for kind, (result, _) in CASES.items())
