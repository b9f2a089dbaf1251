"""The public names of the pictures, and what importing them costs."""

import subprocess
import sys
from pathlib import Path

import pytest
from matplotlib.axes import Axes

import figures
from analyses.cka.result import CKAResult
from figures.style import rendered
from kdprobe.errors import OutputError, ResultError
from kdprobe.results import save_result
from tests.saved_results import cka_result


@pytest.mark.slow
def test_importing_the_package_imports_nothing_heavy():
    code = "import sys, figures; assert not {'matplotlib', 'numpy', 'jinja2'} & set(sys.modules); figures.draw; "
    subprocess.run([sys.executable, "-c", code + "assert 'matplotlib' in sys.modules"], check=True)


def test_every_public_name_is_there():
    assert figures.__all__ == dir(figures)
    assert all(callable(getattr(figures, name)) for name in figures.__all__)
    with pytest.raises(AttributeError, match="module 'figures' has no attribute 'nothing'"):
        _ = figures.nothing


def test_results_files_and_analyses_are_drawn_alike(tmp_path):
    save_result(cka_result(), tmp_path / "cka.npz", table="")
    given = (cka_result(), tmp_path / "cka.npz", str(tmp_path / "cka.npz"), CKAResult.load(tmp_path / "cka.npz"))
    drawn = [figures.draw(one) for one in given]
    assert all(isinstance(axes, Axes) for axes in drawn)
    assert len({rendered(axes, "svg") for axes in drawn}) == 1


def test_what_is_no_result_is_not_drawn():
    with pytest.raises(ResultError, match="draw takes a result, its file, or what an analysis found, but got None"):
        figures.draw(None)


def test_a_picture_is_written_in_the_format_of_its_name(tmp_path: Path):
    axes = figures.draw(cka_result())
    figures.save_figure(axes, tmp_path / "cka.svg")
    assert (tmp_path / "cka.svg").read_text().startswith("<?xml")
    assert "student: resnet8, layer</text>" in (tmp_path / "cka.svg").read_text()  # text stays text
    with pytest.raises(OutputError, match=r"must end in \.pdf, \.png or \.svg, but .*cka\.jpg does not"):
        figures.save_figure(axes, tmp_path / "cka.jpg")
