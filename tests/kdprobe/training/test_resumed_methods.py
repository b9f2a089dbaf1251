"""Methods with a state or random numbers of their own resume exactly."""

import pytest

from kdprobe.errors import Stopped
from kdprobe.training import train
from tests.kdprobe.training.test_loop import config, outcome, stop_after


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    out = tmp_path_factory.mktemp("resumed") / "teacher"
    train(config("digits/resnet8", "training.epochs=1"), out, device="cpu", quiet=True)
    return out


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        "{name: mld}",
        "{name: crd, memory: 300}",
        "{name: dpk}",
        "{name: scn, relabel_epochs: 0}",
        "{name: cka}",
        "{name: wkd, feature_weight: 0.08}",
        "{name: rsd}",
        "{name: srd, projector: orthogonal}",
    ],
)
def test_a_stopped_run_equals_an_uninterrupted_one(options, teacher, tmp_path, monkeypatch):
    settings = [f"method={options}"] + ([] if "scn" in options else [f"teacher={teacher}"])
    _resumes(config("digits/resnet8", *settings), tmp_path, monkeypatch)


@pytest.mark.slow
def test_a_shuffled_teacher_gives_the_same_answers_after_a_stop(teacher, tmp_path, monkeypatch):
    chosen = config("digits/resnet8", "method={name: kd}", f"teacher={teacher}", "teacher_facts={shuffle: true}")
    assert chosen.teacher_facts.shuffle
    _resumes(chosen, tmp_path, monkeypatch)


def _resumes(chosen, tmp_path, monkeypatch):
    train(chosen, tmp_path / "whole", device="cpu", quiet=True)
    stop_after(8, monkeypatch)
    with pytest.raises(Stopped):
        train(chosen, tmp_path / "parts", device="cpu", quiet=True)
    monkeypatch.undo()
    train(chosen, tmp_path / "parts", resume=True, device="cpu", quiet=True)
    assert outcome(tmp_path / "parts") == outcome(tmp_path / "whole")
