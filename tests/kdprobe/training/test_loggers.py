"""Loggers: every epoch once, also of a run that was stopped; settings once; a logger's failure is no run's failure."""

import json
import signal
import struct
import sys
from pathlib import Path

import pytest

import kdprobe
from kdprobe.errors import ConfigError, Stopped
from kdprobe.runs.folder import RunFolder
from kdprobe.training import train
from kdprobe.training.loggers import making
from kdprobe.training.loggers.making import Listeners, flattened, make_loggers
from kdprobe.training.loggers.run_id import run_id
from kdprobe.training.loop import Trainer
from tests.small_jobs import job_of

NAMES = {"loss", "accuracy", "lr", "ce"}


class Remembering:
    """A logger that remembers all that it is told."""

    def __init__(self, folder, settings):
        self.folder, self.settings, self.told, self.closed = folder, settings, [], 0
        MADE.append(self)

    def log(self, values, step):
        self.told.append((step, dict(values)))

    def close(self):
        self.closed += 1


class Failing(Remembering):
    def log(self, values, step):
        super().log(values, step)
        raise SystemExit("no room\nleft")


MADE: list[Remembering] = []


@pytest.fixture(autouse=True)
def loggers(monkeypatch):
    MADE.clear()
    monkeypatch.setattr(making, "LOGGERS", {**making.LOGGERS, "ours": Remembering, "failing": Failing})
    for name in ("WANDB_MODE", "WANDB_PROJECT", "WANDB_NAME", "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def config():
    return job_of({}, "plain", "training.saving.seconds=0", "data.image_size=8")[0]


def stopped_after(n_steps, config, folder, monkeypatch, **options):
    """A run that is stopped inside an epoch."""
    step, done = Trainer._step, []

    def counted(self):
        step(self)
        done.append(1)
        if len(done) == n_steps:
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "_step", counted)
        with pytest.raises(Stopped):
            train(config, folder, device="cpu", quiet=True, **options)


def expected(folder):
    return [
        (line["epoch"], {"loss": line["loss"], "accuracy": line["accuracy"], "lr": line["lr"], **line["terms"]})
        for line in RunFolder(folder).metrics()
    ]


def test_a_logger_is_told_every_epoch_the_settings_and_the_end(config, tmp_path):
    train(config, tmp_path / "run", device="cpu", quiet=True, loggers=["ours"])
    (logger,) = MADE
    assert logger.told == expected(tmp_path / "run")
    assert logger.told[0][1].keys() == NAMES
    assert (logger.closed, logger.folder) == (1, tmp_path / "run")
    assert logger.settings["training.epochs"] == 3
    assert logger.settings["data.augment.flip"] == config.data.augment.flip
    json.dumps(logger.settings)


def test_a_resumed_run_tells_all_epochs_again(config, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    stopped_after(5, config, folder, monkeypatch, loggers=["ours"])
    train(config, folder, resume=True, device="cpu", quiet=True, loggers=["ours"])
    first, second = MADE
    assert ([step for step, _ in first.told], first.closed) == ([1], 1)
    assert second.told == expected(folder)


def test_a_logger_that_fails_is_told_nothing_more_and_the_training_goes_on(config, tmp_path, capsys):
    result = train(config, tmp_path / "run", device="cpu", quiet=True, loggers=["failing", "ours"])
    assert result["epochs"] == 3
    failing, ours = MADE
    assert (len(failing.told), failing.closed, len(ours.told)) == (1, 0, 3)
    assert "the logger 'failing' failed and is told nothing more, the training goes on: SystemExit: no room left" in (
        capsys.readouterr().err
    )


def test_a_logger_that_cannot_be_closed_is_said():
    class Unclosed(Remembering):
        def close(self):
            raise OSError("disk full")

    said = []
    told = Listeners({"unclosed": Unclosed(Path(), {})}, said.append)
    told.close()
    told.close()
    assert said == ["the logger 'unclosed' failed and is told nothing more, the training goes on: OSError: disk full"]


def test_settings_are_flat():
    assert dict(flattened({"a": {"b": {"c": 1}, "d": []}, "e": {}})) == {"a.b.c": 1, "a.d": [], "e": {}}


@pytest.mark.parametrize(
    ("name", "module", "words"),
    [
        ("tensorboard", "torch.utils.tensorboard", "TensorBoard is not installed: pip install 'kdprobe[tensorboard]'"),
        ("wandb", "wandb", "Weights & Biases is not installed: pip install 'kdprobe[wandb]'"),
        ("mlflow", "mlflow", "MLflow is not installed: pip install 'kdprobe[mlflow]'"),
    ],
)
def test_a_package_that_is_not_there_is_one_line_before_anything_is_written(
    config, tmp_path, monkeypatch, capsys, name, module, words
):
    monkeypatch.setitem(sys.modules, module, None)
    few = ["--set", "data.per_class=2", "--set", "training.epochs=1", "--quiet", "--device", "cpu"]
    assert kdprobe.main(["train", "digits/resnet8", "--out", tmp_path / "run", "--logger", name, *few]) == 2
    assert capsys.readouterr().err == f"kdprobe: {words}\n"
    assert not (tmp_path / "run").exists()


def test_a_logger_that_cannot_be_made_is_one_line(monkeypatch, tmp_path):
    def broken(folder, settings):
        raise RuntimeError("no key")

    monkeypatch.setitem(making.LOGGERS, "broken", broken)
    with pytest.raises(ConfigError, match="the logger 'broken' cannot be made: RuntimeError: no key"):
        make_loggers(["broken"], tmp_path, {})


def test_a_run_has_one_id_wherever_it_is(tmp_path):
    (tmp_path / "run").mkdir()
    before = run_id(tmp_path / "run")
    assert run_id((tmp_path / "run").rename(tmp_path / "moved")) == before


# The packages themselves


def history(path):
    """The id and the rows of a file of W&B: records in blocks of 32 KiB, as in LevelDB's log."""
    from wandb.proto import wandb_internal_pb2

    data, place, whole, rows, name, settings = path.read_bytes(), 7, b"", [], "", {}
    while place < len(data):
        if (left := 32768 - place % 32768) < 7:
            place += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, place)
        whole += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind not in (1, 4):  # the whole record, or its end
            continue
        record = wandb_internal_pb2.Record()
        record.ParseFromString(whole)
        whole = b""
        if record.HasField("run"):
            name = record.run.run_id
            settings |= {one.key: json.loads(one.value_json) for one in record.run.config.update}
        if record.HasField("history"):
            items = record.history.item
            rows.append({one.key or one.nested_key[0]: json.loads(one.value_json) for one in items})
    return name, settings, rows


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_weights_and_biases_has_every_epoch_once_in_the_newest_file_of_one_id(config, tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    folder = tmp_path / "run"
    stopped_after(5, config, folder, monkeypatch, loggers=["wandb"])
    train(config, folder, resume=True, device="cpu", quiet=True, loggers=["wandb"])
    files = sorted((folder / "wandb").glob("offline-run-*/*.wandb"))
    assert {history(path)[0] for path in files} == {run_id(folder)}
    _, settings, rows = history(files[-1])
    assert [(row["_step"], {name: row[name] for name in NAMES}) for row in rows] == expected(folder)
    assert settings["training.epochs"] == 3


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_mlflow_has_every_epoch_once_in_one_run(config, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    folder = tmp_path / "run"
    stopped_after(5, config, folder, monkeypatch, loggers=["mlflow"])
    train(config, folder, resume=True, device="cpu", quiet=True, loggers=["mlflow"])
    client = mlflow.MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    (run,) = client.search_runs([one.experiment_id for one in client.search_experiments()])
    assert (run.info.status, run.data.tags["kdprobe.run"]) == ("FINISHED", run_id(folder))
    assert run.data.params["training.epochs"] == "3"
    for name in NAMES:
        found = [(one.step, one.value) for one in client.get_metric_history(run.info.run_id, name)]
        assert sorted(found) == [(step, values[name]) for step, values in expected(folder)]
    assert {path.name for path in tmp_path.iterdir()} == {"run"}, "nothing is left beside the run"
