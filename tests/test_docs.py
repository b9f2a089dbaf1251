"""The documentation: links lead somewhere, commands take the options that are shown, the reference is the code's."""

import ast
import re
import runpy
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import click
import pytest
from matplotlib.figure import Figure

from kdprobe.cli import group as cli

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
BUILT = ("_build", "examples", "made")
PAGES = [path for path in sorted(DOCS.rglob("*.md")) if not set(path.relative_to(DOCS).parts) & set(BUILT)]
TEXTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *PAGES]
EXAMPLES = sorted((DOCS / "gallery").glob("*.py"))


def place(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


# Links


@pytest.mark.parametrize("path", TEXTS, ids=place)
def test_what_is_linked_is_there(path):
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    linked = {link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link}
    files = {link for link in linked if link and not set(Path(link).parts) & set(BUILT)}
    assert not {link for link in files if not (path.parent / link).exists()}


def test_every_page_is_in_a_table_of_contents_or_says_that_it_is_in_none():
    trees = [re.findall(r"```\{toctree\}\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL) for path in PAGES]
    listed = {
        page.resolve()
        for path, found in zip(PAGES, trees, strict=True)
        for tree in found
        for line in tree.split("\n")
        if line and not line.startswith(":")
        for page in path.parent.glob(f"{line}.md")
    }
    apart = {path for path in PAGES if path.read_text(encoding="utf-8").startswith("---\norphan: true\n")}
    assert not {place(path) for path in PAGES if path not in listed | apart} - {"docs/index.md"}


# Commands


def commands(text: str) -> Iterator[list[str]]:
    """The words of each line of code, and of each piece of code in sentences and tables, that begins with `kdprobe`."""
    fenced, code, prose = False, list[str](), list[str]()
    for line in text.splitlines():
        fenced ^= line.lstrip().startswith("```")
        (code if fenced or line.startswith("    ") else prose).append(line)
    for words in re.findall(r"(?<!`)`(kdprobe\s[^`]+)`(?!`)", "\n".join(prose)):
        yield shlex.split(words)
    for line in re.findall(r"^(?: {4})*(kdprobe (?:[^\n]*\\\n)*[^\n]*)", "\n".join(code), re.MULTILINE):
        yield shlex.split(line.replace("\\\n", " "), comments=True)


def test_commands_are_found_in_blocks_and_in_sentences():
    text = "As `kdprobe cka --run R` in\n`kdprobe\nruns ls`, not `kdprobe.load`:\n"
    text += "\n```bash\nkdprobe map A \\\n    --out B\n```\n"
    found = [["kdprobe", "cka", "--run", "R"], ["kdprobe", "runs", "ls"], ["kdprobe", "map", "A", "--out", "B"]]
    assert list(commands(text)) == found
    table = [words[1] for words in commands((ROOT / "README.md").read_text(encoding="utf-8"))]
    assert {"train", "runs", "cka", "fidelity", "map", "complexity", "export", "list"} <= set(table)


@pytest.mark.parametrize("path", TEXTS, ids=place)
def test_commands_take_the_options_that_are_shown(path):
    for _, name, *words in commands(path.read_text(encoding="utf-8")):
        if "|" in name or name.isupper() or name.startswith("-"):
            continue
        command = cli.cli.get_command(click.Context(cli.cli), name)
        assert command is not None, f"kdprobe {name}"
        used = [command]
        if isinstance(command, click.Group) and words and words[0].islower():
            members = words[0].split("|") if name != "sweep" or words[0] in command.commands else ["run"]
            assert set(members) <= set(command.commands), f"kdprobe {name} {words[0]}"
            used = [command.commands[member] for member in members]
        for one in used:
            known = {option for each in one.params for option in (*each.opts, *each.secondary_opts)} | {"--help"}
            assert {word.partition("=")[0] for word in words if word.startswith("--")} <= known, f"kdprobe {name}"


# The reference


@pytest.fixture(scope="module")
def reference():
    return runpy.run_path(str(DOCS / "sphinx_parts" / "reference.py"))


def test_the_configuration_is_shown_with_ranges_and_defaults(reference):
    text = reference["configuration_page"]()
    assert "| `data.image_size` | whole number, at least 8, at most 16384 | - | side of the network's input" in text
    assert "| `data.spec` | text | *must be given* |" in text
    assert '| `training.precision` | `auto`, `fp32`, `bf16`, `fp16` | `"auto"` |' in text
    assert "| `teacher.mean` | list of numbers | - | mean of each channel" in text
    assert "| `probe.every` | whole number, at least 1 | *must be given* |" in text
    assert "| `training.optimizer.betas` | list of numbers | `[0.9, 0.999]` |" in text
    assert not re.findall(r"^\| `\S+` \|.*\|\s*\|$", text, re.MULTILINE), "keys that nothing is said of"
    assert ">>>" not in text, "what stands below the attributes"
    text = reference["method_options_page"]()
    assert "| `temperature` | number, above 0 | `4.0` | T of the logit term. |" in text
    assert '| `cost` | "head", or a .npy file of distances | `"head"` |' in text


def test_kinds_of_results_and_dumps_are_shown_with_what_they_hold(reference):
    text = reference["results_page"]()
    assert "| *`p_values`* | [teacher_layers, student_layers] | numbers, from 0 to 1, NaN where undefined |" in text
    assert "| *`seeds`* | list of: whole number, one for each of the seeds |" in text
    assert "| `kind` | `feature` or `logit` |" in text
    text = reference["dumps_page"]()
    assert "| `/samples/index` | int64 | [n] | place of each sample in the split, in the order of the dump |" in text
    assert "| `/<role>/<layer>` | float64 | [k, b, b] | of `grams`: products of the centred features" in text
    assert "## Attributes of `/<role>/<layer>`\n" in text
    assert (
        '| `reduce` | name of a reduction | what is stored of each output, such as `gap`; where it is missing: `"'
        in text
    )
    assert "| `content` | `features` or `grams` | what is stored of each layer |" in text


#: faces for kdprobe's own rooms, which users need not import from
INSIDE = {"kdprobe.cli", "kdprobe.formats"}


def faces() -> set[str]:
    """The packages that load their public names on first use, by `kdprobe.face`."""
    packages = [path for root in ("kdprobe", "analyses", "figures") for path in (ROOT / root).rglob("__init__.py")]
    shown = [path for path in packages if "__getattr__, __dir__ = face(" in path.read_text(encoding="utf-8")]
    return {".".join(path.parent.relative_to(ROOT).parts) for path in shown}


def test_every_command_and_public_name_has_a_page(reference, tmp_path):
    (tmp_path / "commands").mkdir()
    (tmp_path / "commands" / "gone.rst").touch()
    reference["write_pages"](tmp_path)
    assert {path.stem for path in (tmp_path / "commands").iterdir()} == set(cli.OWN)
    written = {path.stem for path in (tmp_path / "api").iterdir()}
    listed = (DOCS / "reference" / "api.md").read_text(encoding="utf-8")
    assert set(re.findall(r"made/api/(\S+)", listed)) == written
    assert faces() - INSIDE <= written
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.md")}
    reference["write_pages"](tmp_path)
    assert {path: path.stat().st_mtime_ns for path in before} == before  # or Sphinx would read all of them again


# The gallery


def test_the_gallery_has_an_order():
    assert (DOCS / "gallery" / "ORDER").read_text(encoding="utf-8").split() != []
    assert sorted((DOCS / "gallery" / "ORDER").read_text(encoding="utf-8").split()) == [one.name for one in EXAMPLES]


def test_the_gallery_has_a_dozen_examples():
    assert len(EXAMPLES) >= 12


@pytest.mark.parametrize("path", EXAMPLES, ids=place)
def test_an_example_is_short_and_ends_in_a_picture(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 80
    last = ast.parse(re.split(r"^# %%.*$", text, flags=re.MULTILINE)[-1])
    bound = {
        name.id
        for one in last.body
        if isinstance(one, ast.Assign)
        for name in ast.walk(one.targets[0])
        if isinstance(name, ast.Name)
    }
    assert "figure" in bound


@pytest.fixture
def pictures(monkeypatch):
    """What runs the gallery, without Sphinx, and a processor that has worked for no time yet."""
    scrapers = ModuleType("sphinx_gallery.scrapers")
    scrapers.figure_rst = lambda paths, folder: f"{len(paths)} pictures"
    monkeypatch.setitem(sys.modules, "sphinx_gallery", ModuleType("sphinx_gallery"))
    monkeypatch.setitem(sys.modules, "sphinx_gallery.scrapers", scrapers)
    loaded = SimpleNamespace(**runpy.run_path(str(DOCS / "sphinx_parts" / "pictures.py")), worked=0.0)
    monkeypatch.setattr("os.times", lambda: (loaded.worked / 2, 0.0, loaded.worked / 2, 0.0, 1e9))
    loaded.reset({}, "example.py")
    return loaded


def scrape(pictures, path, block, **variables):
    images = iter(path.with_name(f"{number}.png") for number in range(3))
    said = {"src_file": str(path), "image_path_iterator": images, "example_globals": variables}
    return pictures.scrape(("code", block, 1), said, {"src_dir": str(path.parent)})


def test_the_gallery_is_not_built_with_an_example_that_is_slow_or_ends_without_a_picture(pictures, tmp_path):
    path = tmp_path / "example.py"
    path.write_text("x = 1\n\n# %%\n# Text\nfigure = draw(x)\n")
    figure = Figure((1, 1))
    assert scrape(pictures, path, "x = 1\n", x=1) == ""
    pictures.worked = 29.0
    assert scrape(pictures, path, "figure = draw(x)\n", x=1, figure=figure) == "1 pictures"
    assert (tmp_path / "0.png").stat().st_size > 0
    with pytest.raises(
        Exception, match=r"example\.py does not end in a picture: its last block leaves no new figure in"
    ):
        scrape(pictures, path, "figure = draw(x)\n", x=1, figure=figure)  # seen before
    pictures.worked = 31.0
    with pytest.raises(Exception, match=r"example\.py takes 31 s of processor time; at most 30 are allowed"):
        scrape(pictures, path, "x = 1\n", x=1)
    pictures.reset({}, "example.py")
    assert scrape(pictures, path, "x = 1\n", x=1) == ""
