import json
import math
import shutil

import pytest
import torch
import yaml

import kdprobe
from kdprobe.config import OptimizerConfig, ScheduleConfig, override, parse
from kdprobe.distillers import option_types
from kdprobe.errors import ModelError, RunError
from kdprobe.models.checkpoint import AUXILIARY, LAST, read_meta
from kdprobe.recipe import read_recipe
from kdprobe.runs import RunFolder, differing_keys, find_runs
from kdprobe.training.loop import train
from kdprobe.training.optimizer import make_optimizer, set_rate
from kdprobe.training.schedule import rate_factor

TIMES = ("seconds", "images_per_second")


def config(recipe="digits/resnet8", *assignments):
    values = override(read_recipe(recipe), ["training.epochs=2", "training.batch_size=256", *assignments])
    return parse(values, option_types(), source=recipe)


def outcome(folder):
    """What must not depend on anything but the configuration: weights and metrics without times."""
    metrics = RunFolder(folder).metrics()
    return (folder / LAST).read_bytes(), [{k: v for k, v in line.items() if k not in TIMES} for line in metrics]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    out = tmp_path_factory.mktemp("teacher") / "run"
    train(config("digits/vit-teacher", "model.args.depth=2"), out, device="cpu", quiet=True)
    return out


@pytest.fixture(scope="module")
def student(tmp_path_factory, teacher):
    out = tmp_path_factory.mktemp("student") / "run"
    result = train(distilled(teacher), out, device="cpu", quiet=True)
    return out, result


def distilled(teacher, *assignments):
    return config("digits/resnet8-dropkd", f"teacher={teacher}", "method.dim=8", *assignments)


def test_a_run_folder_says_everything(student, teacher):
    out, result = student
    names = {path.name for path in out.iterdir()}
    assert names == {
        "config.yaml", "env.json", "metrics.jsonl", "result.json", "last.safetensors", "best.safetensors",
        "auxiliary.safetensors", "state.pt",
    }  # fmt: skip
    assert result["method"] == "dropkd"
    assert result["epochs"] == 2
    assert result["images_seen"] == 2 * 1438
    assert result["auxiliary_parameters"] > 0
    assert result["teacher_sha256"] == kdprobe.load(teacher).kdprobe_info.sha256
    assert result["accuracy"] == RunFolder(out).metrics()[-1]["accuracy"]
    terms = RunFolder(out).metrics()[-1]["terms"]
    assert set(terms) == {
        "ce", "feature", "logit", "classifier_teacher", "classifier_student", "reconstruction_teacher",
        "reconstruction_student",
    }  # fmt: skip
    assert RunFolder(out).metrics()[-1]["loss"] == pytest.approx(sum(terms.values()))
    assert json.loads((out / "env.json").read_text())["versions"]["torch"]


def test_the_exported_student_holds_no_auxiliary_weights(student):
    out, _ = student
    model = kdprobe.load(out)
    assert sum(p.numel() for p in model.parameters()) == RunFolder(out).result()["parameters"]
    meta = read_meta(out / AUXILIARY)
    assert meta["format"] == "kdprobe-auxiliary"
    assert meta["method"]["name"] == "dropkd"
    assert meta["student"]["maps"][-1] == [64, 8, 8]


def test_saved_accuracy_is_that_of_the_saved_network(student):
    from kdprobe.data import evaluation_batches, load_data

    out, result = student
    model = kdprobe.load(out)
    data = load_data("digits", image_size=32)
    correct = sum(
        int((model(model.kdprobe_info.normalise(batch.images)).argmax(1) == batch.labels).sum())
        for batch in evaluation_batches(data.test, batch_size=100)
    )
    assert correct / len(data.test) == result["accuracy"]


def test_the_same_seed_gives_the_same_bytes(student, teacher, tmp_path):
    train(distilled(teacher), tmp_path / "again", device="cpu", quiet=True)
    assert outcome(tmp_path / "again") == outcome(student[0])


def test_another_seed_gives_another_network(student, teacher, tmp_path):
    train(distilled(teacher, "seed=1"), tmp_path / "other", device="cpu", quiet=True)
    assert outcome(tmp_path / "other")[0] != outcome(student[0])[0]


def test_a_resumed_run_equals_an_uninterrupted_one(student, teacher, tmp_path, monkeypatch):
    from kdprobe.training import loop

    out = tmp_path / "run"
    original = loop.Trainer._train_epoch

    def interrupted(self, epoch):
        if epoch == 1:
            raise KeyboardInterrupt
        return original(self, epoch)

    monkeypatch.setattr(loop.Trainer, "_train_epoch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(distilled(teacher), out, device="cpu", quiet=True)
    monkeypatch.undo()
    assert not RunFolder(out).finished
    with RunFolder(out).metrics_path.open("a") as file:
        file.write('{"epoch": 2, "cut sho')
    train(distilled(teacher), out, resume=True, device="cpu", quiet=True)
    assert outcome(out) == outcome(student[0])


def test_resuming_a_finished_run_changes_nothing(student, teacher):
    out, result = student
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert train(distilled(teacher), out, resume=True, device="cpu", quiet=True) == result
    assert before == {path.name: path.read_bytes() for path in out.iterdir()}


def test_the_callers_random_state_is_left_alone(tmp_path):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    train(config("digits/resnet8", "training.epochs=1"), tmp_path / "run", device="cpu", quiet=True)
    assert torch.equal(before, torch.get_rng_state())
    assert not torch.are_deterministic_algorithms_enabled()


def test_the_teacher_does_not_change(student, teacher):
    assert (teacher / LAST).exists()
    assert kdprobe.load(teacher).kdprobe_info.sha256 == student[1]["teacher_sha256"]


@pytest.mark.parametrize(
    "assignments",
    [
        ("training.precision=bf16", "training.channels_last=true"),
        ("training.optimizer.name=adamw", "training.optimizer.lr=1e-3", "training.optimizer.decay_norms=false"),
        ("training.clip_grad_norm=0.5", "training.label_smoothing=0.1"),
        ("data.holdout=0.25", "training.schedule.name=step", "training.schedule.milestones=[1]"),
    ],
    ids=lambda a: a[0],
)
def test_settings_train(assignments, tmp_path):
    result = train(config("digits/resnet8", *assignments), tmp_path / "run", device="cpu", quiet=True)
    assert result["evaluated_on"] == ("holdout" if "holdout" in assignments[0] else "test")
    assert result["accuracy"] > 0.08


def test_an_occupied_folder_is_left_alone(student, teacher, tmp_path):
    out, _ = student
    with pytest.raises(RunError, match="already holds a run; continue it with --resume or choose another --out"):
        train(distilled(teacher), out, device="cpu", quiet=True)
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(RunError, match="is not an empty folder; choose another --out"):
        train(config(), tmp_path, device="cpu", quiet=True)
    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]


def test_resuming_needs_the_same_configuration(student, teacher, tmp_path):
    out, _ = student
    with pytest.raises(RunError, match=r"these keys differ: method\.dim, training\.epochs"):
        train(distilled(teacher, "method.dim=9", "training.epochs=3"), out, resume=True, device="cpu", quiet=True)
    with pytest.raises(RunError, match="there is no run to resume in"):
        train(config(), tmp_path / "nothing", resume=True, device="cpu", quiet=True)


def test_a_damaged_state_is_told(student, teacher, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(student[0], out)
    (out / "result.json").unlink()
    (out / "state.pt").write_bytes((out / "state.pt").read_bytes()[:-4000])
    with pytest.raises(RunError, match=r"state\.pt is damaged or belongs to another run"):
        train(distilled(teacher), out, resume=True, device="cpu", quiet=True)


def test_a_state_of_another_version_is_told(student, teacher, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(student[0], out)
    (out / "result.json").unlink()
    torch.save({"version": 99}, out / "state.pt")
    with pytest.raises(RunError, match="has version 99; this kdprobe continues version 1"):
        train(distilled(teacher), out, resume=True, device="cpu", quiet=True)


def test_pairs_must_agree_on_classes_and_input_size(teacher, tmp_path):
    from kdprobe.models import create
    from kdprobe.models.checkpoint import save

    save(create("resnet8", n_classes=7, image_size=32), tmp_path / "seven.safetensors")
    save(create("resnet8", n_classes=10, image_size=64), tmp_path / "large.safetensors")
    with pytest.raises(ModelError, match="has 7 classes, but the student has 10"):
        train(config("digits/resnet8-kd", f"teacher={tmp_path}/seven.safetensors"), tmp_path / "r", quiet=True)
    with pytest.raises(ModelError, match="takes 64 px images, but the student takes 32 px"):
        train(config("digits/resnet8-kd", f"teacher={tmp_path}/large.safetensors"), tmp_path / "r", quiet=True)
    assert not (tmp_path / "r").exists()


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    bad = config("digits/resnet8", "training.optimizer.lr=1e30", "training.schedule.name=constant")
    with pytest.raises(RunError, match=r"the loss term 'ce' became nan in epoch 1 at learning rate 1e\+30"):
        train(bad, tmp_path / "run", device="cpu", quiet=True)


def test_runs_are_found_and_damage_is_told(student, tmp_path):
    out, _ = student
    assert [run.path for run in find_runs(out.parent)] == [out]
    assert RunFolder(out).summary()["epochs"] == "2/2"
    with pytest.raises(RunError, match="is not a run folder: it has no config"):
        RunFolder(tmp_path).config(option_types())
    with pytest.raises(RunError, match="holds no finished run"):
        RunFolder(tmp_path).result()
    (tmp_path / "result.json").write_text("{")
    with pytest.raises(RunError, match=r"result\.json is damaged"):
        RunFolder(tmp_path).result()
    (tmp_path / "result.json").write_text("{}")
    with pytest.raises(RunError, match="is not a result of format"):
        RunFolder(tmp_path).result()
    assert yaml.safe_load((out / "config.yaml").read_text())["method"]["name"] == "dropkd"


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be written"):
        train(config(), tmp_path / "file" / "run", device="cpu", quiet=True)


def test_differing_keys_name_leaves():
    before, after = {"a": {"b": 1, "c": 2}, "d": 1}, {"a": {"b": 1, "c": 3}, "e": 1}
    assert differing_keys(before, after) == ["a.c", "d", "e"]


@pytest.mark.parametrize("name", ["constant", "step", "exponential", "cosine", "onecycle"])
def test_rates_stay_within_the_peak(name):
    schedule = ScheduleConfig(name=name, warmup_epochs=2, milestones=(5, 8))
    factors = [rate_factor(schedule, epoch=e / 10, n_epochs=10) for e in range(100)]
    assert all(0 <= factor <= 1 for factor in factors)
    assert factors[0] > 0
    assert factors[:20] == sorted(factors[:20])
    assert max(factors) == pytest.approx(1)


def test_schedules_have_their_shapes():
    step = ScheduleConfig(name="step", milestones=(150, 180, 210))
    assert [rate_factor(step, epoch=e, n_epochs=240) for e in (149.99, 150, 185, 239)] == pytest.approx(
        [1, 0.1, 0.01, 1e-3]
    )
    cosine = ScheduleConfig(name="cosine", final_factor=0.1)
    assert rate_factor(cosine, epoch=5, n_epochs=10) == pytest.approx(0.55)
    assert rate_factor(cosine, epoch=10, n_epochs=10) == pytest.approx(0.1)
    exponential = ScheduleConfig(name="exponential", gamma=0.9)
    assert rate_factor(exponential, epoch=3.7, n_epochs=10) == pytest.approx(0.9**3)
    onecycle = ScheduleConfig(name="onecycle")
    assert rate_factor(onecycle, epoch=3, n_epochs=10) == pytest.approx(1)
    assert rate_factor(onecycle, epoch=0, n_epochs=10) == pytest.approx(0.04)
    assert math.isclose(rate_factor(onecycle, epoch=10, n_epochs=10), 0, abs_tol=1e-12)


def test_parameter_groups_follow_the_configuration():
    student, auxiliary = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2)), torch.nn.Linear(2, 2)
    settings = OptimizerConfig(name="adamw", lr=0.1, decay_norms=False, auxiliary_lr_factor=0.5)
    optimizer = make_optimizer(settings, student, auxiliary)
    set_rate(optimizer, 0.1)
    found = [(len(g["params"]), g["lr"], g["weight_decay"]) for g in optimizer.param_groups]
    assert found == [
        (1, pytest.approx(0.01), 5e-4),
        (3, pytest.approx(0.01), 0),
        (1, pytest.approx(0.005), 5e-4),
        (1, pytest.approx(0.005), 0),
    ]
