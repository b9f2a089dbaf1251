"""What commands do with their results."""

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from kdprobe.cli import saving as module
from kdprobe.cli.saving import Saving
from kdprobe.errors import OutputError
from kdprobe.provenance import running
from kdprobe.results import load_result
from tests.saved_results import training_result


@pytest.fixture
def drawn(monkeypatch):
    """What `figures` is asked for."""
    asked = []
    monkeypatch.setattr(module, "run", lambda *words: asked.append(words))
    return asked


def test_results_are_saved_with_their_tables_and_drawn_together(tmp_path, drawn):
    paths = [tmp_path / "a.npz", tmp_path / "b.npz"]
    saving = Saving(dict.fromkeys(paths, "training"), overwrite=True, quiet=False)
    result = training_result()
    saving.save(paths[0], result, pd.DataFrame({"a": [1]}), answers=pd.DataFrame({"b": [2]}))
    saving.save(paths[1], result, "a\n1\n")
    saving.draw()
    assert drawn == [("figures", *paths, "--overwrite")]
    tables = [(tmp_path / name).read_text() for name in ("a.csv", "a-answers.csv", "b.csv")]
    assert tables == ["a\n1\n", "b\n2\n", "a\n1\n"]
    np.testing.assert_array_equal(load_result(paths[1]).arrays["accuracy"], result.arrays["accuracy"])


@pytest.mark.parametrize("name", ["a.csv", "a.png", "a-answers.csv"])
def test_what_is_in_the_way_is_found_before_anything_is_computed(name, tmp_path):
    (tmp_path / name).write_text("precious")
    kinds, tables = {tmp_path / "a.npz": "training"}, (".csv", "-answers.csv")
    with pytest.raises(OutputError, match=re.escape(name)):
        Saving(kinds, tables=tables, overwrite=False, quiet=True)
    Saving(kinds, tables=tables, overwrite=True, quiet=True)


def test_a_picture_that_is_not_drawn_is_not_in_the_way(tmp_path):
    (tmp_path / "a.png").write_text("precious")
    Saving({tmp_path / "a.npz": "training"}, drawn=False, overwrite=False, quiet=True)


def test_what_is_replaced_is_said_with_the_command_that_made_it(tmp_path, drawn, capsys):
    path, made = tmp_path / "a.npz", training_result()
    for kernel in ("linear", "linear", "rbf"):
        origin = {**made.provenance, "command": f"kdprobe cka --kernel {kernel}"}
        with running(["cka", "--kernel", kernel]):
            result = replace(made, provenance=origin)
            Saving({path: "training"}, overwrite=True, quiet=False).save(path, result, "a\n1\n")
    assert capsys.readouterr().err == f"{path} replaces what `kdprobe cka --kernel linear` made\n"
    Saving({path: "training"}, overwrite=True, quiet=True).save(path, made, "a\n1\n")
    assert capsys.readouterr().err == ""
