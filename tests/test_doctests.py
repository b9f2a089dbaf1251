"""The examples in the docstrings of public names run, and print what they say."""

import doctest
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
import torch

ROOT = Path(__file__).parent.parent
#: modules that are public by themselves, not as the face of a package
MODULES = {"kdprobe.results": ("Result", "load_result", "save_result"), "kdprobe.kinds": ()}
#: methods that a reader meets in a notebook
METHODS = {"kdprobe.results.Result": ("to_frames", "to_xarray", "plot")}
#: what an example needs that is not always installed
NEEDS = {"kdprobe.results.Result.to_xarray": "xarray"}


def faces() -> list[str]:
    """The packages that say which of their names are public."""
    folders = [path.parent for top in ("kdprobe", "analyses", "figures") for path in (ROOT / top).rglob("__init__.py")]
    names = [".".join(folder.relative_to(ROOT).parts) for folder in sorted(folders)]
    return [name for name in names if getattr(import_module(name), "__all__", ())]


def public(face: str) -> dict[str, object]:
    """The public functions and classes of a module; numbers, texts and tables of them need no example."""
    module: ModuleType = import_module(face)
    found = {name: getattr(module, name) for name in MODULES.get(face) or module.__all__}
    return {f"{face}.{name}": one for name, one in found.items() if callable(one)}


ALL = {name: one for face in [*faces(), *MODULES] for name, one in public(face).items()}
ALL |= {f"{name}.{method}": getattr(ALL[name], method) for name, methods in METHODS.items() for method in methods}


def test_all_faces_are_looked_at():
    assert {"kdprobe", "kdprobe.config", "kdprobe.runs", "kdprobe.training.loggers", "analyses.images"} <= {*faces()}
    assert {"figures.report.KindSection", "kdprobe.kinds.Values", "analyses.cka.cka"} <= ALL.keys()


@pytest.mark.parametrize("name", ALL)
def test_the_example_of_a_public_name_prints_what_it_says(name, tmp_path, monkeypatch):
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    examples = doctest.DocTestFinder(recurse=False).find(ALL[name], name, module=False, globs={"__name__": "doctest"})
    assert sum(len(one.examples) for one in examples) > 1, f"the docstring of {name} has no example"
    runner, told = doctest.DocTestRunner(verbose=False), []
    for one in examples:
        runner.run(one, out=told.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(told)
