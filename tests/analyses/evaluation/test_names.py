"""What networks are called: a sweep's runs by what tells them apart, all others by their paths."""

from pathlib import Path

import pytest

from analyses.evaluation.names import network_names
from tests.analyses.map.networks import write_run


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two methods with two seeds each, as a sweep leaves them, and a run of the same kind elsewhere."""
    folder = tmp_path_factory.mktemp("sweep") / "cells"
    told = [(method, seed) for method in ("kd", "at") for seed in (0, 1)]
    for place, (method, seed) in enumerate(told):
        write_run(folder / f"{place:016x}", f"method.name={method}", f"seed={seed}", teacher_sha256="taught")
    write_run(folder.parent / "kd", "method.name=kd", "seed=2", teacher_sha256="taught")
    return [str(folder / f"{place:016x}") for place in range(4)]


def test_runs_of_a_sweep_are_called_by_what_tells_them_apart(cells: list[str]) -> None:
    assert network_names(cells) == ["kd, seed 0", "kd, seed 1", "at, seed 0", "at, seed 1"]
    assert network_names(cells[1:2]) == ["kd"]
    assert network_names(cells[::2]) == ["kd", "at"]
    assert network_names([f"{cells[3]}/last.safetensors", cells[0]]) == ["at, seed 1", "kd, seed 0"]
    assert network_names([*cells[:2], "runs/vit"]) == ["kd, seed 0", "kd, seed 1", "vit"]


def test_others_keep_their_names(cells: list[str]) -> None:
    own = str(Path(cells[0]).parents[1] / "kd")
    assert network_names([own, cells[2]]) == ["kd", "at"]
    assert network_names([own, cells[0]]) == ["kd", "0" * 16]  # the same name twice would tell nothing
    assert network_names([f"{cells[0]}/best.safetensors"]) == ["best"]
    assert network_names([f"{cells[0]}/missing", "cells/0123456789abcdef"]) == ["missing", "0123456789abcdef"]
