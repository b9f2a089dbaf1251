import errno
import itertools
import json
import math
import random
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

import kdprobe
from kdprobe.config import override, parse, write_yaml
from kdprobe.distillers import option_types
from kdprobe.errors import ConfigError, Diverged, ModelError, RunError, Stopped, WeightsLost
from kdprobe.models.checkpoint import AUXILIARY, LAST, read_meta
from kdprobe.recipe import read_recipe
from kdprobe.runs import Inputs
from kdprobe.runs.curves import training_curves
from kdprobe.runs.folder import RunFolder, differing_keys, find_runs
from kdprobe.runtime.distributed import Ranks
from kdprobe.runtime.out_of_memory import out_of_memory_advice
from kdprobe.training import loop, state, train
from kdprobe.training.build import build
from kdprobe.training.tally import Tally, accuracy
from kdprobe.training.verify import problems
from tests import killable
from tests.small_sweeps import until
from tests.tiny import N_TRAIN

TIMES = ("seconds", "images_per_second")


def config(recipe="digits/resnet8", *assignments):
    tiny = ["data.spec=tests.tiny:digits", "data.image_size=16", "training.epochs=2", "training.batch_size=16"]
    saving = "training.saving.seconds=0"  # a state after each epoch of six steps
    values = override(read_recipe(recipe), [*tiny, saving, *assignments])
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
        "config.yaml", "env.json", "inputs.json", "metrics.jsonl", "result.json", "state.pt", "state.previous.pt",
        "last.safetensors", "best.safetensors", "auxiliary.safetensors",
    }  # fmt: skip
    assert result["method"] == "dropkd"
    assert result["epochs"] == 2
    assert result["images_seen"] == 2 * N_TRAIN
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
    assert meta["student"]["maps"][-1] == [64, 4, 4]


def test_saved_accuracy_is_that_of_the_saved_network(student):
    from kdprobe.data import evaluation_batches, load_data

    out, result = student
    model = kdprobe.load(out)
    data = load_data("tests.tiny:digits", image_size=16)
    correct = sum(
        int((model(model.kdprobe_info.normalise(batch.images)).argmax(1) == batch.labels).sum())
        for batch in evaluation_batches(data.test, batch_size=100)
    )
    assert correct / len(data.test) == result["accuracy"]


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bytes(student, teacher, tmp_path):
    train(distilled(teacher), tmp_path / "again", device="cpu", quiet=True)
    assert outcome(tmp_path / "again") == outcome(student[0])


@pytest.mark.slow
def test_judged_once_at_the_end_it_is_the_same_network(student, teacher, tmp_path, monkeypatch):
    judged = []
    monkeypatch.setattr(loop, "accuracy", lambda *given, **more: judged.append(given) or accuracy(*given, **more))
    result = train(distilled(teacher, "training.evaluate=end"), tmp_path / "end", device="cpu", quiet=True)
    assert len(judged) == 1
    assert [line["accuracy"] for line in RunFolder(tmp_path / "end").metrics()] == [None, student[1]["accuracy"]]
    assert (tmp_path / "end" / LAST).read_bytes() == (student[0] / LAST).read_bytes()
    assert (result["best_epoch"], result["best_accuracy"]) == (2, result["accuracy"])
    assert result["sha256"]["best.safetensors"] == result["sha256"][LAST]
    assert not problems(RunFolder(tmp_path / "end"))
    assert result["teacher_images"] == result["images_seen"] == student[1]["teacher_images"]


def test_another_seed_gives_another_network(student, teacher, tmp_path):
    train(distilled(teacher, "seed=1"), tmp_path / "other", device="cpu", quiet=True)
    assert outcome(tmp_path / "other")[0] != outcome(student[0])[0]


@pytest.mark.slow
@pytest.mark.parametrize("n_steps", [6, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 8))])
def test_a_run_stopped_anywhere_and_resumed_equals_an_uninterrupted_one(
    student, teacher, tmp_path, monkeypatch, n_steps
):
    out = tmp_path / "run"
    stop_after(n_steps, monkeypatch)
    with pytest.raises(Stopped, match=rf"stopped by SIGTERM in epoch {1 + (n_steps - 1) // 6} after step "):
        train(distilled(teacher), out, device="cpu", quiet=True)
    monkeypatch.undo()
    assert not RunFolder(out).finished
    with RunFolder(out).metrics_path.open("a") as file:
        file.write('{"epoch": 2, "cut sho')
    train(distilled(teacher), out, resume=True, device="cpu", quiet=True)
    assert outcome(out) == outcome(student[0])


@pytest.mark.slow
@pytest.mark.parametrize(
    "where", ["kdprobe.training.loop.training_batches", "kdprobe.training.tally.evaluation_batches"]
)
def test_waiting_for_images_is_interrupted_and_resumed(student, teacher, tmp_path, monkeypatch, where):
    module, _, name = where.rpartition(".")
    original = getattr(sys.modules[module], name)

    def batches(*arguments, **options):
        yield next(original(*arguments, **options))
        signal.raise_signal(signal.SIGTERM)
        pytest.fail("it went on waiting")

    monkeypatch.setattr(where, batches)
    with pytest.raises(Stopped, match=f"stopped by SIGTERM in epoch 1 after step {1 if 'training_' in name else 6}"):
        train(distilled(teacher), tmp_path / "run", device="cpu", quiet=True)
    monkeypatch.undo()
    train(distilled(teacher), tmp_path / "run", resume=True, device="cpu", quiet=True)
    assert outcome(tmp_path / "run") == outcome(student[0])


def test_what_comes_before_the_first_step_is_interrupted(teacher, tmp_path, monkeypatch):
    monkeypatch.setattr("kdprobe.training.run.rehearse", lambda *_: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(KeyboardInterrupt):
        train(config("digits/resnet8-kd", f"teacher={teacher}"), tmp_path / "run", device="cpu", quiet=True)
    assert not RunFolder(tmp_path / "run").lock_path.exists()


@pytest.mark.parametrize("name", ["last.safetensors", "best.safetensors"])
def test_a_run_that_lost_its_weights_does_not_pass_as_finished(student, teacher, tmp_path, name):
    run = RunFolder(tmp_path / "run")
    shutil.copytree(student[0], run.path)
    whole = (run.path / name).read_bytes()
    (run.path / name).write_bytes(bytes([*whole[:-1], whole[-1] ^ 1]))
    message = rf"run is finished, but its {name} is damaged or of another run: .*; begin anew with another --out"
    with pytest.raises(WeightsLost, match=message):
        train(distilled(teacher), run.path, resume=True, device="cpu", quiet=True)
    (run.path / name).unlink()
    assert run.summary()["state"] == f"damaged: its {name} is missing"
    run.result_path.unlink()
    with pytest.raises(WeightsLost, match=rf"cannot go on, as a file of an epoch that is done is lost: .*{name}"):
        train(distilled(teacher), run.path, resume=True, device="cpu", quiet=True)


def stop_after(n_steps, monkeypatch):
    """Ask the run to stop, as a signal would, after this many steps."""
    original, done = Tally.add, []

    def add(self, *arguments, **options):
        original(self, *arguments, **options)
        done.append(1)
        if len(done) == n_steps:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(Tally, "add", add)


@pytest.mark.slow
def test_everything_that_has_a_state_is_resumed(tmp_path, monkeypatch, teacher):
    settings = (
        f"teacher={teacher}", "training.ema_decay=0.9", "training.mixing.mixup=0.8", "training.mixing.cutmix=1.0",
        "training.accumulate=2", "training.optimizer.name=adamw", "training.optimizer.lr=1e-3",
        "model.name=vit_tiny_patch16_224", "training.clip_grad_norm=1.0",
        "model.args={patch_size: 8, embed_dim: 24, depth: 2, num_heads: 2, drop_path_rate: 0.3, proj_drop_rate: 0.1}",
    )  # fmt: skip
    chosen = config("digits/resnet8-kd", *settings)
    train(chosen, tmp_path / "whole", device="cpu", quiet=True)
    stop_after(9, monkeypatch)
    with pytest.raises(Stopped):
        train(chosen, tmp_path / "parts", device="cpu", quiet=True)
    monkeypatch.undo()
    train(chosen, tmp_path / "parts", resume=True, device="cpu", quiet=True)
    assert outcome(tmp_path / "parts") == outcome(tmp_path / "whole")


@pytest.mark.slow
def test_killed_at_random_moments_and_resumed_equals_an_uninterrupted_run(student, teacher, tmp_path):
    rng = random.Random(0)
    values = write_yaml(distilled(teacher, "training.saving.minutes=0"))
    (tmp_path / "config.yaml").write_text(values)
    whole = tmp_path / "whole"
    train(distilled(teacher, "training.saving.minutes=0"), whole, device="cpu", quiet=True)
    for trial in range(8):
        out, told = tmp_path / f"run{trial}", tmp_path / f"{trial}.txt"
        words = ["train", tmp_path / "config.yaml", "--out", out, "--quiet", "--device", "cpu"]
        for attempt in itertools.count(1):
            if RunFolder(out).finished:
                break
            resume = ["--resume"] if (out / "config.yaml").is_file() else []
            before, process = saved_at(out), killable.start([*words, *resume], told)
            until(lambda: saved_at(out) != before or not process.is_alive())  # noqa: B023 - called here
            process.join(rng.uniform(0, attempt))
            killable.end(process, told)
        assert outcome(out) == outcome(whole), f"trial {trial}"


def saved_at(run):
    with suppress(FileNotFoundError):
        return (run / "state.pt").stat().st_mtime_ns


@pytest.mark.slow
def test_ctrl_c_saves_and_exits(tmp_path):
    command = [
        sys.executable,
        "-m",
        "kdprobe",
        "train",
        "digits/resnet8",
        "--out",
        str(tmp_path / "run"),
        "--device",
        "cpu",
    ]
    few = ["--set", "training.epochs=500", "--set", "data.per_class=8", "--set", "data.image_size=8"]
    process = subprocess.Popen([*command, *few], stderr=subprocess.PIPE, text=True)
    assert any(line.startswith("epoch 1/500") for line in process.stderr)
    process.send_signal(signal.SIGINT)
    _, text = process.communicate(timeout=60)
    assert process.returncode == 130
    assert re.search(r"^kdprobe: stopped by SIGINT in epoch \d+ after step \d+; continue with --resume", text, re.M)
    assert (tmp_path / "run" / "state.pt").is_file()


def test_a_full_disk_leaves_the_older_state_whole(student, teacher, tmp_path, monkeypatch):
    out = tmp_path / "run"
    shutil.copytree(student[0], out)
    (out / "result.json").unlink()
    before = {name: (out / name).read_bytes() for name in ("state.pt", "state.previous.pt")}

    def full(*_arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(
        RunError, match=r"state\.pt could not be saved: No space left on device; the state saved before"
    ):
        monkeypatch.setattr(torch, "save", full)
        state.save_state(out / "state.pt", {}, state.Position())
    assert before == {name: (out / name).read_bytes() for name in before}


def test_a_data_set_that_changed_size_is_told(student, teacher, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(student[0], out)
    with pytest.raises(RunError, match="was saved with 96 training images, but now there are 7"):
        state.restore_state(out / "state.pt", {}, n_images=7)


def test_a_state_of_another_method_is_told(student):
    with pytest.raises(RunError, match=r"state\.pt belongs to another model or method"):
        state.restore_state(student[0] / "state.pt", {"objective": torch.nn.Linear(2, 2)}, n_images=N_TRAIN)
    with pytest.raises(RunError, match="there is no state nowhere"):
        state.restore_state(Path("nowhere/state.pt"), {}, n_images=N_TRAIN)


def test_the_seed_of_the_data_decides_what_is_seen_and_the_seed_what_begins():
    settings = ("data.seed=7", "data.per_class=20", "training.mixing.mixup=1")
    trainers = []
    for seed in (0, 1):
        chosen = config("digits/resnet8", *settings, f"seed={seed}")
        job, group = build(chosen, torch.device("cpu")), Ranks(0, 1, torch.device("cpu"))
        trainers.append(loop.Trainer(chosen.training, chosen.data, job, group, seed=seed))
    seen = [[t.mixed(batch, state.Position())[0].images for batch in t._batches(state.Position(1))] for t in trainers]
    assert all(map(torch.equal, *seen))
    assert not torch.equal(trainers[0].job.student.fc.weight, trainers[1].job.student.fc.weight)


@pytest.mark.parametrize("mixing", ["{}", "{mixup: 0.8, cutmix: 1.0}"])
def test_accumulation_gives_the_same_update(tmp_path, mixing):
    vit = ("model.args.depth=2", "training.precision=fp32", "training.epochs=1", f"training.mixing={mixing}")
    curves = []
    for count in (1, 3):
        out = tmp_path / str(count)
        train(config("digits/vit-teacher", *vit, f"training.accumulate={count}"), out, device="cpu", quiet=True)
        curves.append(RunFolder(out).metrics()[0]["loss"])
    assert curves[0] == pytest.approx(curves[1], abs=1e-5)


def test_the_average_of_the_weights_is_exported(tmp_path):
    chosen = config("digits/resnet8", "training.ema_decay=0.5")
    train(chosen, tmp_path / "run", device="cpu", quiet=True)
    saved = torch.load(tmp_path / "run" / "state.pt", weights_only=True)["parts"]
    exported = kdprobe.load(tmp_path / "run").state_dict()
    assert torch.equal(exported["fc.weight"], saved["ema"]["module.fc.weight"])
    assert not torch.equal(exported["fc.weight"], saved["objective"]["student.model.fc.weight"])


def test_memory_advice_names_what_to_lower():
    text = out_of_memory_advice(
        config("digits/resnet8", "training.precision=fp32"),
        torch.nn.Linear(2**20, 256, device="meta"),
        torch.device("cpu"),
    )
    assert "cpu ran out of memory: weights, gradients and optimizer take 3.00 GiB" in text
    assert "training.accumulate=2" in text
    assert "training.precision=bf16" in text


def test_out_of_memory_is_one_line(tmp_path, monkeypatch):
    def burst(*_arguments):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(loop.Trainer, "_step", burst)
    with pytest.raises(RunError, match="cpu ran out of memory"):
        train(config(), tmp_path / "run", device="cpu", quiet=True)


def test_event_files_are_written_on_request(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ConfigError, match=r"TensorBoard is not installed: pip install 'kdprobe\[tensorboard\]'"):
        train(config(), tmp_path / "run", device="cpu", quiet=True, loggers=["tensorboard"])
    assert not (tmp_path / "run").exists(), "the folder is still free"
    writer = MagicMock()
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", SimpleNamespace(SummaryWriter=writer))
    train(config(), tmp_path / "run", device="cpu", quiet=True, loggers=["tensorboard"])
    writer.assert_called_once_with(str(tmp_path / "run" / "tensorboard"), purge_step=1)
    writer.return_value.close.assert_called_once_with()
    written = [call.args for call in writer.return_value.add_scalar.call_args_list]
    accuracies = [(value, epoch) for name, value, epoch in written if name == "accuracy"]
    assert accuracies == [(record["accuracy"], record["epoch"]) for record in RunFolder(tmp_path / "run").metrics()]


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["digits/resnet8-kd", "digits/resnet8-dropkd"])
def test_a_compiled_run_learns_the_same(tmp_path, teacher, recipe):
    losses = []
    for wanted in ("false", "true"):  # in processes of their own: the type checker cannot be compiled
        (tmp_path / f"{wanted}.yaml").write_text(
            write_yaml(config(recipe, f"teacher={teacher}", f"training.compile={wanted}", "training.epochs=1"))
        )
        command = [sys.executable, "-m", "kdprobe", "train", str(tmp_path / f"{wanted}.yaml"), "--device", "cpu"]
        done = subprocess.run([*command, "--out", str(tmp_path / wanted)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "training.compile is off" not in done.stderr
        losses.append(RunFolder(tmp_path / wanted).metrics()[0]["loss"])
    assert losses[0] == pytest.approx(losses[1], abs=0.05)


def test_resuming_a_finished_run_changes_nothing(student, teacher):
    out, result = student
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert train(distilled(teacher), out, resume=True, device="cpu", quiet=True) == result
    assert before == {path.name: path.read_bytes() for path in out.iterdir()}


def test_a_run_that_another_process_trains_is_refused_until_that_is_gone(student, teacher, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(student[0], out)
    (out / "result.json").unlink()
    lines = (
        "import sys, pathlib, kdprobe.runs.folder",
        "with kdprobe.runs.folder.RunFolder(pathlib.Path(sys.argv[1])).held(): print(flush=True), sys.stdin.read()",
    )
    command = [sys.executable, "-c", "\n".join(lines), str(out)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        with pytest.raises(RunError, match=r"another process is training in .*run; wait for it or stop it$"):
            train(distilled(teacher), out, resume=True, device="cpu", quiet=True)
        assert problems(RunFolder(out)) == []
        assert [run.path for run in find_runs(tmp_path)] == [out]
        process.kill()
    train(distilled(teacher), out, resume=True, device="cpu", quiet=True)
    assert outcome(out) == outcome(student[0])
    assert {path.name for path in out.iterdir()} == {path.name for path in student[0].iterdir()}


def test_the_callers_random_state_is_left_alone(tmp_path):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    train(config("digits/resnet8", "training.epochs=1"), tmp_path / "run", device="cpu", quiet=True)
    assert torch.equal(before, torch.get_rng_state())
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.utils.deterministic.fill_uninitialized_memory


def test_the_teacher_does_not_change(student, teacher):
    assert (teacher / LAST).exists()
    assert kdprobe.load(teacher).kdprobe_info.sha256 == student[1]["teacher_sha256"]


@pytest.mark.slow
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
    assert 0 <= result["accuracy"] <= 1


def test_what_a_killed_process_left_behind_is_no_obstacle(tmp_path):
    (tmp_path / ".config.yaml.elsewhere.1.0123abcd.tmp").touch()
    RunFolder(tmp_path).claim(config(), resume=False)
    assert RunFolder(tmp_path).config_path.is_file()


def test_data_that_are_not_those_that_are_expected_are_refused(tmp_path):
    expected = Inputs(data="0" * 64)
    with pytest.raises(
        RunError, match=r"run cannot be trained: before, the data tests\.tiny:digits had the sha256 0{64},"
    ):
        train(config(), tmp_path / "run", device="cpu", quiet=True, inputs=expected)
    assert not (tmp_path / "run").exists()


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
    flip(out / "state.pt")
    flip(out / "state.previous.pt")
    expected = r"state\.pt is damaged and passed over \(.*state\.previous\.pt is damaged .*; no other state is left"
    with pytest.raises(RunError, match=expected):
        train(distilled(teacher), out, resume=True, device="cpu", quiet=True)


def flip(path):
    """Flip one bit in the middle of an archive's largest member; between members are bytes without a meaning."""
    with zipfile.ZipFile(path) as archive:
        member = max(archive.infolist(), key=lambda info: info.file_size)
    content = bytearray(path.read_bytes())
    header = member.header_offset
    lengths = (
        int.from_bytes(content[header + 26 : header + 28], "little"),
        int.from_bytes(content[header + 28 : header + 30], "little"),
    )
    content[header + 30 + sum(lengths) + member.file_size // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [flip, lambda path: path.write_bytes(path.read_bytes()[:-4000])])
def test_a_damaged_state_is_passed_over_for_the_one_before(student, teacher, tmp_path, damage, capsys):
    out = tmp_path / "run"
    shutil.copytree(student[0], out)
    (out / "result.json").unlink()
    damage(out / "state.pt")
    train(distilled(teacher), out, resume=True, device="cpu")
    assert "state.pt is damaged and passed over" in capsys.readouterr().err
    assert outcome(out) == outcome(student[0])


def test_a_state_of_another_version_is_told(student, teacher, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(student[0], out)
    (out / "result.json").unlink()
    torch.save({"version": 99}, out / "state.pt")
    with pytest.raises(RunError, match="has version 99; this kdprobe continues versions 1 and 2"):
        train(distilled(teacher), out, resume=True, device="cpu", quiet=True)


def test_pairs_must_agree_on_classes(tmp_path):
    from kdprobe.models import create
    from kdprobe.models.checkpoint import save

    save(create("resnet8", n_classes=7, image_size=16), tmp_path / "seven.safetensors")
    with pytest.raises(ModelError, match="has 7 classes, but the student has 10"):
        train(config("digits/resnet8-kd", f"teacher={tmp_path}/seven.safetensors"), tmp_path / "r", quiet=True)
    assert not (tmp_path / "r").exists()


def test_teacher_and_data_must_agree_on_the_classes(tmp_path):
    from kdprobe.models import create
    from kdprobe.models.checkpoint import save

    def teacher_of(*classes):
        save(create("resnet8", n_classes=10, image_size=16, classes=classes), tmp_path / "teacher.safetensors")
        chosen = config("digits/resnet8-kd", f"teacher={tmp_path}/teacher.safetensors")
        return build(chosen, torch.device("cpu")).teacher

    with pytest.raises(
        ModelError, match=r"in another order: class 1 is '2' to the teacher, but '1' in the data; teach"
    ):
        teacher_of("0", "2", "1", *"3456789")
    assert teacher_of(*"0123456789") is not None
    assert teacher_of() is not None, "its classes are not known"


def test_runs_are_found_and_damage_is_told(student, tmp_path):
    out, _ = student
    assert [run.path for run in find_runs(out.parent)] == [out]
    assert RunFolder(out).summary()["epochs"] == "2/2"
    with pytest.raises(RunError, match="is not a run folder: it has no config"):
        RunFolder(tmp_path).config(option_types())
    with pytest.raises(RunError, match="holds no finished run"):
        RunFolder(tmp_path).result()
    (tmp_path / "result.json").write_text("{")
    with pytest.raises(RunError, match=r"result\.json cannot be read as the result of a run"):
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


def spoil(step, monkeypatch):
    """Give a network an image of infinite brightness in one step."""
    original, done = loop.Trainer.mixed, []

    def mixed(self, batch, position):
        done.append(1)
        if len(done) == step + 1:  # the first batch is the rehearsal's
            batch.images[0] = math.inf
        return original(self, batch, position)

    monkeypatch.setattr(loop.Trainer, "mixed", mixed)


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    steep = ("training.optimizer.lr=1e30", "training.schedule.name=constant")
    told = (
        r"the loss is not finite in step \d+ of epoch 1, at learning rate 1e\+30: 'ce' is (nan|inf); the images of "
        r"this step are (\d+, ){15}\d+; no state was saved before that"
    )
    with pytest.raises(Diverged, match=rf"^{told}$"):
        train(config("digits/resnet8", *steep), tmp_path / "run", device="cpu", quiet=True)
    run = RunFolder(tmp_path / "run")
    assert re.fullmatch(told, run.failure_path.read_text().strip())
    assert run.state == "failed"
    assert not list(run.path.glob("*.safetensors"))


@pytest.mark.slow
@pytest.mark.parametrize(("settings", "step"), [((), 0), (("training.saving.minutes=0",), 1)])
def test_nothing_is_saved_after_a_loss_that_is_not_finite(student, teacher, tmp_path, monkeypatch, settings, step):
    """It comes in step 2 of the second epoch, and is looked for every four steps and before a state is saved."""
    out, chosen = tmp_path / "run", distilled(teacher, *settings)
    with monkeypatch.context() as patched:
        spoil(8, patched)
        patched.setitem(loop._LOOK_EVERY, "cpu", 4)
        with pytest.raises(
            Diverged, match=r"in step 2 of epoch 2, .* holds the state saved before that; --resume continues"
        ):
            train(chosen, out, device="cpu", quiet=True)
    position = torch.load(out / "state.pt", weights_only=True)["position"]
    assert (position["epoch"], position["step"]) == (1, step)
    assert len(RunFolder(out).metrics()) == 1
    train(chosen, out, resume=True, device="cpu", quiet=True)
    assert outcome(out) == outcome(student[0])
    assert not RunFolder(out).failure_path.exists()


def test_the_recorded_loss_is_the_mean_over_the_images(tmp_path, monkeypatch):
    """Also where some of the steps were before a stop."""
    chosen = config("digits/resnet8", "training.epochs=1", "training.batch_size=25")
    losses, add = [], Tally.add

    def look(self, terms, batch, **options):
        losses.append((float(terms["ce"]), len(batch.labels)))
        add(self, terms, batch, **options)

    monkeypatch.setattr(Tally, "add", look)
    stop_after(3, monkeypatch)
    with pytest.raises(Stopped):
        train(chosen, tmp_path / "run", device="cpu", quiet=True)
    train(chosen, tmp_path / "run", resume=True, device="cpu", quiet=True)
    (record,) = RunFolder(tmp_path / "run").metrics()
    assert record["loss"] == record["terms"]["ce"] == pytest.approx(sum(loss * n for loss, n in losses) / N_TRAIN)
    assert record["images"] == N_TRAIN


class Colour(torch.nn.Module):
    """Judges images by their mean colour."""

    def __init__(self, num_classes=10, image_size=16):
        super().__init__()
        self.fc = torch.nn.Linear(3, num_classes)

    def forward(self, x):
        return self.fc(x.mean((2, 3)))


class Steep(Colour):
    """Its logits are finite, but their gradient is not."""

    def forward(self, x):
        logits = super().forward(x)
        return logits + (logits - logits).sqrt()


def in_fp16(kind):
    name = f"model.name=tests.kdprobe.training.test_loop:{kind.__name__}"
    return config("digits/resnet8", "training.precision=fp16", "training.batch_size=2", "training.epochs=1", name)


def test_fp16_gives_up_where_no_scale_of_the_loss_helps(tmp_path):
    out = tmp_path / "run"
    with pytest.raises(
        Diverged,
        match=r"gradients in fp16 are not finite even at a loss scale of 7\.6e-06: more than 32 steps in a row were "
        r"left out; set training\.precision to bf16 or fp32, or lower the learning rate; no state was saved before",
    ):
        train(in_fp16(Steep), out, device="cpu", quiet=True)
    assert RunFolder(out).state == "failed"


def test_fp16_leaves_out_steps_until_it_has_found_a_scale(tmp_path, monkeypatch):
    out = tmp_path / "run"
    monkeypatch.setattr(loop, "make_scaler", lambda *_given: torch.amp.GradScaler("cpu", init_scale=2.0**40))
    train(in_fp16(Colour), out, device="cpu", quiet=True)
    assert torch.load(out / "state.pt", weights_only=True)["parts"]["scaler"]["scale"] < 2.0**40
    assert all(value.isfinite().all() for value in load_file(out / LAST).values())


def test_metrics_of_an_epoch_that_an_older_kdprobe_left_out_are_read(student, tmp_path):
    """Its loss is null: all of its steps were left out."""
    out = tmp_path / "run"
    shutil.copytree(student[0], out)
    first, second = RunFolder(out).metrics()
    first |= {"loss": None, "terms": dict.fromkeys(first["terms"])}
    RunFolder(out).metrics_path.write_text("".join(json.dumps(record) + "\n" for record in (first, second)))
    assert problems(RunFolder(out)) == []
    result, table = training_curves([RunFolder(out)])
    np.testing.assert_array_equal(result.arrays["train_loss"], [[math.nan, second["loss"]]])
    assert table.splitlines()[1].startswith("run,1,,")


@pytest.mark.slow
@pytest.mark.parametrize("n_steps", [6, pytest.param(8, marks=pytest.mark.slow)])
def test_a_run_of_version_1_goes_on(student, teacher, tmp_path, monkeypatch, n_steps):
    """Its configuration says when to give up, and its state kept sums and counts in the position."""
    out = tmp_path / "run"
    with monkeypatch.context() as patched:
        stop_after(n_steps, patched)
        with pytest.raises(Stopped):
            train(distilled(teacher), out, device="cpu", quiet=True)
    written = yaml.safe_load((out / "config.yaml").read_text())
    written["training"]["bad_steps"] = 10
    (out / "config.yaml").write_text(yaml.safe_dump(written))
    content = torch.load(out / "state.pt", weights_only=True)
    tally = content["parts"].pop("tally")
    n_summed = torch.tensor(16.0 * content["position"]["step"], dtype=torch.float64)
    content["position"] |= {**tally, "n_summed": n_summed, "bad_steps": torch.tensor(0)}
    torch.save({**content, "version": 1}, out / "state.pt")
    assert RunFolder(out).config(option_types()) == distilled(teacher)
    assert problems(RunFolder(out)) == []
    train(distilled(teacher), out, resume=True, device="cpu", quiet=True)
    assert outcome(out) == outcome(student[0])


def test_a_state_of_another_kdprobe_is_told(student, tmp_path):
    content = torch.load(student[0] / "state.pt", weights_only=True)
    for change, differing in (({"phase": 1}, "phase"), ({"step": 3}, "epoch_seconds")):
        position = {**content["position"], **change}
        position.pop("epoch_seconds")
        torch.save({**content, "position": position}, tmp_path / "state.pt")
        with pytest.raises(RunError, match=rf"by another version of kdprobe, which differs in {differing}; it cannot"):
            state.restore_state(tmp_path / "state.pt", {}, n_images=N_TRAIN)
    torch.save({**content, "position": {**position, "step": 0}}, tmp_path / "state.pt")
    assert state.restore_state(tmp_path / "state.pt", {}, n_images=N_TRAIN)[0].epoch == 2


def test_time_before_a_stop_counts(tmp_path, monkeypatch):
    """By a clock that goes on by a second whenever it is looked at, and by a hundred in each step."""
    seconds = itertools.count()
    clock = SimpleNamespace(perf_counter=lambda: float(next(seconds)))
    original = loop.Trainer._step

    def step(self):
        for _ in range(100):
            clock.perf_counter()
        original(self)

    monkeypatch.setattr(loop, "time", clock)
    monkeypatch.setattr(loop.Trainer, "_step", step)
    stop_after(6, monkeypatch)
    chosen = config("digits/resnet8")
    with pytest.raises(Stopped, match="in epoch 1 after step 6"):
        train(chosen, tmp_path / "run", device="cpu", quiet=True)
    result = train(chosen, tmp_path / "run", resume=True, device="cpu", quiet=True)
    first, second = RunFolder(tmp_path / "run").metrics()
    assert 600 <= first["seconds"] <= 610
    assert first["images_per_second"] == pytest.approx(N_TRAIN / first["seconds"], abs=0.1)
    assert 600 <= second["seconds"] <= 610
    assert result["seconds"] == first["seconds"] + second["seconds"]
