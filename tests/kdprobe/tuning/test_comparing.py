"""A whole comparison: in its order, extended, killed, and refused where it is another one."""

import json
from unittest.mock import patch

import numpy as np
import pytest

from kdprobe.errors import ConfigError, SweepError
from kdprobe.results import check_result
from kdprobe.runs.folder import RunFolder
from kdprobe.tuning.decisions import CHOICE_FILE, decided_late, read_decisions
from kdprobe.tuning.plan import RATE
from kdprobe.tuning.result import comparison_result, tables
from kdprobe.tuning.words import latex_table, worded_comparison
from tests.tiny_comparisons import bring, plan


def finals(folder):
    return sorted(path.name for path in (folder / "finals" / "cells").iterdir())


def test_the_best_trial_is_trained_anew_with_all_seeds(tmp_path):
    said = []
    outcome = bring(plan("plain", "kd", published=True), tmp_path, say=said.append)
    result = comparison_result(outcome)
    check_result(result)
    held_out = result.arrays["held_out"]
    rates = [settings[RATE] for settings in result.facts["trials"][0]]
    np.testing.assert_array_equal(np.isnan(held_out[0]), np.array(rates) > 0.17)
    assert np.isnan(held_out).sum() > 0
    assert result.arrays["chosen"].tolist() == np.nanargmax(held_out, axis=1).tolist()
    chosen = [settings[trial] for settings, trial in zip(result.facts["trials"], result.arrays["chosen"], strict=True)]
    runs = [RunFolder(path).result() for path in (tmp_path / "finals" / "cells").iterdir()]
    assert {run["evaluated_on"] for run in runs} == {"test"}
    assert chosen[0] == {RATE: min(rates)}
    np.testing.assert_allclose(result.arrays["accuracy"][:, 0], held_out.max(axis=1, initial=0, where=held_out > 0))
    assert result.arrays["teacher_images"].tolist() == [[0, 0], [1000, 1000]]
    assert any("kd: trial" in text and "is chosen" in text for text in said)
    remarks = [one["reason"] for one in result.facts["remarks"]]
    assert remarks == [
        f"{np.isnan(row).sum()} of 4 trials of {name} diverged"
        for name, row in zip(("plain", "kd"), held_out, strict=True)
    ]
    pairs = [(one["method"], one["other"]) for one in result.facts["differences"]]
    assert pairs[0] == ("plain", "kd")
    assert pairs[1:] == [("plain", "plain as published"), ("kd", "kd as published")]
    for text in (worded_comparison(result), latex_table(result)):
        assert "2 methods, 4 trials" in text
        assert "kd_weight=" in text.replace("\\", "")
    texts = tables(result)
    assert [len(texts[name].splitlines()) for name in ("finals", "trials", "differences")] == [9, 9, 4]


def test_the_choice_is_written_before_anything_is_tested(tmp_path):
    with pytest.raises(SweepError, match="4 of 4 cells failed"):
        bring(plan("plain", "kd", n_trials=1), tmp_path, task="tests.tiny_comparisons:untested", retries=0)
    (decision,) = read_decisions(tmp_path)
    assert decision.n_tested == 0
    assert not list((tmp_path / "finals" / "cells").glob("*/result.json"))


@pytest.mark.slow
def test_a_comparison_goes_on_and_says_what_was_decided_late(tmp_path):
    first = comparison_result(bring(plan("plain", "kd"), tmp_path))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("result.json")}
    again = comparison_result(bring(plan("plain", "kd"), tmp_path))
    assert again.facts == first.facts
    assert len(read_decisions(tmp_path)) == 1
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("result.json")} == before
    more = comparison_result(bring(plan("plain", "kd", "rkd", n_trials=8, n_seeds=3), tmp_path))
    np.testing.assert_array_equal(more.arrays["held_out"][:2, :4], first.arrays["held_out"])
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    assert (more.facts["tested_before"], first.facts["tested_before"]) == (4, 0)
    (late,) = decided_late(read_decisions(tmp_path))
    assert late.startswith("after 4 final trainings had been tested, on 20")
    assert "rkd was added, the trials of each method became 8 instead of 4, the seeds of each" in late
    assert more.facts["remarks"][0] == {"reason": late}
    fewer = comparison_result(bring(plan("kd", n_trials=2, n_seeds=1), tmp_path))
    assert "plain and rkd were left out" in fewer.facts["remarks"][1]["reason"]


def test_killed_between_trials_and_finals_it_goes_on(tmp_path):
    whole = comparison_result(bring(plan("plain", "kd"), tmp_path / "whole"))
    with pytest.raises(KeyboardInterrupt):
        bring(plan("plain", "kd"), tmp_path / "cut", say=stopping_at("kd: trial"))
    assert not (tmp_path / "cut" / "finals").exists()
    rest = comparison_result(bring(plan("plain", "kd"), tmp_path / "cut"))
    for name, values in whole.arrays.items():
        np.testing.assert_array_equal(values, rest.arrays[name])


def stopping_at(words):
    def say(text):
        if text.startswith(words):
            raise KeyboardInterrupt

    return say


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"holdout": 0.5}, "holds another comparison; these keys differ: data.holdout; choose another --out"),
        ({"trial_epochs": 0.5}, "these keys differ: training.epochs; choose"),
        ({"assignments": ["training.optimizer.lr=0.2"]}, "these keys differ: training.optimizer.lr; choose"),
    ],
)
def test_another_comparison_in_the_folder_is_refused(change, message, tmp_path):
    bring(plan("plain", n_trials=1, n_seeds=1), tmp_path)
    with pytest.raises(SweepError, match=message):
        bring(plan("plain", n_trials=1, n_seeds=1, **change), tmp_path)


def test_trials_that_would_be_others_are_refused(tmp_path):
    bring(plan("kd", n_trials=2, n_seeds=1), tmp_path)
    text = (tmp_path / CHOICE_FILE).read_text().replace('"method.temperature": 4.0', '"method.temperature": 3.0')
    (tmp_path / CHOICE_FILE).write_text(text)
    with pytest.raises(SweepError, match=r"trial 0 of kd was lr=0.1 kd_weight=0.9 temperature=3, but now it would be"):
        bring(plan("kd", n_trials=2, n_seeds=1), tmp_path)


def test_a_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "mine").touch()
    with pytest.raises(SweepError, match="is not an empty folder and holds no comparison; choose another --out"):
        bring(plan("plain"), tmp_path)


def test_what_cannot_be_compared(tmp_path):
    high = plan("plain", n_trials=2, assignments=["training.optimizer.lr=5"])
    with pytest.raises(SweepError, match=r"all 2 trials of plain diverged \(the first: .*the loss is not finite\)"):
        bring(high, tmp_path / "high")
    with pytest.raises(ConfigError, match="chosen by their accuracy, but the data have no labels"):
        bring(plan("rkd"), tmp_path / "unlabelled", task="tests.tiny_comparisons:unlabelled")
    outcome = bring(
        plan("plain", n_trials=1, n_seeds=1), tmp_path / "lost", task="tests.tiny_comparisons:diverging_at_last"
    )
    with pytest.raises(SweepError, match="all 1 final trainings of plain diverged, so there is nothing to compare"):
        comparison_result(outcome)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read as the choice of a comparison"),
        ('{"format": "kdprobe-choice", "version": 2}', "of format 'kdprobe-choice' version 1"),
        ('{"format": "kdprobe-choice", "version": 1, "decisions": [1]}', "it holds no decisions"),
    ],
)
def test_a_damaged_choice_is_refused(text, message, tmp_path):
    (tmp_path / CHOICE_FILE).write_text(text)
    with pytest.raises(SweepError, match=message):
        read_decisions(tmp_path)


def test_the_choice_is_plain_to_read(tmp_path):
    bring(plan("kd", n_trials=2, n_seeds=1), tmp_path)
    values = json.loads((tmp_path / CHOICE_FILE).read_text())
    chosen = values["decisions"][0]["chosen"]["kd"]
    assert chosen["tried"][chosen["trial"]][RATE] == 0.1
    assert chosen["accuracies"][1] is None


def test_one_seed_has_differences_without_a_test(tmp_path):
    result = comparison_result(bring(plan("plain", "kd", n_trials=1, n_seeds=1), tmp_path))
    text = worded_comparison(result)
    assert "One seed gives no interval." in text
    (plain, kd) = text.splitlines()[1:3]
    assert plain.split()[:4] == ["plain", "80.00", "80.00", "+4.00"]
    assert kd.split()[:4] == ["kd", "76.00", "76.00", "-4.00"]


def test_one_trial_tunes_nothing_and_a_weak_teacher_is_told(tmp_path):
    outcome = bring(plan("plain", "kd", n_trials=1), tmp_path)
    with patch("kdprobe.tuning.result.known_teacher", return_value=("vit", 0.176)):
        text = worded_comparison(comparison_result(outcome))
    assert "note: the teacher (17.6 %) is less accurate than plain (79.0 %)" in text.splitlines()
    assert " epochs for each, so that nothing is tuned: the published settings; then trained anew" in text
    assert "paired by seed, with the 95 % interval of each by itself and Holm's p over 1 comparison of methods." in text
    assert comparison_result(outcome).facts["remarks"] == []
