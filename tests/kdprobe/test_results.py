import json
import re
import subprocess
import sys

import numpy as np
import pytest

from kdprobe.errors import ResultError
from kdprobe.provenance import command_line, provenance, versions
from kdprobe.results import Result, by_checkpoint, load_result, save_result
from tests.saved_results import evaluation_result

RESULT = Result("poem", {"metre": np.array([[0.1, np.nan]])}, {"author": "vit"}, {"seed": 0})  # of no known kind


def test_a_result_survives_its_file(tmp_path):
    path = tmp_path / "poem.npz"
    save_result(RESULT, path, table="a,b\n1,2\n")
    loaded = load_result(path, kind="poem")
    assert np.array_equal(loaded.arrays["metre"], RESULT.arrays["metre"], equal_nan=True)
    assert (loaded.kind, loaded.facts, loaded.provenance) == ("poem", RESULT.facts, RESULT.provenance)
    assert (tmp_path / "poem.csv").read_text() == "a,b\n1,2\n"


def test_a_result_without_a_table_of_its_own_gets_that_of_its_arrays(tmp_path):
    save_result(RESULT, tmp_path / "poem.npz")
    assert (tmp_path / "poem.csv").read_text() == "metre_0,metre_1,metre\n0,0,0.1\n0,1,\n"


def test_the_same_result_gives_the_same_bytes(tmp_path):
    for name in ("a.npz", "b.npz"):
        save_result(RESULT, tmp_path / name, table="")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_a_name_must_end_in_npz(tmp_path):
    with pytest.raises(ResultError, match=r"a result's name must end in \.npz, but .*poem\.txt does not"):
        save_result(RESULT, tmp_path / "poem.txt", table="")


def test_missing_and_foreign_files_are_told(tmp_path):
    with pytest.raises(ResultError, match="there is no result"):
        load_result(tmp_path / "none.npz")
    np.savez(tmp_path / "foreign.npz", x=np.zeros(3))
    (tmp_path / "noise.npz").write_bytes(b"noise")
    np.savez(tmp_path / "pickled.npz", meta=np.array({"a": 1}, dtype=object))
    (tmp_path / "behind.npz").write_bytes(b"abc" + (tmp_path / "foreign.npz").read_bytes())
    for name in ("foreign", "noise", "pickled", "behind"):
        with pytest.raises(ResultError, match=f"{name}.npz cannot be read as a kdprobe result"):
            load_result(tmp_path / f"{name}.npz")


@pytest.mark.parametrize("position", [0.2, 0.5, 0.8])
def test_damage_is_told(tmp_path, position):
    path = tmp_path / "poem.npz"
    save_result(Result("poem", {"x": np.random.default_rng(0).random(1000)}), path, table="")
    content = bytearray(path.read_bytes())
    content[int(len(content) * position)] ^= 255
    path.write_bytes(content)
    with pytest.raises(ResultError, match="cannot be read as a kdprobe result"):
        load_result(path)


def test_other_versions_and_kinds_are_told(tmp_path):
    meta = {"format": "kdprobe-result", "version": 99, "kind": "poem", "facts": {}, "provenance": {}}
    np.savez(tmp_path / "new.npz", meta=np.array(json.dumps(meta)))
    with pytest.raises(ResultError, match="version 99; this kdprobe reads 'kdprobe-result' version 1"):
        load_result(tmp_path / "new.npz")
    np.savez(tmp_path / "list.npz", meta=np.array("[1]"))
    with pytest.raises(ResultError, match="is not a kdprobe result: its meta is not a mapping"):
        load_result(tmp_path / "list.npz")
    np.savez(tmp_path / "true.npz", meta=np.array(json.dumps({**meta, "version": True})))
    with pytest.raises(ResultError, match="version True; this kdprobe reads"):
        load_result(tmp_path / "true.npz")
    save_result(RESULT, tmp_path / "poem.npz", table="")
    with pytest.raises(ResultError, match="holds a result of kind 'poem', but 'evaluation' is needed"):
        load_result(tmp_path / "poem.npz", kind="evaluation")


def test_a_kind_that_is_nearly_called_as_another_one_is_told(tmp_path):
    save_result(RESULT, tmp_path / "poem.npz")
    for asked, said in (("tuned-comparisn", "; did you mean 'tuned-comparison'?"), ("novel", ""), ("cka", "")):
        with pytest.raises(ResultError) as error:
            load_result(tmp_path / "poem.npz", kind=asked)
        assert str(error.value).endswith(f"holds a result of kind 'poem', but {asked!r} is needed{said}")
    near = Result("ckaa", RESULT.arrays)
    said = "no kind of results is called 'ckaa', so nothing of it is checked; did you mean 'cka'?"
    with pytest.warns(UserWarning, match=re.escape(said)):
        save_result(near, tmp_path / "ckaa.npz")
    assert load_result(tmp_path / "ckaa.npz").kind == "ckaa", "kinds of one's own are saved"


def test_provenance_says_versions_and_command():
    origin = provenance(seed=3)
    assert origin["seed"] == 3
    assert origin["command"] == command_line()
    assert set(versions()) >= {"python", "torch", "timm", "kdprobe"}


def test_the_command_is_that_which_runs(tmp_path):
    (tmp_path / "mine.py").write_text("from kdprobe.provenance import command_line, running\nprint(command_line())\n")
    both = "with running(['cka', 'a b']): print(command_line())"

    def said(*words, text=None):
        done = subprocess.run(
            [sys.executable, *words], cwd=tmp_path, input=text, capture_output=True, text=True, check=True
        )
        return done.stdout.splitlines()

    assert said("mine.py", "a b") == ["python mine.py 'a b'"]
    assert said("-m", "mine", "x") == ["python -m mine x"]
    assert said("-c", f"from mine import *\n{both}", "x") == ["", "kdprobe cka 'a b'"]
    assert said("-", text="import mine") == [""]
    called = "import sys; sys.argv = ['/bin/kdprobe', 'map', 'c']; import mine"  # as in a process of a sweep
    assert said("-c", called) == ["kdprobe map c"]


def test_two_evaluations_of_a_checkpoint_on_other_data_are_not_mixed():
    one, other = (evaluation_result(("plain", "kd")) for _ in range(2))
    for result in (one, other):
        for row, model in enumerate(result.provenance["models"]):
            model["sha256"] = str(row)
    assert by_checkpoint([one, other], "evaluation") == {"0": (other, 0), "1": (other, 1)}
    other.facts["data"] = "folder:elsewhere"
    with pytest.raises(ResultError, match="one checkpoint, on digits test and on folder:elsewhere test; give one"):
        by_checkpoint([one, other], "evaluation")
