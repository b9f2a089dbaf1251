"""Runs are diagnosed as they stand: their own terms, views and weights; hand-made faults are found."""

import shutil

import numpy as np
import pytest
import torch

import kdprobe
from analyses.diagnosis import diagnose
from analyses.diagnosis.kept_run import open_run
from analyses.diagnosis.result import diagnosis_summary, diagnosis_table
from analyses.diagnosis.terms import gradients_of
from analyses.evaluation import judge
from figures import draw
from kdprobe.distillers import DISTILLERS
from kdprobe.errors import Diverged, RunError
from kdprobe.results import load_result
from kdprobe.runs.folder import RunFolder
from kdprobe.runtime.precision import repeatable
from kdprobe.training import train
from tests.small_jobs import job_of, save_teachers

CPU = torch.device("cpu")
ARRAYS = ("loss", "unweighted", "inner", "norms", "share", "cosine", "accuracy")


@pytest.fixture(scope="module")
def teachers(tmp_path_factory):
    return save_teachers(tmp_path_factory.mktemp("teachers"))


@pytest.fixture(scope="module")
def make(teachers, tmp_path_factory):
    """Makes small runs, each once."""
    folder, made = tmp_path_factory.mktemp("runs"), {}

    def run(method, *assignments):
        key = (method, *assignments)
        if key not in made:
            config, _ = job_of(teachers, method, *assignments)
            made[key] = folder / str(len(made))
            train(config, made[key], device="cpu", quiet=True)
        return made[key]

    return run


def content(folder):
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}


def opened(path):
    with repeatable(0, CPU):
        return open_run(path, CPU)


@pytest.mark.parametrize("method", ["kd", "fitnet", "dropkd"])
def test_terms_add_up_to_the_whole(make, method):
    run = opened(make(method, "training.epochs=1"))
    (step,) = run.steps(1)
    parameters = [one for one in run.job.objective.parameters() if one.requires_grad]
    run.trainer.objective.train()
    terms = run.terms(step)
    whole = torch.autograd.grad(torch.stack(list(terms.values())).sum(), parameters, retain_graph=True)

    def joined(gradients):
        found = zip(parameters, gradients, strict=True)
        return torch.cat([(torch.zeros_like(p) if g is None else g).flatten().double() for p, g in found])

    of_terms = gradients_of(terms, parameters)
    rounding = 1e-5  # of float32, which added up otherwise, was seen to reach 1.2e-6
    assert (joined(whole) - sum(map(joined, of_terms))).norm() <= rounding * joined(whole).norm()

    result = diagnose(make(method, "training.epochs=1"), n_minibatches=2)
    assert result.arrays["share"].sum() == pytest.approx(1, abs=1e-12)
    of_student = [part.startswith("student.") for part in result.facts["parts"]]
    squares = np.square(result.arrays["norms"][:, :, of_student]).sum(2)
    assert squares == pytest.approx(np.einsum("ktt->kt", result.arrays["inner"]), rel=1e-9)
    assert result.arrays["cosine"][0] == pytest.approx(1)


def test_terms_are_those_of_the_training_without_their_weights(make):
    run = make("dropkd", "training.epochs=1")
    result = diagnose(run, n_minibatches=2)
    weights = {
        name: RunFolder(run).values()["method"][name.removeprefix("method.")] for name in result.facts["options"]
    }
    products = [
        weights[name] * value for name, value in zip(result.facts["options"], result.arrays["unweighted"], strict=True)
    ]
    assert result.arrays["loss"].mean(0) == pytest.approx(products, rel=1e-5)
    assert set(result.facts["terms"]) == set(RunFolder(run).metrics()[0]["terms"])


def test_the_loss_before_training_is_the_first_steps(make):
    run = make("kd", "training.epochs=1", "training.optimizer.lr=1e-12")
    result = diagnose(run, n_minibatches=100)
    sizes = np.array([len(step.batch.labels) for step in opened(run).steps(100)])
    logged = RunFolder(run).metrics()[0]["terms"]
    means = (sizes[:, None] * result.arrays["loss"]).sum(0) / sizes.sum()
    assert means == pytest.approx([logged[name] for name in result.facts["terms"]], rel=1e-5)
    assert any("(less than 1e-06)" in one["sentence"] for one in result.facts["findings"])


def test_it_is_the_same_each_time_and_leaves_the_folder_as_it_is(make):
    run = make("dropkd", "training.epochs=1")
    before = content(run)
    first, second = diagnose(run, n_minibatches=2), diagnose(run, n_minibatches=2)
    for name in ARRAYS:
        assert np.array_equal(first.arrays[name], second.arrays[name], equal_nan=True)
    assert first.facts == second.facts
    assert content(run) == before


@pytest.mark.slow
def test_accuracies_are_those_of_an_evaluation(make, teachers):
    run = make("kd", "data.per_class=36", "training.batch_size=180", "training.epochs=1")
    result = diagnose(run)
    judged = judge([str(teachers["resnet8"]), str(run)], "digits")
    expected = [float((one.logits.argmax(1) == one.data.test.labels).float().mean()) for one in judged]
    assert result.arrays["accuracy"][:, 2, 0] == pytest.approx(expected)
    assert result.facts["n_images"] == [360, 360, 359, 359]
    assert result.arrays["accuracy"][0, 3, 0] == pytest.approx(expected[0])


def test_plain_runs_have_one_term_and_no_teacher(make):
    result = diagnose(make("plain", "training.epochs=1"), n_minibatches=1)
    assert (result.facts["terms"], result.facts["networks"]) == (["ce"], ["student"])
    assert result.facts["views"] == ["training views", "training images", "test images"]
    text = diagnosis_summary(result)
    assert "1 minibatches" not in text
    assert "right about" in text


def test_a_run_without_a_state_has_the_weights_of_its_last_checkpoint(make, tmp_path):
    shutil.copytree(make("fitnet", "training.epochs=1"), tmp_path / "run")
    whole = diagnose(tmp_path / "run", n_minibatches=1)
    (tmp_path / "run" / "state.pt").unlink()
    bare = diagnose(tmp_path / "run", n_minibatches=1)
    assert bare.facts["weights"] == "those after 1 of 1 epoch, of its last.safetensors"
    for name in ARRAYS:
        assert np.array_equal(whole.arrays[name], bare.arrays[name], equal_nan=True)


def test_a_failed_run_that_kept_nothing_is_diagnosed_as_it_began(teachers, tmp_path):
    config, _ = job_of(teachers, "kd", "training.optimizer.lr=1e9")
    with pytest.raises(Diverged, match="no state was saved before that"):
        train(config, tmp_path / "run", device="cpu", quiet=True)
    with repeatable(config.seed, CPU):
        _, job = job_of(teachers, "kd")
    assert torch.equal(opened(tmp_path / "run").job.student.fc.weight, job.student.fc.weight)
    result = diagnose(tmp_path / "run", n_minibatches=2)
    assert result.facts["weights"] == "those that it began with, as it kept no others"
    sentences = [one["sentence"] for one in result.facts["findings"]]
    assert sentences[0].startswith("the run failed: ")
    assert "a step changes the weights by" in sentences[1]
    assert "epoch" not in result.arrays


def test_what_is_frozen_is_counted(make):
    result = diagnose(make("kd", "training.epochs=1", "training.freeze=['*', '!fc.bias']"), n_minibatches=1)
    assert result.facts["parameters"] == {"total": 78042, "frozen": 78032, "unused": 0, "idle": 0}
    assert any("of the student's parameters are frozen" in one["sentence"] for one in result.facts["findings"])


def test_an_absurd_weight_is_found(make):
    absurd = make("fitnet", "training.epochs=1", "method.weight=1e6", "training.optimizer.lr=1e-9")
    (found,) = [one for one in diagnose(absurd, n_minibatches=2).facts["findings"] if "'hint'" in one["sentence"]]
    assert found["sentence"].startswith("the term 'hint' makes 100 % of the gradient (more than 90 %)")
    assert found["advice"].startswith("lower method.weight")


def test_without_labels_no_accuracy_is_shown(teachers, tmp_path):
    from PIL import Image

    (tmp_path / "images").mkdir()
    for number in range(8):
        Image.new("RGB", (16, 16), (30 * number, 0, 90)).save(tmp_path / "images" / f"{number}.png")
    options = ("data={spec: 'images:%s', image_size: 16}" % (tmp_path / "images"), "method.ce_weight=0")
    config, _ = job_of(teachers, "rkd", *options, "training.epochs=1")
    train(config, tmp_path / "run", device="cpu", quiet=True)
    result = diagnose(tmp_path / "run", n_minibatches=1)
    assert result.facts["task"] is None
    assert np.isnan(result.arrays["accuracy"]).all()
    assert "student: the data have no labels" in diagnosis_summary(result)


def test_what_cannot_be_diagnosed_is_refused_in_one_line(make, teachers, tmp_path):
    with pytest.raises(RunError, match=r"is not a run folder: it has no config\.yaml"):
        diagnose(tmp_path)
    run, gone = make("kd", "training.epochs=1"), tmp_path / "gone"
    shutil.copytree(run, gone)
    config = (gone / "config.yaml").read_text()
    (gone / "config.yaml").write_text(config.replace(str(teachers["resnet8"]), "nowhere.safetensors"))
    with pytest.raises(
        RunError,
        match=r"be diagnosed: its teacher nowhere\.safetensors is not there, say with .*; what moved is known by its",
    ):
        diagnose(gone)
    moved, before = diagnose(gone, teacher=str(teachers["resnet8"]), n_minibatches=1), diagnose(run, n_minibatches=1)
    assert np.array_equal(moved.arrays["inner"], before.arrays["inner"])
    with repeatable(1, CPU):
        kdprobe.models.save(
            kdprobe.models.create("resnet8", n_classes=10, image_size=16), tmp_path / "other.safetensors"
        )
    with pytest.raises(RunError, match=r"cannot be diagnosed: when it began, the teacher .* but now it is"):
        diagnose(gone, teacher=str(tmp_path / "other.safetensors"))
    (gone / "config.yaml").write_text(config.replace("spec: digits", f"spec: folder:{tmp_path / 'nothing'}"))
    with pytest.raises(RunError, match=r"its data folder:.* are not there, say with --data folder:DIR"):
        diagnose(gone)


def test_a_teacher_of_another_order_of_classes_is_read_by_name_in_its_own_way_too(tmp_path):
    network = kdprobe.models.create("resnet8", n_classes=10, image_size=16, classes="9876543210")
    with torch.no_grad():
        for parameter in network.get_classifier().parameters():
            parameter.copy_(torch.zeros_like(parameter))
        network.get_classifier().bias[4] = 1.0  # "5", whatever it is shown
    kdprobe.models.save(network, tmp_path / "teacher.safetensors")
    config, _ = job_of({"resnet8": tmp_path / "teacher.safetensors"}, "at", "teacher.classes={}", "training.epochs=1")
    train(config, tmp_path / "run", device="cpu", quiet=True)
    as_shown, own_way = diagnose(tmp_path / "run", n_minibatches=3).arrays["accuracy"][0, 2:]
    assert as_shown.tolist() == own_way.tolist()
    assert as_shown[0] == 0.15  # of the 20 images


def test_the_command_prints_saves_and_draws(make, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["diagnose", make("kd", "training.epochs=1"), "--minibatches", 2, "--out", "d.npz", "--quiet"]
    assert kdprobe.main(words) == 0
    text = capsys.readouterr().out
    for piece in ("weighted by", "method.kd_weight", "test images, the teacher's own way", "of 78,042 parameters"):
        assert piece in text
    result = load_result("d.npz", kind="diagnosis")
    assert len(diagnosis_table(result)) == len((tmp_path / "d.csv").read_text().splitlines()) - 1
    assert (tmp_path / "d.png").is_file()
    assert draw(result).get_xlabel() == "share in %"
    assert kdprobe.main(["diagnose", "nothing"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("method", DISTILLERS)
def test_runs_of_every_method_are_diagnosed(make, method):
    result = diagnose(make(method, "training.epochs=1"), n_minibatches=2)
    assert result.arrays["share"].sum() == pytest.approx(1)
    assert result.facts["task"] is not None
    weighted = dict(zip(result.facts["terms"], result.facts["options"], strict=True))
    options = {name.removeprefix("method.") for name in weighted.values() if name}
    assert options <= RunFolder(make(method, "training.epochs=1")).values()["method"].keys()


@pytest.mark.slow
def test_a_teacher_with_wrong_means_is_found(tmp_path):
    plain, kd = (job_of({}, "plain", "training.epochs=12", "data.per_class=80", "training.batch_size=64")[0]), None
    train(plain, tmp_path / "teacher", device="cpu", quiet=True)
    facts = "{mean: [1, 1, 1], std: [0.05, 0.05, 0.05], image_size: 16, n_classes: 10}"
    path = f"resnet8@{tmp_path / 'teacher' / 'last.safetensors'}"
    kd, _ = job_of({"resnet8": path}, "kd", f"teacher_facts={facts}", "training.epochs=1")
    train(kd, tmp_path / "student", device="cpu", quiet=True)
    found = [one["sentence"] for one in diagnose(tmp_path / "student").facts["findings"]]
    assert any("as this run shows them to it, but on" in sentence for sentence in found), found
