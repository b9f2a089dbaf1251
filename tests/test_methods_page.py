"""The page of the methods and `kdprobe list methods` say what the methods say of themselves."""

import csv
import re
import runpy
from pathlib import Path

import pytest

import kdprobe
from kdprobe.distillers import DISTILLERS, Method
from kdprobe.distillers.described import describe_method, summary_of
from kdprobe.errors import ModelError

ROOT = Path(__file__).parents[1]
PUBLISHED = ROOT / "figures" / "paper" / "published"


def test_the_page_is_that_of_today():
    made = runpy.run_path(str(ROOT / "docs" / "reference" / "methods" / "page.py"))
    text = (ROOT / "docs" / "reference" / "methods.md").read_text(encoding="utf-8")
    assert made["page"]() == text, "run python docs/reference/methods/page.py"
    assert all(f"| `{name}` |" in text for name in DISTILLERS)


@pytest.mark.parametrize("name", [name for name, method in DISTILLERS.items() if method.published])
def test_a_published_accuracy_is_one_of_those_that_are_listed_with_their_sources(name):
    (value, where) = re.fullmatch(r"([\d.]+) \((.*)\)", DISTILLERS[name].published).groups()
    listed = [
        row for file in PUBLISHED.glob("*.csv") for row in csv.DictReader(file.read_text(encoding="utf-8").splitlines())
    ]
    pair = where.split(", ")[1]
    found = [
        row
        for row in listed
        if pair in (row.get("row"), "ResNet18") and value in f"{row.get('value')} {row.get('note')}"
    ]
    assert found, DISTILLERS[name].published


def test_the_command_shows_what_a_method_reads_and_what_its_options_are(capsys):
    assert kdprobe.main(["list", "methods", "rkd", "reviewkd"]) == 0
    shown = capsys.readouterr().out
    assert "rkd: Difference of the distances and angles between the pooled features of samples; widths may dif" in shown
    assert "The samples are those of the per-process batch (not gathered across devices).\n" in shown
    assert "  method.distance_weight = 25.0  (tuned log-uniform from 0.833 to 75)\n" in shown
    assert "  extra parameters  114,278 (ResNet56 to ResNet20)\n" in shown
    assert "  published         71.89 % (CIFAR-100, ResNet56 to ResNet20)\n" in shown
    assert "  method.warmup_epochs = 20  (tuned over 0, 20)\n" in shown


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("cc", 'form = "kernel"  (one of "kernel", "adjacent")'),
        ("srd", 'projector = "linear"  (one of "linear", "orthogonal")'),
        ("wkd", 'cost = "head"  ("head", or a .npy file of distances)'),
        ("sp", "stages = null  (pairs [[student's stage, teacher's], ...])"),
        ("fitnet", "stages = null  ([student's stage, teacher's])"),
    ],
)
def test_the_command_shows_what_an_option_may_be(name, line, capsys):
    assert kdprobe.main(["list", "methods", name]) == 0
    assert f"  method.{line}\n" in capsys.readouterr().out


@pytest.mark.parametrize("name", DISTILLERS)
def test_a_methods_summary_names_no_function_and_fits_a_line(name):
    summary = summary_of(DISTILLERS[name])
    assert "`" not in summary
    assert "_" not in summary
    assert 40 < len(summary) <= 110
    assert ("of networks that classify the plain mean of the last map by a linear layer" in summary) == (
        name in ("sdd", "cat_kd")
    )


def test_a_method_that_is_not_there_is_told(capsys):
    assert kdprobe.main(["list", "methods", "rdk"]) == 2
    assert re.search("no method 'rdk'; did you mean .*'rkd'", capsys.readouterr().err)


def test_a_method_that_takes_no_pair_says_why(monkeypatch):
    class Nowhere(Method):
        def __init__(self, options, student, teacher):
            raise ModelError("there is no place for it")

    monkeypatch.setitem(DISTILLERS, "nowhere", Nowhere)
    with pytest.raises(ModelError, match=r"'nowhere' is defined for none of ResNet56 to ResNet20, .*no place for it"):
        describe_method("nowhere")
