"""The run folder: everything a training leaves behind, each file complete or absent.

config.yaml           the resolved configuration
env.json              versions, command, git state, device, threads, the precision that `auto` resolved to, and what the
                      first weights decided about the network
inputs.json           the sha256 of teacher, data and first weights, as they were when the run began
metrics.jsonl         one line per epoch, appended and flushed
result.json           written at the end: its presence means that the run is finished
failure.txt           instead of it, if the loss or the logits were not finite: which of them
last.safetensors      the network after the last epoch; best.safetensors after its best epoch, where there are labels
auxiliary.safetensors the method's own modules, if it has any
snapshots/            epoch-0000.safetensors, ...: the network after that number of epochs, if asked for
state.pt              everything needed to continue
training.lock         exists while a process trains in the folder
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from kdprobe.config import RunConfig, Section, parse, write_yaml
from kdprobe.errors import RunError
from kdprobe.files import Lock, is_temporary, write_text
from kdprobe.formats.jsons import read_json
from kdprobe.formats.yamls import read_yaml
from kdprobe.runs.environment import environment
from kdprobe.runs.inputs import Inputs, read_inputs
from kdprobe.runs.paths import LOCK, RunPaths
from kdprobe.runs.records import RunResult, lacking, read_epochs, text_of, weights_problem

FORMAT = "kdprobe-run"
VERSION = 1
PLACES = ("teacher", "data.spec", "model.weights")  # keys of a configuration that say where the inputs are
_STORE = "teacher_facts.store"  # what it keeps is known by its content too


@dataclass(frozen=True)
class RunFolder(RunPaths):
    """A run's folder and its small files.

    Attributes:
        path: the folder.

    Example:
        >>> from pathlib import Path
        >>> from kdprobe.config import RunConfig
        >>> from kdprobe.runs import RunFolder
        >>> folder = RunFolder(Path("runs/first"))
        >>> folder.claim(RunConfig(data={"spec": "digits"}, model={"name": "resnet8"}), resume=False)
        >>> folder.state, folder.summary()["epochs"]
        ('unfinished', '0/1')
    """

    @property
    def finished(self) -> bool:
        """Whether the run is finished."""
        return self.result_path.is_file()

    @property
    def state(self) -> str:
        """`finished`, `damaged` and why, `failed` if the loss or the logits were not finite, or `unfinished`."""
        if self.finished:
            return f"damaged: {damage}" if (damage := self.damage()) else "finished"
        return "failed" if self.failure_path.is_file() else "unfinished"

    def damage(self, *, hashed: bool = False) -> str:
        """What is wrong with a finished run, in words; empty if nothing is, or if it is not finished.

        Args:
            hashed: read its weights and compare their hashes, instead of only checking that they exist.
        """
        if not self.finished:
            return ""
        try:
            return weights_problem(self.path, self.result(), hashed=hashed)
        except RunError as error:
            return str(error)

    def check_free(self, config: RunConfig, *, resume: bool, inputs: Inputs | None = None) -> None:
        """Check that the folder can be claimed, without writing anything.

        Args:
            config: configuration of the run.
            resume: continue what is there.
            inputs: teacher and data as they are now; if the run began with the same ones, they may have moved.

        Raises:
            RunError: as `claim` does.
        """
        if resume:
            self._check_resumable(config, inputs)
            return
        if self.config_path.exists():
            raise RunError(f"{self.path} already holds a run; continue it with --resume or choose another --out")
        if os.path.lexists(self.path) and (not self.path.is_dir() or any(map(_foreign, self.path.iterdir()))):
            raise RunError(f"{self.path} is not an empty folder; choose another --out")

    def claim(
        self,
        config: RunConfig,
        *,
        resume: bool,
        precision: str | None = None,
        network: Mapping[str, Any] | None = None,
        inputs: Inputs | None = None,
    ) -> None:
        """Take an empty folder for a new run, or continue one of the same configuration; to be called inside `held`.

        Args:
            config: configuration of the run.
            resume: continue what is there.
            precision: the precision that the run computes in, if the configuration leaves it open.
            network: args, mean and std of the network, where its first weights decided them.
            inputs: as for `check_free`; if they have moved, the stored configuration gets their new place.

        Raises:
            RunError: if the folder holds another run or other files, cannot be written, or holds nothing to resume, or
                if the configuration differs (the keys are listed).
        """
        self.check_free(config, resume=resume, inputs=inputs)
        environment_path = self.path / "env.json"
        with _writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            if not resume or differing_keys(_written(self.config_path), config.model_dump(mode="json")):
                write_text(self.config_path, write_yaml(config))
            if not environment_path.exists():  # missing too after a kill between the two files
                facts = environment() | {"precision": precision} | ({} if network is None else {"network": network})
                write_text(environment_path, json.dumps(facts, indent=1) + "\n")

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes from training in the folder; the system releases the lock of a process that dies.

        Raises:
            RunError: if another process trains in it, or if it cannot be written.
        """
        try:
            with _writing(self.path):
                self.path.mkdir(parents=True, exist_ok=True)
                lock = Lock(self.lock_path)
        except BlockingIOError as error:
            raise RunError(f"another process is training in {self.path}; wait for it or stop it") from error
        try:
            yield
        finally:
            lock.release()

    def inputs(self) -> Inputs | None:
        """Which teacher and data the run learns from; None if an older kdprobe did not record it.

        Raises:
            RunError: if the record is damaged.
        """
        written = read_inputs(self.inputs_path)
        if written is not None or not self.finished:
            return written
        result = self.result()
        hashes = [result.get(key) for key in ("teacher_sha256", "data_sha256", "weights_sha256")]
        return Inputs(*(value if isinstance(value, str) else None for value in hashes))

    def check_inputs(self, now: Inputs, config: RunConfig) -> str | None:
        """Check that teacher and data are those that the run began with.

        Returns:
            a sentence for the user if that cannot be known.

        Raises:
            RunError: if one of them has changed, naming both hashes.
        """
        before = self.inputs()
        if before is None:
            return (
                f"{self.path} was begun by an older kdprobe, which did not record its teacher and data, so it is not "
                "checked whether they are still the same"
                if self.begun
                else None
            )
        if changes := before.changes(now, teacher=config.teacher, data=config.data.spec, weights=config.model.weights):
            raise RunError(
                f"{self.path} cannot go on: when it began, {'; '.join(changes)}; give what it learnt from, or start "
                "again with another --out"
            )
        return None

    def keep_inputs(self, now: Inputs) -> None:
        """Record which teacher and data the run learns from, before it begins."""
        if not self.inputs_path.exists() and not self.begun:
            with _writing(self.path):
                now.write(self.inputs_path)

    @property
    def begun(self) -> bool:
        """Whether the folder holds anything that was learnt, from which a run goes on."""
        return any(path.exists() for path in (self.state_path, self.state_path.with_suffix(".previous.pt")))

    def _check_resumable(self, config: RunConfig, inputs: Inputs | None) -> None:
        if not self.config_path.is_file():
            raise RunError(f"there is no run to resume in {self.path}")
        before = self.inputs()
        same = set() if before is None or inputs is None else before.same(inputs)
        values = _written(self.config_path), config.model_dump(mode="json")
        if all((one.get("teacher_facts") or {}).get("store") for one in values):
            same.add(_STORE)
        changed = [key for key in differing_keys(*values) if key not in same]
        if inputs is not None and set(changed) <= set(PLACES):
            self.check_inputs(inputs, config)  # something else is at the new place
        if changed:
            raise RunError(
                f"{self.path} was started with another configuration; these keys differ: {', '.join(changed)}"
            )

    def config(self, methods: Mapping[str, type[Section]]) -> RunConfig:
        """The run's configuration.

        Raises:
            RunError: if this is not a run folder.
        """
        return parse(_written(self.config_path), methods, source=str(self.config_path))

    def values(self) -> dict[str, Any]:
        """The configuration, with defaults for options that did not exist when it was written.

        Raises:
            RunError: if this is not a run folder.
        """
        try:
            return RunConfig.model_validate(_read(self.config_path)).model_dump(mode="json")
        except ValidationError as error:
            raise RunError(f"{self.config_path} is not the configuration of a run") from error

    def precision(self) -> str | None:
        """The precision that the run computes in, as determined when it began; None if not known."""
        found = self._environment("precision")
        return found if isinstance(found, str) else None

    def network(self) -> dict[str, Any] | None:
        """What `claim` was told of the network."""
        found = self._environment("network")
        return found if isinstance(found, dict) else None

    def _environment(self, key: str) -> Any:
        """A value of `env.json`; None where there is none, or where the file is damaged, as `runs verify` reports."""
        try:
            facts = read_json(self.path / "env.json", RunError, expected="the environment of a run")
        except RunError:
            return None
        return facts.get(key) if isinstance(facts, dict) else None

    def append_metrics(self, record: Mapping[str, Any]) -> None:
        """Add one epoch's line and flush it to disk."""
        with self.metrics_path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def metrics(self) -> list[dict[str, Any]]:
        """All whole lines of `metrics.jsonl`, of epochs 1, 2, 3, ...; a line cut short by a kill is left out.

        Raises:
            RunError: naming a line that is damaged, or of another epoch.
        """
        return read_epochs(self.metrics_path)

    def keep_metrics(self, n_epochs: int) -> None:
        """Drop the lines of epochs after the first `n_epochs`, before these are trained again."""
        lines = [json.dumps(record) + "\n" for record in self.metrics() if record["epoch"] <= n_epochs]
        write_text(self.metrics_path, "".join(lines))

    def summary(self) -> dict[str, Any]:
        """One line about the run: model, method, data, seed, epochs, last accuracy, state."""
        return {"run": str(self.path), **(self._told_at_its_end() or self._told_so_far()), "state": self.state}

    def _told_at_its_end(self) -> dict[str, Any] | None:
        """What the result says, which is read much faster than configuration and metrics; None if there is none."""
        names = ("model", "method", "data", "seed", "epochs", "accuracy")
        try:
            result = self.result(names) if self.finished else None
        except RunError:
            return None
        if result is None:
            return None
        return {name: result[name] for name in names} | {"epochs": f"{result['epochs']}/{result['epochs']}"}

    def _told_so_far(self) -> dict[str, Any]:
        config, metrics = _shown(self.config_path) or self.values(), self.metrics()
        return {
            "model": config["model"]["name"],
            "method": config["method"]["name"],
            "data": config["data"]["spec"],
            "seed": config["seed"],
            "epochs": f"{len(metrics)}/{config['training']['epochs']}",
            "accuracy": metrics[-1]["accuracy"] if metrics else None,
        }

    def write_result(self, values: Mapping[str, Any]) -> None:
        """Write the final numbers: the run is finished."""
        text = json.dumps({"format": FORMAT, "version": VERSION, **values}, indent=1)
        write_text(self.result_path, text + "\n")

    def result(self, needed: Iterable[str] = ()) -> dict[str, Any]:
        """The final numbers.

        Args:
            needed: keys that must be there.

        Raises:
            RunError: if the run is not finished, the file is foreign, or it lacks a key.
        """
        if not self.finished:
            raise RunError(f"{self.path} holds no finished run: it has no result.json")
        values = read_json(self.result_path, RunError, expected="the result of a run")
        if not isinstance(values, dict) or (values.get("format"), values.get("version")) != (FORMAT, VERSION):
            raise RunError(f"{self.result_path} is not a result of format {FORMAT!r} version {VERSION}")
        if wrong := lacking(RunResult, values, needed):
            raise RunError(f"{self.result_path} is not the result of a training: {wrong}")
        return values


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Report an error of the system as one of the folder, except for a lock that another process holds."""
    try:
        yield
    except BlockingIOError:
        raise
    except OSError as error:
        raise RunError(f"{folder} cannot be written: {error.strerror}") from error


def _foreign(path: Path) -> bool:
    """Whether a file is more than what a killed process may leave in a folder that it has just taken."""
    return path.name != LOCK and not is_temporary(path)


def _written(path: Path) -> Any:
    """A run's configuration; as it is where it is not a run's, so that whatever parses it says what is wrong."""
    values = _read(path)
    try:
        return RunConfig.model_validate(values).model_dump(mode="json")
    except ValidationError:
        return values


def _read(path: Path) -> Any:
    if not path.is_file():
        raise RunError(f"{path.parent} is not a run folder: it has no {path.name}")
    return read_yaml(text_of(path), source=str(path))


def _shown(path: Path) -> Any:
    """A run's configuration, unchecked but for what a summary shows; None where that is not as it should be."""
    values = _read(path)
    try:
        names = values["model"]["name"], values["method"]["name"], values["data"]["spec"]
        counts = values["seed"], values["training"]["epochs"]
    except (KeyError, TypeError):
        return None
    whole = all(isinstance(name, str) for name in names) and all(type(count) is int for count in counts)
    return values if whole else None


def find_runs(folder: str | Path) -> list[RunFolder]:
    """All run folders in `folder` and below, sorted by path.

    What Weights & Biases keeps in a run's folder has a `config.yaml` too, which makes no run.

    Raises:
        RunError: if there is no such folder.

    Example:
        >>> from pathlib import Path
        >>> from kdprobe.config import RunConfig
        >>> from kdprobe.runs import RunFolder, find_runs
        >>> config = RunConfig(data={"spec": "digits"}, model={"name": "resnet8"})
        >>> for name in ("runs/kd", "runs/plain"):
        ...     RunFolder(Path(name)).claim(config, resume=False)
        >>> [run.path.name for run in find_runs(Path("runs"))]
        ['kd', 'plain']
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise RunError(f"there is no folder {folder}")
    found = {path.parent for path in folder.rglob("config.yaml")}
    return [
        RunFolder(path)
        for path in sorted(found)
        if not any(above.name == "wandb" and above.parent in found for above in path.parents)
    ]


def differing_keys(before: Any, after: Any, prefix: str = "") -> list[str]:
    """Dotted paths at which two nested mappings differ."""
    if not (isinstance(before, dict) and isinstance(after, dict)):
        return [] if before == after else [prefix.rstrip(".")]
    keys = [*before, *(key for key in after if key not in before)]
    return [path for key in keys for path in differing_keys(before.get(key), after.get(key), f"{prefix}{key}.")]
