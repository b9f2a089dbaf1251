"""CKA of a teacher with the snapshots of a student that was trained from it, epoch by epoch.

The teacher sees the images once: its Gram matrices of all minibatches are kept, which every snapshot is then
compared with over the same minibatches.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from analyses.cka.networks import show
from analyses.cka.result import CKAResult
from analyses.cka.sums import Grams, HSICSums
from analyses.paired_features import match_layers
from kdprobe.config import RunConfig
from kdprobe.data import AS_IT_IS, View
from kdprobe.devices import pick_device
from kdprobe.errors import AnalysisError
from kdprobe.features.capturing import capture
from kdprobe.features.shared_images import Views, open_views
from kdprobe.models.checkpoint import is_foreign, load, read_info
from kdprobe.models.creation import describe
from kdprobe.models.identity import weights_sha256
from kdprobe.results import Result, provenance, save_result
from kdprobe.runs.folder import RunFolder
from kdprobe.runs.inputs import Inputs

if TYPE_CHECKING:
    import pandas as pd

Layers = str | Sequence[str]


def cka_over_time(
    run: Path,
    *,
    teacher: str | None = None,
    data: str | None = None,
    every: int | None = None,
    teacher_layers: Layers = "stages",
    student_layers: Layers = "stages",
    batch_size: int | None = None,
    kernel: str = "linear",
    estimator: str = "unbiased",
    confidence: float = 0.95,
    part: tuple[int, int] = (0, 1),
    device: str | torch.device = "cpu",
    quiet: bool = True,
    trust: Iterable[str] = (),
    view: View = AS_IT_IS,
    told: Mapping[str, Any] | None = None,
) -> Result:
    """CKA of paired layers for each snapshot of a run.

    Args:
        run: folder of a run that kept snapshots.
        teacher: as `kdprobe.load` takes it; the run's own if not given.
        data: a data SPEC; that of the run if not given.
        every: only snapshots after a multiple of so many epochs.
        teacher_layers: as `kdprobe.capture` takes them.
        student_layers: the same for the student; each goes with the teacher's layer at its relative depth.
        batch_size: samples compared at a time; 64 if not given.
        kernel: `linear` or `rbf`.
        estimator: of HSIC, `unbiased` or `biased`.
        confidence: of the intervals over minibatches.
        part: which of how many processes this is.
        device: where the networks run.
        quiet: no progress on standard error.
        trust: modules whose code the run's files may name.
        view: how image files are shown, as `open_views` takes it.
        told: facts of a teacher whose file does not say them, as `open_views` takes them.

    Returns:
        kind "cka-over-time": `epoch` [e] int64; `cka`, `low`, `high` [pairs, e], NaN where the facts' `undefined` or
        `no_interval` says why; the facts' `missing_epochs` are those after which the run should have kept a snapshot.

    Raises:
        AnalysisError: if the run kept no such snapshots, there is no teacher, or teacher or data are not those that
            the run learnt from.
        RunError: if the folder is not that of a run.
    """
    folder = RunFolder(run)
    known = folder.values()["teacher"]
    snapshots = _chosen(folder, every)
    if (teacher or known) is None:
        raise AnalysisError(f"{run} was trained without a teacher; give one with --teacher")
    shown = {"teacher": str(teacher or known), "student": str(next(iter(snapshots.values())))}
    named_by = None if teacher else {"teacher": folder.config_path}
    facts = _teacher_facts(folder, shown) if teacher is None else {}
    options: dict[str, Any] = {"view": view, "identified": True, "told": {**facts, **(told or {})}}
    views = open_views(shown, data=data, trust=trust, named_by=named_by, **options)
    _check_inputs(folder, views, shown["teacher"], own_data=data in (None, folder.values()["data"]["spec"]))
    showing = _Shown(views, batch_size or 64, part, pick_device(device), quiet)
    rows = list(showing.grams("teacher", teacher_layers, label="teacher"))
    found: dict[int, CKAResult] = {}
    for epoch, path in snapshots.items():
        views.models["student"] = load(path, trust=trust)
        sums = HSICSums(kernel, estimator)
        columns = showing.grams("student", student_layers, label=f"epoch {epoch}")
        for (number, one), (_, other) in zip(rows, columns, strict=True):
            if sums.accepts(len(next(iter(one.values())))):
                sums.add(one, other, number=number)
        if part[1] > 1:
            sums.gather()
        found[epoch] = sums.result(confidence=confidence)
    infos = {role: describe(model) for role, model in views.models.items()}
    facts = {**{role: info.name for role, info in infos.items()}, "data": views.data, **_missing(folder, every)}
    origin = {
        "run": str(run),
        "teacher": infos["teacher"].origin(),
        "data": views.data,
    }
    return _paired(found, facts, provenance(**origin))


def over_time_table(result: Result) -> "pd.DataFrame":
    """One row per pair of layers and epoch: cka, low, high, undefined, no_interval (reasons, or empty)."""
    import pandas as pd

    facts, arrays = result.facts, result.arrays
    reasons = {(cell["pair"], cell["epoch"]): cell["reason"] for cell in facts["undefined"]}
    rows = [
        {
            "epoch": int(epoch),
            "teacher_layer": one,
            "student_layer": other,
            **{name: arrays[name][pair, column] for name in ("cka", "low", "high")},
            "undefined": reasons.get((pair, int(epoch)), ""),
            "no_interval": facts["no_interval"]
            if np.isnan(arrays["low"][pair, column]) and not np.isnan(arrays["cka"][pair, column])
            else "",
        }
        for pair, (one, other) in enumerate(zip(facts["teacher_layers"], facts["student_layers"], strict=True))
        for column, epoch in enumerate(arrays["epoch"])
    ]
    return pd.DataFrame(rows)


def save_over_time(result: Result, path: str | Path, *, overwrite: bool = False) -> None:
    """Write the result (`.npz`) and its tidy table beside it; as `save_result` does."""
    save_result(result, path, table=over_time_table(result).to_csv(index=False), overwrite=overwrite)


def summary(result: Result) -> str:
    """First and last CKA of each pair of layers, as a short table."""
    facts, arrays = result.facts, result.arrays
    pairs = [f"{one}, {other}" for one, other in zip(facts["teacher_layers"], facts["student_layers"], strict=True)]
    wide = max(map(len, pairs))
    first, last = arrays["epoch"][0], arrays["epoch"][-1]
    lines = [f"{'teacher layer, student layer':<{wide}}  CKA at epoch {first}  at epoch {last}"]
    lines += [
        f"{pair:<{wide}}  {row[0]:<{len(f'CKA at epoch {first}')}.3f}  {row[-1]:.3f}"
        for pair, row in zip(pairs, arrays["cka"], strict=True)
    ]
    counts = f"{facts['n_samples']} samples in {facts['n_minibatches']} minibatches, {len(arrays['epoch'])} snapshots"
    remarks = [cell["reason"] for cell in facts.get("remarks", [])]
    gaps = [f"no intervals: {facts['no_interval']}"] if facts["no_interval"] else []
    return "\n".join([*lines, counts, *remarks, *gaps])


class _Shown:
    """The test images in one order, minibatch by minibatch, seen by one network at a time."""

    def __init__(self, views: Views, batch_size: int, part: tuple[int, int], device: torch.device, quiet: bool) -> None:
        self._views, self._batch_size, self._part = views, batch_size, part
        self._device, self._quiet = device, quiet or part[0] > 0

    def grams(self, role: str, layers: Layers, *, label: str) -> Iterator[tuple[int, Grams]]:
        """Number of each minibatch and the Gram matrices of the network's layers."""
        model = self._views.models[role].to(self._device)
        alone = Views(self._views.data, {role: model}, {role: self._views.splits[role]})
        loader = alone.loaders(
            batch_size=self._batch_size, shard=self._part, device=self._device, label=label, quiet=self._quiet
        )[role]
        with ExitStack() as stack:
            stack.enter_context(torch.inference_mode())
            taken = stack.enter_context(capture(model, layers, reduce="gram"))
            for count, batch in enumerate(loader):
                number = self._part[0] + count * self._part[1]
                show(model, batch, self._device, minibatch=number)
                yield number, dict(taken)


def _check_inputs(folder: RunFolder, views: Views, teacher: str, *, own_data: bool) -> None:
    """Refuse a teacher or data that lie where the run's lay, but are others: nobody would see it in the result."""
    before, model = folder.inputs() or Inputs(), views.models["teacher"]
    own_teacher = teacher == folder.values()["teacher"]
    now = Inputs(
        describe(model).sha256 or weights_sha256(model) if own_teacher else None, views.sha256 if own_data else None
    )
    if changes := before.changes(now, teacher=teacher, data=views.data):
        raise AnalysisError(
            f"{folder.path} was trained with others: then {'; '.join(changes)}; give the teacher that taught it, or "
            "copy the one to compare with to another path and name that"
        )


def _teacher_facts(folder: RunFolder, shown: Mapping[str, str]) -> dict[str, Any]:
    """What the run was told of its own teacher, and the image size that it took where nothing says one."""
    facts = {key: value for key, value in (folder.values()["teacher_facts"] or {}).items() if value is not None}
    if is_foreign(shown["teacher"]) and "image_size" not in facts:
        facts["default_size"] = read_info(Path(shown["student"])).image_size
    return facts


def _chosen(folder: RunFolder, every: int | None) -> dict[int, Path]:
    kept = folder.snapshots()
    if not kept:
        raise AnalysisError(
            f"{folder.path} keeps no snapshots; train with --set training.saving.snapshots=K to keep one every K epochs"
        )
    chosen = {epoch: path for epoch, path in kept.items() if epoch % (every or 1) == 0}
    if not chosen:
        raise AnalysisError(
            f"{folder.path} has no snapshot every {every} epochs, but those after {', '.join(map(str, kept))}"
        )
    return chosen


def _missing(folder: RunFolder, every: int | None) -> dict[str, Any]:
    """The epochs after which a run has no snapshot although it should, and a remark that says so."""
    config, kept = RunConfig.model_validate(folder.values()), folder.snapshots()
    wanted = [
        epoch
        for epoch in range(config.training.epochs + 1)
        if config.keeps_snapshot(epoch) and not epoch % (every or 1)
    ]
    missing = [epoch for epoch in wanted if epoch not in kept]
    if not missing:
        return {"missing_epochs": []}
    after = ", ".join(map(str, missing[:8])) + (", ..." if len(missing) > 8 else "")
    state = "" if folder.finished else f"; its run is {folder.state}"
    reason = f"no snapshot after {len(missing)} of the {len(wanted)} epochs that should have one: {after}{state}"
    return {"missing_epochs": missing, "remarks": [{"reason": reason}]}


def _paired(found: dict[int, CKAResult], facts: dict[str, Any], origin: dict[str, Any]) -> Result:
    """The pairs of layers at equal relative depth, of all epochs."""
    first = next(iter(found.values()))
    pairs = match_layers(first.teacher_layers, first.student_layers)
    rows = [first.teacher_layers.index(one) for one, _ in pairs]
    columns = [first.student_layers.index(other) for _, other in pairs]
    arrays = {
        name: np.stack([getattr(result, field)[rows, columns] for result in found.values()], axis=1)
        for name, field in (("cka", "matrix"), ("low", "low"), ("high", "high"))
    }
    undefined = [
        {"pair": pairs.index(pair), "epoch": epoch, "reason": cell["reason"]}
        for epoch, result in found.items()
        for cell in result.undefined
        if (pair := (cell["teacher_layer"], cell["student_layer"])) in pairs
    ]
    gaps = [result.facts["no_interval"] for result in found.values() if result.facts["no_interval"]]
    layers = {"teacher_layers": [one for one, _ in pairs], "student_layers": [other for _, other in pairs]}
    why = {"undefined": undefined, "no_interval": gaps[0] if gaps else ""}
    arrays["epoch"] = np.array(list(found), dtype=np.int64)
    return Result("cka-over-time", arrays, {**first.facts, **facts, **layers, **why}, origin)
