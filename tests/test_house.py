"""The rules of the house: what stands where, which way dependencies point, how large things are, what tests match."""

import ast
import re
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path

import click
import pytest

from kdprobe.cli import group as cli

ROOT = Path(__file__).parent.parent
PACKAGES = ("kdprobe", "analyses", "figures")

#: the core's folders from the ground up: each may import those before it; the loose files and the first two, each other
GROUND = ("", "formats", "terminal", "config")
_STOREYS = (
    *("runs", "data", "models", "runtime", "features", "exports"),
    *("distillers", "teachers", "training", "sweeps", "tuning", "cli"),
)
FOLDERS = (GROUND, *((name,) for name in _STOREYS))
FIGURES_MAY_IMPORT = (
    "kdprobe",
    "kdprobe.results",
    "kdprobe.kinds",
    "kdprobe.errors",
    "kdprobe.mean_interval",
    "kdprobe.formats",
)

MOST_LOOSE_FILES, MOST_MODULES = 12, 16
LIGHT = {"atexit", "click", "contextvars", "fcntl", "gc", "json", "shlex", "signal"}  # what `kdprobe --help` may import
MOST_LINES, LONGEST_BODY, LONGEST_CLASS = 400, 50, 280
CROWDED = ("kdprobe/distillers", "figures/pictures", "figures/report")  # one file for each method, picture, section

#: names that modules have in common on purpose: each file format says its own, and each process enters by `main`
SHARED = {"FORMAT", "VERSION", "main"}


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


ALL = [path for package in PACKAGES for path in sources(package)]


def module_name(path: Path) -> str:
    """Dotted; that of an `__init__` is its package's."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in ALL}


def statements(node: ast.AST) -> Iterator[ast.AST]:
    """Everything below a node but what is there for type checkers alone."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        yield child
        yield from statements(child)


def imports(path: Path) -> set[str]:
    """Full names of all our modules that a file imports, wherever in the file."""
    found = set()
    for node in statements(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            inside = {alias.name: f"{node.module}.{alias.name}" for alias in node.names}
            found |= {full if full in MODULES else node.module for full in inside.values()}
    return {name for name in found if name.split(".")[0] in PACKAGES}


def floor(name: str) -> int:
    """Which of FOLDERS a module of the core stands in."""
    parts = name.split(".")
    folder = parts[1] if len(parts) > 1 and (ROOT / "kdprobe" / parts[1]).is_dir() else ""
    return next(number for number, folders in enumerate(FOLDERS) if folder in folders)


# Dependencies


@pytest.mark.parametrize("path", sources("kdprobe"), ids=module_name)
def test_the_core_imports_downwards_only(path):
    if path.parent == ROOT / "kdprobe" and path.name in ("__init__.py", "__main__.py"):
        return  # the faces of the whole
    own = floor(module_name(path))
    for name in imports(path):
        assert name.startswith("kdprobe"), f"{path.name} imports {name}"
        assert name == "kdprobe" or floor(name) <= own, f"{path.name} imports {name} from a folder above"


@pytest.mark.parametrize("path", sources("analyses"), ids=module_name)
def test_analyses_do_not_import_figures(path):
    assert not [name for name in imports(path) if name.startswith("figures")]


@pytest.mark.parametrize("path", sources("figures"), ids=module_name)
def test_figures_read_results_and_nothing_else(path):
    allowed = FIGURES_MAY_IMPORT + (("kdprobe.cli", "kdprobe.terminal") if path.name == "commands.py" else ())
    for name in imports(path) - set(allowed):
        assert name.startswith(("figures", "kdprobe.formats.", "kdprobe.cli.", "kdprobe.terminal.")), name
        assert name.startswith("figures") or any(name.startswith(f"{one}.") for one in allowed[1:]), name


def test_no_modules_import_each_other_in_a_circle():
    arrows = {name: {one for one in imports(path) if one in MODULES} - {name} for name, path in MODULES.items()}
    while leaves := [name for name, others in arrows.items() if not others]:  # what imports nothing that is left
        for name in leaves:
            del arrows[name]
        arrows = {name: others - set(leaves) for name, others in arrows.items()}
    assert not arrows


def test_help_imports_little_more_than_click_and_lists_the_commands():
    """It takes no more than twice the time of an empty command; what decides it are imports."""
    code = (
        "import importlib.metadata, runpy, sys\n"
        "import click\n"
        "click.command(lambda: None).main(['--help'], standalone_mode=False)\n"
        "before, sys.argv = set(sys.modules), ['kdprobe', '--help']\n"
        "try: runpy.run_module('kdprobe', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "print('MORE', *sys.modules.keys() - before)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    more = done.stdout.partition("MORE")[2].split()
    own = [name for name in more if name.partition(".")[0] in PACKAGES]
    assert len(own) <= 60
    assert {name.partition(".")[0] for name in more if name[0] != "_"} - {*PACKAGES} <= LIGHT
    for command in ("train", "cka", "evaluate", "dump", "demo", "figures", "report", "runs"):
        assert f"\n  {command} " in done.stdout
    assert "cannot be imported" not in done.stdout


@pytest.mark.slow
def test_a_training_on_the_digits_and_its_listing_import_nothing_that_they_do_not_need(tmp_path):
    code = (
        "import sys, kdprobe\n"
        "few = ['--set', 'data.per_class=2', '--set', 'training.epochs=1', '--quiet']\n"
        "assert kdprobe.main(['train', 'digits/resnet8', '--out', 'teacher', *few]) == 0\n"
        "assert kdprobe.main(['train', 'digits/resnet8-kd', '--teacher', 'teacher', '--out', 'student', *few]) == 0\n"
        "assert kdprobe.main(['runs', 'ls', '.']) == 0\n"
        "heavy = {'timm', 'torchvision', 'sklearn', 'pandas', 'scipy', 'matplotlib', 'analyses', 'figures'}\n"
        "print('HEAVY', sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert "HEAVY []" in done.stdout


# Sizes


def test_few_loose_files_and_modules_in_a_folder():
    modules = Counter(path.parent for path in ALL if path.name != "__init__.py")
    loose = [path.name for path in (ROOT / "kdprobe").glob("*.py")]
    assert len(loose) <= MOST_LOOSE_FILES, sorted(loose)
    folders = {str(folder.relative_to(ROOT)): count for folder, count in modules.items()}
    assert not {name: count for name, count in folders.items() if count > MOST_MODULES and name not in CROWDED}


def _n_lines(path: Path) -> int:
    """Lines of a module without the examples at the ends of its docstrings, which are for readers of the reference."""
    documented = ast.Module | ast.ClassDef | ast.FunctionDef
    texts = [ast.get_docstring(node) or "" for node in ast.walk(tree(path)) if isinstance(node, documented)]
    parts = [text.partition("\n\nExample:\n    >>>") for text in texts if ">>>" in text]
    examples = sum(code.count("\n") + 3 + ("\n" not in told) for told, _, code in parts)
    return len(path.read_text(encoding="utf-8").splitlines()) - examples


def _span(nodes: list[ast.stmt]) -> int:
    return (nodes[-1].end_lineno or 0) - nodes[0].lineno + 1 if nodes else 0


@pytest.mark.parametrize("path", ALL, ids=module_name)
def test_modules_classes_and_bodies_are_short(path):
    assert _n_lines(path) <= MOST_LINES
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ClassDef):
            assert _span([node]) <= LONGEST_CLASS, node.name
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) is not None else node.body
            assert _span(body) <= LONGEST_BODY, node.name


# Names


def test_no_module_bears_the_name_of_a_standard_one():
    assert not [name for name in MODULES if name.rpartition(".")[2] in sys.stdlib_module_names]


def _is_command(node: ast.FunctionDef | ast.ClassDef) -> bool:
    """A command is found by its entry point and never imported by name, so it may be called what it runs."""
    calls = [one.func if isinstance(one, ast.Call) else one for one in node.decorator_list]
    return any(isinstance(call, ast.Attribute) and call.attr in ("command", "group") for call in calls)


def _defined(path: Path) -> Iterator[str]:
    """Public names that a module itself defines at its top."""
    for node in tree(path).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not _is_command(node):
            yield node.name
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (one.id for target in targets for one in ast.walk(target) if isinstance(one, ast.Name))


def test_a_public_name_is_defined_in_one_module_only():
    homes = defaultdict(set)
    for module, path in MODULES.items():
        for name in _defined(path):
            if not name.startswith("_") and name not in SHARED:
                homes[name].add(module)
    assert not {name: sorted(modules) for name, modules in homes.items() if len(modules) > 1}


FACES = [path for path in ALL if path.name == "__init__.py"]


@pytest.mark.parametrize("path", FACES, ids=module_name)
def test_a_face_shows_what_it_says(path):
    name = module_name(path)
    shown = {
        alias.asname or alias.name
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname == alias.name
    }
    package = import_module(name)
    public = set(getattr(package, "__all__", ()))
    assert shown <= public, f"{name} shows names that are not in its __all__"
    assert public <= set(dir(package))
    modules = {one.stem for one in path.parent.glob("*.py")} | {
        one.name for one in path.parent.iterdir() if one.is_dir()
    }
    assert not public & modules, f"{name}: public names that are modules' names too"
    for one in public:
        assert getattr(package, one) is not None


@pytest.mark.slow
def test_public_names_load_lazily_and_stay_what_they_are():
    code = (
        "import sys, kdprobe, kdprobe.features, kdprobe.models, kdprobe.data, kdprobe.runs\n"
        "assert not {'torch', 'h5py', 'pandas'} & set(sys.modules)\n"
        "import kdprobe.features.capturing, kdprobe.models.creation, kdprobe.models.cifar\n"
        "assert kdprobe.capture is kdprobe.features.capture is kdprobe.features.capturing.capture\n"
        "assert kdprobe.models.create is kdprobe.models.creation.create\n"
        "assert kdprobe.models.cifar_resnet is kdprobe.models.cifar.cifar_resnet\n"
        "assert callable(kdprobe.capture) and callable(kdprobe.load)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    import kdprobe

    with pytest.raises(AttributeError, match="module 'kdprobe' has no attribute 'nothing'"):
        _ = kdprobe.nothing


# Errors


def _texts(node: ast.AST) -> list[str]:
    """The literal texts in a node, those inside f-strings too."""
    found = [one.value for one in ast.walk(node) if isinstance(one, ast.Constant) and isinstance(one.value, str)]
    return [text for text in found if text.strip()]


@cache
def told_in_tests() -> str:
    """All texts in tests, patterns without their backslashes."""
    files = sorted((ROOT / "tests").rglob("*.py"))
    texts = (re.sub(r"\\(.)", r"\1", text) for path in files for text in _texts(tree(path)))
    return " ".join(" ".join(text.split()) for text in texts)


def _stands_in_tests(texts: list[str]) -> bool:
    """Whether three words in a row of a message do, or a whole shorter piece; one word only if there are no others."""
    pieces = [text.split() for text in texts]
    pieces = [words for words in pieces if len(words) > 1] or pieces
    runs = [words[start:][:3] for words in pieces for start in range(max(1, len(words) - 2))]
    return any(" ".join(run) in told_in_tests() for run in runs)


@pytest.mark.parametrize("path", ALL, ids=module_name)
def test_every_error_is_matched_by_a_test(path):
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            texts = [text for argument in node.exc.args for text in _texts(argument)]
            assert not texts or _stands_in_tests(texts), f"{path.name}:{node.lineno}: {' ... '.join(texts)}"


# Commands


def _options(path: Path) -> Iterator[str]:
    """The flags that a module declares."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "option":
            yield from (text for one in node.args for text in _texts(one) if text.startswith("--"))


def test_an_option_of_several_commands_is_declared_among_the_options():
    shared = ROOT / "kdprobe" / "cli" / "options.py"
    homes = defaultdict(list)
    for path in ALL:
        for flag in _options(path):
            homes[flag].append(path.relative_to(ROOT).as_posix())
    own = set(_options(shared))
    again = {flag: places for flag, places in homes.items() if len(places) > (flag in own) and len(places) > 1}
    assert not again


@pytest.mark.parametrize("name", sorted(cli._entry_points()))
def test_every_command_has_help_with_an_example(name):
    command = cli.cli.get_command(click.Context(cli.cli), name)
    members = command.commands.values() if hasattr(command, "commands") else []
    for member in [command, *members]:
        assert "kdprobe" in (member.help or ""), f"{name} {member.name} shows no example"


# Results


def test_every_kind_of_result_has_one_producer_and_is_shown():
    from figures.pictures import FIGURES
    from figures.report import SECTIONS
    from kdprobe.kinds import KINDS

    made = Counter(
        node.args[0].value
        for path in [*sources("kdprobe"), *sources("analyses")]
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "Result"
        if node.args and isinstance(node.args[0], ast.Constant)
    )
    assert made == dict.fromkeys(KINDS, 1)
    assert set(KINDS) <= FIGURES.keys() | SECTIONS.keys()
