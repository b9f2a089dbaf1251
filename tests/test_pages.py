"""The tutorial and the how-to pages: their Python and their commands run, on small networks in place of the demo's."""

import re
import shlex
from pathlib import Path

import pytest

import kdprobe

DOCS = Path(__file__).parents[1] / "docs"
ELSEWHERE = {"howto/own-images", "howto/own-networks", "howto/index"}  # and the loops
PAGES = [
    "tutorial/index",
    *(
        path.relative_to(DOCS).with_suffix("").as_posix()
        for path in sorted((DOCS / "howto").glob("*.md"))
        if f"howto/{path.stem}" not in ELSEWHERE
    ),
]


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """A folder in which `kdprobe demo` would have left its runs."""
    folder = tmp_path_factory.mktemp("demo")
    short = ["--set", "data.image_size=8", "--set", "data.per_class=2", "--set", "training.epochs=1", "--quiet"]
    vit = ["--set", "model.args={patch_size: 4, embed_dim: 24, depth: 3, num_heads: 3}"]
    runs = folder / "demo" / "runs"
    assert kdprobe.main(["train", "digits/demo-teacher", "--out", f"{runs}/teacher", *short, *vit]) == 0
    for name in ("plain", "kd"):
        told = ["--method", name, *(["--teacher", f"{runs}/teacher"] if name == "kd" else [])]
        assert kdprobe.main(["train", "digits/demo-student", "--out", f"{runs}/{name}-seed0", *told, *short]) == 0
    return folder


def blocks(page):
    """The blocks of a page that run: their language and text."""
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    found = re.findall(r"^( *)```(\w+)([^\n]*)\n(.*?)^\1```", text, re.DOTALL | re.MULTILINE)
    for indent, language, words, code in found:
        if language in ("python", "bash") and "no-run" not in words:
            yield language, re.sub(f"^{indent}", "", code, flags=re.MULTILINE)


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_shows_runs(page, demo, monkeypatch):
    monkeypatch.chdir(demo)
    scope = {"__name__": "page"}
    for language, code in blocks(page):
        if language == "python":
            exec(compile(code, page, "exec"), scope)
        else:
            for line in code.replace("\\\n", " ").splitlines():
                first, *words = shlex.split(line)
                again = ["--overwrite"] if "--out" in words and words[0] != "train" else []
                assert (first, kdprobe.main([*words, *again])) == ("kdprobe", 0)
