"""One training, from a configuration to a finished run folder."""

import warnings
from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from kdprobe.config import RunConfig
from kdprobe.errors import Diverged, RunError, WeightsLost
from kdprobe.models.creation import count_parameters
from kdprobe.runs.folder import RunFolder
from kdprobe.runs.inputs import Inputs
from kdprobe.runtime.distributed import ranks
from kdprobe.runtime.out_of_memory import out_of_memory_advice
from kdprobe.runtime.precision import repeatable, warn_of_emulation, with_precision
from kdprobe.runtime.signals import StopRequest, stop_requests
from kdprobe.teachers.stored_teacher import StoredTeacher
from kdprobe.training.build import Job, build
from kdprobe.training.console import Watch
from kdprobe.training.loggers.making import make_loggers
from kdprobe.training.loop import Trainer
from kdprobe.training.places import require_inputs
from kdprobe.training.rehearsal import rehearse
from kdprobe.training.saving import Keeper, resumed
from kdprobe.training.state import Position
from kdprobe.user_code import trusting


def train(
    config: RunConfig,
    out: str | Path,
    *,
    resume: bool = False,
    device: str = "auto",
    download: bool = False,
    quiet: bool = False,
    loggers: Iterable[str] = (),
    trust: Iterable[str] = (),
    named_by: str | Path | None = None,
    inputs: Inputs | None = None,
) -> dict[str, Any]:
    """Train one network as configured and leave a run folder.

    Under `torchrun`, all processes train together and the first one writes.

    Args:
        config: the run's, complete.
        out: the run folder; empty or absent, or with `resume` one that holds the same configuration.
        resume: continue where the run stopped; a finished run is left as it is.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, ...
        download: fetch a data set that is not there, where that can be done.
        quiet: no progress on standard error.
        loggers: names of what else is told the metrics: `tensorboard`, `wandb`, `mlflow`, and those of installed
            packages.
        trust: modules whose code files may name: the teacher's checkpoint, and `named_by`.
        named_by: the file that holds the configuration, unless the person at the keyboard gave it.
        inputs: which teacher and data these must be, by their content.

    Returns:
        the content of `result.json`.

    Raises:
        KdprobeError: for anything in the configuration that cannot be used, before anything is written.
        Diverged: if a loss or a logit is not finite.
        Stopped: on SIGINT or SIGTERM, after everything was saved.

    Example:
        >>> from kdprobe.config import RunConfig
        >>> from kdprobe.training import train
        >>> config = RunConfig(data={"spec": "digits", "per_class": 2}, model={"name": "resnet8"})
        >>> result = train(config, "runs/first", device="cpu", quiet=True)
        >>> result["epochs"], result["images_seen"], result["evaluated_images"]
        (1, 20, 359)
    """
    with ranks(device) as group, repeatable(config.seed, group.device), stop_requests() as stop:
        folder, asked = RunFolder(Path(out)), config
        config = with_precision(asked, group, begun=folder.precision() if resume else None)
        if resume and folder.config_path.is_file():
            require_inputs(config, out, download=download, begun=folder.begun)
        # whatever is to be said waits until nothing can be refused any more: a refusal is one line
        with trusting(trust), stop.at_once(), warnings.catch_warnings(record=True) as remarks:
            begun_as = folder.network() if resume and folder.begun else None
            job = build(config, group.device, download=download, named_by=named_by, begun_as=begun_as)
        named = {"teacher": config.teacher, "data": config.data.spec, "weights": config.model.weights}
        if inputs and (changes := inputs.changes(job.inputs, **named)):
            raise RunError(f"{out} cannot be trained: before, {'; '.join(changes)}")
        told = make_loggers(loggers, folder.path, config.model_dump(mode="json")) if group.main else {}
        watch = Watch(config.training.epochs, quiet=quiet or not group.main, loggers=told)
        trainer = Trainer(config.training, config.data, job, group, seed=config.seed)
        notes: list[str | None] = []
        if group.main:
            folder.check_free(asked, resume=resume, inputs=job.inputs)
            notes = [folder.check_inputs(job.inputs, asked), *job.data.notes, *job.notes]
        group.wait()
        if folder.finished:
            result = folder.result(("accuracy", "evaluated_on", "epochs", "seconds"))
            if group.main:
                if damage := folder.damage(hashed=True):
                    raise WeightsLost(f"{out} is finished, but {damage}; begin anew with another --out")
                _tell(watch, notes, remarks)
            return result
        try:
            with stop.at_once():
                said = rehearse(trainer, config)  # of a resumed run too: it shows whether deterministic kernels will do
                group.wait()  # a process that fails here ends them all before the folder is taken
            stored = job.teacher.begun(group) if isinstance(job.teacher, StoredTeacher) else nullcontext("")
            with stored as kept, folder.held() if group.main else nullcontext():
                if group.main:
                    precision, network = config.training.precision, job.network
                    how = "" if trainer.compilation is None else trainer.compilation.words
                    notes += [said, f"computing in {precision} on {group.device}{how}", kept]
                    _tell(watch, notes, remarks)
                    warn_of_emulation(job.student, precision, group.device)
                    folder.claim(asked, resume=resume, precision=precision, network=network, inputs=job.inputs)
                    folder.keep_inputs(job.inputs)
                    folder.failure_path.unlink(missing_ok=True)  # it may not fail again
                group.wait()
                return _run(config, trainer, folder, stop, watch, resume=resume)
        except torch.OutOfMemoryError as error:
            raise RunError(out_of_memory_advice(config, job.objective, group.device)) from error


def _tell(watch: Watch, notes: Iterable[str | None], remarks: Iterable[warnings.WarningMessage]) -> None:
    """What the user should know of a training, now that nothing in it is refused."""
    for note in notes:
        if note:
            watch.say(note)
    for remark in remarks:
        warnings.warn(remark.message, stacklevel=3)


def _run(
    config: RunConfig, trainer: Trainer, folder: RunFolder, stop: StopRequest, watch: Watch, *, resume: bool
) -> dict[str, Any]:
    """Train in a folder that is claimed, and write the result."""
    job, group = trainer.job, trainer.group
    keeper = Keeper(
        folder,
        config.training,
        stop,
        keeps_snapshot=config.keeps_snapshot,
        method=job.method,
        options=config.method,
        exported=trainer.exported,
        stateful=trainer.stateful,
        writes=group.main,
    )
    position = Position(n_images=trainer.n_images)
    if resume:
        position = resumed(
            folder,
            trainer.stateful,
            n_epochs=config.training.epochs,
            n_images=trainer.n_images,
            group=group,
            say=watch.say,
        )
    try:
        if group.main and watch.told:
            for record in folder.metrics():  # of the epochs that an earlier process trained
                watch.log(record)
        trainer.run(position, keeper, watch)
    except Diverged as error:
        raise keeper.failed(error) from None
    finally:
        watch.told.close()
    group.wait()
    if group.main:
        folder.write_result(_result(config, job, folder, position))
    group.wait()
    return folder.result()


def _result(config: RunConfig, job: Job, folder: RunFolder, position: Position) -> dict[str, Any]:
    """The content of `result.json`."""
    metrics, labelled, test = folder.metrics(), bool(job.data.classes), job.data.test
    n_judged = len(test) + test.n_skipped - metrics[-1].get("skipped_in_evaluation", test.n_skipped)
    n_seen = sum(record["images"] for record in metrics)
    return {
        "model": config.model.name,
        "method": config.method["name"],
        "teacher": config.teacher,
        "teacher_sha256": job.inputs.teacher,
        "data": job.data.spec,
        "data_sha256": job.inputs.data,
        "image_size": job.data.image_size,
        "view_size": job.data.train.image_size,
        **({} if config.data.decode == "exact" else {"decode": config.data.decode}),
        "teacher_image_size": None if job.teacher is None else job.teacher.info.image_size,
        **_first_weights(config, folder),
        "evaluated_on": job.data.evaluated_on if labelled else None,
        "evaluated_images": n_judged if labelled else 0,
        "seed": config.seed,
        "epochs": position.epoch,
        "precision": config.training.precision,
        "images_seen": n_seen,
        "teacher_images": 0 if job.teacher is None else n_seen * job.method.n_views,
        "accuracy": metrics[-1]["accuracy"],
        "best_accuracy": position.best_accuracy if labelled else None,
        "best_epoch": position.best_epoch if labelled else None,
        "parameters": count_parameters(job.student),
        "auxiliary_parameters": count_parameters(job.method),
        "seconds": round(position.seconds, 2),
        "sha256": folder.weights_sha256(),
        **({"teacher_store": job.teacher.summary} if isinstance(job.teacher, StoredTeacher) else {}),
    }


def _first_weights(config: RunConfig, folder: RunFolder) -> dict[str, Any]:
    """What a result says of the weights that its run started from, if it did."""
    before = folder.inputs()
    if config.model.weights is None or before is None:
        return {}
    return {"weights": config.model.weights, "weights_sha256": before.weights}
