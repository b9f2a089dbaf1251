"""What README and CITATION say, as far as it can be run: its Python on small networks at the places that it names."""

import re
from pathlib import Path

import pytest
import yaml

from kdprobe import __version__
from kdprobe.cli import group as cli
from kdprobe.models import create, save

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)  # where `kdprobe demo` would have left its runs
    vit = {"patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 3}
    teacher = create("vit_tiny_patch16_224", n_classes=10, image_size=16, args=vit)
    save(teacher, tmp_path / "demo/runs/teacher/last.safetensors")
    save(create("resnet8", n_classes=10, image_size=16), tmp_path / "demo/runs/dropkd-seed0/last.safetensors")
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    scope: dict[str, object] = {"__name__": "readme"}
    exec(compile(code, "README.md", "exec"), scope)
    shown = capsys.readouterr().out
    assert all(layer in shown for layer in ("blocks.0", "blocks.1", "layer1", "layer3"))
    assert "torch.Size([64, 64])" in shown


def test_every_command_exists() -> None:
    named = set(re.findall(r"`kdprobe ([a-z-]+)", README))
    assert named >= {"train", "cka", "figures"}
    assert named <= set(cli._entry_points())


def test_every_file_that_is_named_exists() -> None:
    named = set(re.findall(r"`((?:kdprobe|analyses|figures|tests|docs)/[\w./-]+)`", README))
    assert named
    assert not {name for name in named if not (ROOT / name).exists()}


def test_the_citation_is_one() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert (cited["cff-version"], cited["version"]) == ("1.2.0", __version__)
    paper = cited["preferred-citation"]
    assert (paper["year"], paper["start"], paper["end"]) == (2025, 8335, 8344)
    assert [author["family-names"] for author in paper["authors"]] == ["Lee", "Hong", "Shin", "Ku", "Ko"]
    authors = " and ".join(f"{one['family-names']}, {one['given-names']}" for one in paper["authors"])
    assert f"author    = {{{authors}}}" in README
    assert paper["title"] in README.replace("{CNNs}", "CNNs")
