"""The examples in the docstrings of public names run, and print what they say."""

import doctest
from importlib import import_module

import pytest
import torch

FACES = (
    *("kdprobe", "kdprobe.data", "kdprobe.models", "kdprobe.features", "kdprobe.distillers", "kdprobe.results"),
    *("analyses.cka", "analyses.similarity", "analyses.knowledge", "analyses.evaluation", "analyses.fidelity"),
    *("analyses.diagnosis", "analyses.map", "figures"),
)


def public(face):
    """The public functions and classes of a module."""
    module = import_module(face)
    names = getattr(module, "__all__", None) or ["Result", "load_result", "save_result"]
    found = {name: getattr(module, name) for name in names}
    return {f"{face}.{name}": one for name, one in found.items() if callable(one)}


ALL = {name: one for face in FACES for name, one in public(face).items()}


@pytest.mark.parametrize("name", ALL)
def test_the_example_of_a_public_name_prints_what_it_says(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    examples = doctest.DocTestFinder(recurse=False).find(ALL[name], name, module=False, globs={"__name__": "doctest"})
    assert sum(len(one.examples) for one in examples) > 1, f"the docstring of {name} has no example"
    runner, told = doctest.DocTestRunner(verbose=False), []
    for one in examples:
        runner.run(one, out=told.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(told)
