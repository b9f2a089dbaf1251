"""The house's rules: which way dependencies point, and how much `kdprobe --help` may import."""

import ast
import subprocess
import sys
from pathlib import Path

import click
import pytest

from kdprobe.cli import group as cli

ROOT = Path(__file__).parent.parent
PACKAGES = ("kdprobe", "analyses", "figures")
GROUND = ("", "formats", "terminal")  # loose files first; these may import each other
_STOREYS = ("runs", "data", "models", "features", "distillers", "training", "sweeps", "cli")
FOLDERS = (GROUND, *((name,) for name in _STOREYS))
FIGURES_MAY_IMPORT = (
    "kdprobe.results",
    "kdprobe.kinds",
    "kdprobe.errors",
    "kdprobe.mean_interval",
    "kdprobe.formats.outputs",
    "figures",
)


def imports(path: Path) -> set[str]:
    """Full names of all our modules that a file imports, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module)
    return {name for name in found if name.split(".")[0] in PACKAGES}


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def floor(name: str) -> int:
    """Which of FOLDERS a module of the core stands in."""
    parts = name.split(".")
    folder = parts[1] if len(parts) > 1 and (ROOT / "kdprobe" / parts[1]).is_dir() else ""
    return next(number for number, folders in enumerate(FOLDERS) if folder in folders)


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


@pytest.mark.parametrize("path", sources("kdprobe"), ids=module_name)
def test_the_core_imports_downwards_only(path):
    if path.parent == ROOT / "kdprobe" and path.name in ("__init__.py", "__main__.py"):
        return  # the faces of the whole
    own = floor(module_name(path))
    for name in imports(path) - {"kdprobe"}:
        assert name.startswith("kdprobe"), f"{path.name} imports {name}"
        assert floor(name) <= own, f"{path.name} imports {name} from a folder above"


@pytest.mark.parametrize("path", sources("analyses"), ids=module_name)
def test_analyses_do_not_import_figures(path):
    assert not [name for name in imports(path) if name.startswith("figures")]


@pytest.mark.parametrize("path", sources("figures"), ids=module_name)
def test_figures_read_results_and_nothing_else(path):
    asked = ("kdprobe.cli", "kdprobe.cli.options", "kdprobe.terminal") if path.name == "commands.py" else ()
    assert not [name for name in imports(path) if not name.startswith((*FIGURES_MAY_IMPORT, *asked))]


def test_help_imports_nothing_heavy_and_lists_the_commands():
    code = (
        "import sys, runpy; sys.argv = ['kdprobe', '--help']\n"
        "try: runpy.run_module('kdprobe', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'pandas', 'matplotlib', 'numpy', 'scipy', 'timm', 'pydantic', 'h5py', 'yaml'}\n"
        "print('HEAVY', sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "HEAVY []" in done.stdout
    for command in ("train", "cka", "evaluate", "dump", "demo", "figures", "report", "runs"):
        assert f"\n  {command} " in done.stdout
    assert "cannot be imported" not in done.stdout


@pytest.mark.parametrize("name", sorted(cli._entry_points()))
def test_every_command_has_help_with_an_example(name):
    command = cli.cli.get_command(click.Context(cli.cli), name)
    assert command.help
    members = command.commands.values() if hasattr(command, "commands") else [command]
    for member in members:
        assert "kdprobe" in (member.help or ""), f"{name} {member.name} shows no example"


def test_public_names_load_lazily():
    code = "import sys, kdprobe; assert 'torch' not in sys.modules; kdprobe.load; assert 'torch' in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
    import kdprobe

    assert set(kdprobe.__all__) <= set(dir(kdprobe))
    with pytest.raises(AttributeError, match="module 'kdprobe' has no attribute 'nothing'"):
        _ = kdprobe.nothing
