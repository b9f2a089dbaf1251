"""The examples of CONTRIBUTING, run as they stand there."""

import configparser
import re
import sys
from importlib import import_module, invalidate_caches
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from analyses.similarity import measures
from kdprobe import cli
from kdprobe.distillers import DISTILLERS, Progress
from kdprobe.errors import ModelError, ResultError
from kdprobe.models import Features, Shapes, create, save
from kdprobe.results import load_result

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def codes(heading: str) -> list[str]:
    """The Python of one section."""
    section = TEXT.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)


def run(code: str) -> dict[str, object]:
    scope: dict[str, object] = {"__name__": "example"}
    exec(compile(code, "CONTRIBUTING.md", "exec"), scope)
    return scope


@pytest.fixture(scope="module")
def example():
    (code,) = codes("Adding a distillation method")
    return run(code)["SP"]


def test_the_example_is_a_method(example):
    student, teacher = Shapes("a", (), (), 6, 3, None, 0), Shapes("b", (), (), 9, 3, None, 0)
    method = example(example.Options(weight=2.0), student, teacher)
    pooled = torch.randn(5, 6, generator=torch.Generator().manual_seed(0), requires_grad=True)
    other = Features(torch.zeros(5, 3), pooled=torch.randn(5, 9, generator=torch.Generator().manual_seed(1)))
    terms = method(Features(torch.zeros(5, 3), pooled=pooled), other, torch.zeros(5).long(), Progress(0, 1))
    terms["similarity"].backward()
    assert terms["similarity"] > 0
    assert pooled.grad.any()
    assert method(other, other, torch.zeros(5).long(), Progress(0, 1))["similarity"] == 0


def test_the_example_needs_what_it_says(example):
    bare = Shapes("bare", (), (), 0, 3, None, 0)
    with pytest.raises(ModelError, match="'sp' needs a teacher"):
        example(example.Options(), bare, None)
    with pytest.raises(ModelError, match="'sp' needs pooled features, which bare does not offer"):
        example(example.Options(), bare, bare)


def test_every_method_names_its_source():
    assert all(method.reference for name, method in DISTILLERS.items() if name != "plain")


def test_the_example_is_a_measure(monkeypatch):
    (code,) = codes("Adding a measure of similarity")
    monkeypatch.setitem(measures.MEASURES, "rv", run(code)["RVCoefficient"]())
    rv, generator = measures.find_measure("rv"), torch.Generator().manual_seed(0)
    x, y = torch.randn(30, 6, generator=generator), torch.randn(30, 4, generator=generator)
    turned = 3 * x @ torch.linalg.qr(torch.randn(6, 6, generator=generator)).Q + 1
    assert rv.between(x, turned) == pytest.approx(1, abs=1e-6)
    assert 0 < rv.between(x, y) < 0.7


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """The package of one module that the last three sections describe, as if it were installed."""
    code = [one for kind in ("kind of result", "picture", "command") for one in codes(f"Adding a {kind}")]
    assert len(code) == 3
    (tmp_path / "sureness.py").write_text("\n\n".join(code))
    said = configparser.ConfigParser()
    said.read_string(
        re.search(r"    \[options\.entry_points\]\n(?:    .*\n)+", TEXT)[0].replace("\n    ", "\n").strip()
    )
    metadata = tmp_path / "sureness-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: sureness\nVersion: 1\n")
    groups = (f"[{group}]\n{lines.strip()}\n" for group, lines in said["options.entry_points"].items())
    (metadata / "entry_points.txt").write_text("".join(groups))
    monkeypatch.syspath_prepend(tmp_path)
    invalidate_caches()
    yield tmp_path
    sys.modules.pop("sureness", None)


def test_the_example_is_a_kind_with_a_picture_and_a_command(installed, capsys):
    save(create("resnet8", n_classes=10, image_size=8, data="digits"), installed / "net.safetensors")
    path = installed / "sureness.npz"
    cli.run("sureness", installed / "net.safetensors", "--out", path, "--quiet")
    assert str(path) in capsys.readouterr().out
    result = load_result(path, kind="sureness")
    assert result.arrays["sureness"].shape == (1, 10)
    assert (result.arrays["sureness"] > 0.1).all()

    figure = import_module("figures").draw(path)
    assert figure.axes[0].get_ylabel() == "mean largest probability in %"
    plt.close("all")

    sureness = import_module("sureness")
    logits, labels = torch.tensor([[0.0, 0.0], [9.0, -9.0]]), torch.tensor([0, 0])
    assert sureness.mean_sureness(logits, labels, 2).isnan().tolist() == [False, True]
    result.arrays["sureness"] = np.full((1, 10), 2.0)
    with pytest.raises(ResultError, match="sureness"):
        import_module("kdprobe.results").save_result(result, path, table="", overwrite=True)


def test_the_house_is_as_it_says():
    named = re.findall(r"`((?:kdprobe|analyses|figures|tests)/[\w./]+?)(?::[^`]*)?`", TEXT)
    assert len(named) > 10
    assert not [name for name in named if not (ROOT / name).exists()]
    inner = re.findall(
        r"`((?:data|models|features|distillers|training|runs|results|recipe|config)[\w/]*\.py)[:`]", TEXT
    )
    assert not [name for name in inner if not (ROOT / "kdprobe" / name).exists()]
    for file, name in re.findall(r"`([\w/]+\.py): (\w+)`", TEXT):
        path = next(one for one in (ROOT / file, ROOT / "kdprobe" / file) if one.exists())
        assert re.search(rf"^(?:def|class) {name}\b|^{name}\b", path.read_text(encoding="utf-8"), flags=re.MULTILINE), (
            file
        )
