"""What README and CITATION say, as far as it can be run: its Python on small networks at the places that it names."""

import re
import runpy
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


def targets(text: str) -> list[str]:
    """Where links and pictures lead, in Markdown's forms and in HTML's."""
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    forms = (r"\]\(<?([^)\s>]+)", r"^ *\[[^\]]+\]: *<?(\S+)", r"(?:src|href) *= *[\"']([^\"']+)")
    return [found for form in forms for found in re.findall(form, text, flags=re.MULTILINE)]


def test_on_a_package_index_all_links_lead_to_the_repository() -> None:
    absolute_links = runpy.run_path(str(ROOT / "setup.py"))["absolute_links"]
    made = absolute_links(README, "https://example.org/kd/probe/")
    relative = [one for one in targets(README) if "://" not in one]
    assert len(relative) > 30
    assert not [one for one in targets(made) if not one.startswith("https://")]
    base = "https://example.org/kd/probe"
    assert f"]({base}/raw/main/docs/tutorial/demo.png)\n" in made
    assert f"[tutorial]({base}/blob/main/docs/tutorial/index.md)" in made
    back = made.replace(f"{base}/raw/main/", "").replace(f"{base}/blob/main/", "")
    assert back == README
    led = re.findall(rf"{base}/(?:raw|blob)/main/([^)#]+)", made)
    assert sorted(led) == sorted(one.partition("#")[0] for one in relative)
    assert not [one for one in led if not (ROOT / one).is_file()]


def test_what_is_no_relative_link_stays() -> None:
    absolute_links = runpy.run_path(str(ROOT / "setup.py"))["absolute_links"]
    kept = "[a](#here) [b](https://x.org/y) [c](mailto:a@x.org)\n```python\ncalls[0](arguments)\n```\n"
    assert absolute_links(kept, "https://e.org/r") == kept
    linked = "[![sign](./sign.svg)](docs/page.md#part) and `code`"
    raw, page = "https://e.org/r/raw/main/sign.svg", "https://e.org/r/blob/main/docs/page.md#part"
    assert absolute_links(linked, "https://e.org/r") == f"[![sign]({raw})]({page}) and `code`"
    with pytest.raises(ValueError, match=r"the address of the repository must begin with https://, but is 'e\.org/r'"):
        absolute_links(linked, "e.org/r")


def test_the_citation_is_one() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert (cited["cff-version"], cited["version"]) == ("1.2.0", __version__)
    paper = cited["preferred-citation"]
    assert (paper["year"], paper["start"], paper["end"]) == (2025, 8335, 8344)
    assert [author["family-names"] for author in paper["authors"]] == ["Lee", "Hong", "Shin", "Ku", "Ko"]
    authors = " and ".join(f"{one['family-names']}, {one['given-names']}" for one in paper["authors"])
    assert f"author    = {{{authors}}}" in README
    assert paper["title"] in README.replace("{CNNs}", "CNNs")
