"""CKA of a teacher with the snapshots of a student that was trained from it, epoch by epoch.

The teacher sees the images once: the Gram matrices of its layers are held for all minibatches, and every
snapshot is compared with them over the same minibatches.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from analyses.cka.result import CKAResult
from analyses.cka.sums import Grams, HSICSums
from analyses.jackknife import Array
from analyses.layer_pairs import match_layers
from analyses.similarity.null import calibrate as calibrate_values
from analyses.similarity.null import enough_permutations
from kdprobe.config import RunConfig, TeacherFacts
from kdprobe.data import AS_IT_IS, View
from kdprobe.devices import exact_float32, pick_device
from kdprobe.errors import AnalysisError
from kdprobe.features.gram_capture import GramCapture
from kdprobe.features.minibatches import SIZE
from kdprobe.features.shared_images import Views, located, open_views
from kdprobe.formats.counts import counted
from kdprobe.mean_interval import check_confidence
from kdprobe.models.checkpoint import is_foreign, load, read_info
from kdprobe.models.creation import model_info
from kdprobe.models.identity import weights_sha256
from kdprobe.provenance import provenance
from kdprobe.results import Result, save_result
from kdprobe.runs.folder import RunFolder
from kdprobe.runs.inputs import Inputs
from kdprobe.training.places import missing_teacher

if TYPE_CHECKING:
    import pandas as pd

_Layers = str | Sequence[str]
_CORRECTION = (
    "adjusted p values hold for all pairs and epochs together: of any of them as far above its null, in that one's "
    "deviations, under random orders of the samples that are the same for all layers and epochs"
)


@exact_float32
def cka_over_time(
    run: Path,
    *,
    teacher: str | None = None,
    data: str | None = None,
    every: int | None = None,
    teacher_layers: _Layers = "stages",
    student_layers: _Layers = "stages",
    batch_size: int | None = None,
    kernel: str = "linear",
    estimator: str = "unbiased",
    confidence: float = 0.95,
    permutations: int = 0,
    calibrate: bool = False,
    shard: tuple[int, int] = (0, 1),
    device: str | torch.device = "cpu",
    quiet: bool = True,
    trust: Iterable[str] = (),
    view: View = AS_IT_IS,
    told: Mapping[str, Any] | None = None,
) -> Result:
    """CKA of paired layers for each snapshot of a run.

    Args:
        run: folder of a run with snapshots.
        teacher: as `kdprobe.load` takes it; the run's own if not given.
        data: a data SPEC; that of the run if not given.
        every: use only snapshots whose epoch is a multiple of this number.
        teacher_layers: as `kdprobe.capture` takes them.
        student_layers: the same for the student; each goes with the teacher's layer at its relative depth.
        batch_size: samples compared at a time; 64 if not given.
        kernel: `linear` or `rbf`.
        estimator: of HSIC, `unbiased` or `biased`.
        confidence: of the intervals over minibatches.
        permutations: number of random orders of the student's samples, the same for all epochs; they imply `calibrate`.
        calibrate: whether each value is set beside its null, from 200 permutations if not given.
        shard: which of how many processes this is.
        device: where the networks run.
        quiet: no progress on standard error.
        trust: modules whose code the run's files may name.
        view: how image files are shown, as `open_views` takes it.
        told: facts of a teacher whose file does not say them, as `open_views` takes them.

    Returns:
        kind "cka-over-time": `epoch` [e] int64; `cka`, `low`, `high` [pairs, e], NaN where the facts' `undefined` or
        `no_interval` says why; the facts' `missing_epochs` are those after which the run should have kept a snapshot.
        If calibrated, also `null_mean`, `null_deviation`, `threshold`, `calibrated`, `p_values` and `p_adjusted`
        [pairs, e], of which the last holds for all pairs and epochs together.

    Raises:
        AnalysisError: if the run has no such snapshots or no teacher, if its teacher or data have changed since, or for
            too few permutations to calibrate.
        RunError: if the folder is not that of a run.

    Example:
        >>> from pathlib import Path
        >>> from analyses.cka import cka_over_time
        >>> cka_over_time(Path("runs/resnet8"), every=5)  # doctest: +SKIP
    """
    wished, alpha = calibrate or permutations > 0, round(1 - confidence, 12)
    check_confidence(confidence)
    n_permutations = enough_permutations(permutations, calibrated=wished, alpha=alpha)
    folder = RunFolder(run)
    known = folder.values()["teacher"]
    snapshots = _chosen(folder, every)
    if (teacher or known) is None:
        raise AnalysisError(f"{run} was trained without a teacher; give one with --teacher")
    if teacher is None and (missing := missing_teacher(known)):
        raise AnalysisError(f"{run} cannot be compared with its teacher: {missing}")
    shown = {"teacher": str(teacher or known), "student": str(next(iter(snapshots.values())))}
    named_by = None if teacher else {"teacher": folder.config_path}
    facts = _teacher_facts(folder, shown) if teacher is None else {}
    told = dict(told or {})
    of_teacher = {key: value for key, value in facts.items() if key not in told} | told.get("teacher", {})
    options: dict[str, Any] = {"view": view, "identified": True, "told": {**told, "teacher": of_teacher}}
    views = open_views(shown, data=data, trust=trust, named_by=named_by, **options)
    _check_inputs(folder, views, shown["teacher"], own_data=data in (None, folder.values()["data"]["spec"]))
    given: dict[str, Any] = {"batch_size": batch_size or SIZE, "shard": shard, "device": pick_device(device)}
    rows = list(_grams(views, "teacher", teacher_layers, label="teacher", quiet=quiet, **given))
    found: dict[int, CKAResult] = {}
    nulls: list[Array] = []
    for epoch, path in snapshots.items():
        views.models["student"] = load(path, trust=trust)
        sums = HSICSums(kernel, estimator, n_permutations)
        columns = _grams(views, "student", student_layers, label=f"epoch {epoch}", quiet=quiet, **given)
        for (number, one), (_, other) in zip(rows, columns, strict=True):
            if sums.accepts(len(next(iter(one.values())))):
                sums.add(one, other, number=number)
        if shard[1] > 1:
            sums.gather()
        found[epoch] = sums.result(confidence=confidence)
        nulls += [] if (null := sums.null()) is None else [null]
    infos = {role: model_info(model) for role, model in views.models.items()}
    facts = {**{role: info.name for role, info in infos.items()}, "data": views.data, **_missing(folder, every)}
    origin = {
        "run": str(run),
        "teacher": infos["teacher"].origin(),
        "data": views.data,
    }
    return _paired(found, nulls, facts, provenance(**origin))


def over_time_table(result: Result) -> "pd.DataFrame":
    """One row per pair of layers and epoch: cka, low, high, undefined, no_interval (reasons, or empty).

    Of a calibrated result, with its further arrays before the last two.
    """
    import pandas as pd

    facts, arrays = result.facts, result.arrays
    shown = [name for name in arrays if name != "epoch"]
    reasons = {(cell["pair"], cell["epoch"]): cell["reason"] for cell in facts["undefined"]}
    rows = [
        {
            "epoch": int(epoch),
            "teacher_layer": one,
            "student_layer": other,
            **{name: arrays[name][pair, column] for name in shown},
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


def over_time_summary(result: Result) -> str:
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
    minibatches, snapshots = counted(facts["n_minibatches"], "minibatch"), counted(len(arrays["epoch"]), "snapshot")
    counts = f"{facts['n_samples']} samples in {minibatches}, {snapshots}"
    remarks = [cell["reason"] for cell in facts.get("remarks", [])]
    gaps = [f"no intervals: {facts['no_interval']}"] if facts["no_interval"] else []
    chance = [_beside_null(result)] if "calibration" in facts else []
    return "\n".join([*lines, counts, *chance, *remarks, *gaps])


def _beside_null(result: Result) -> str:
    known, p_values = result.facts["calibration"], result.arrays["p_adjusted"]
    return (
        f"{(p_values <= known['alpha']).sum()} of {np.isfinite(p_values).sum()} values exceed their null of "
        f"{known['permutations']} random orders of the samples (p <= {known['alpha']:g} for all pairs and epochs "
        "together)"
    )


def _grams(
    views: Views, role: str, layers: _Layers, *, shard: tuple[int, int], device: torch.device, **options: Any
) -> Iterator[tuple[int, Grams]]:
    """Number of each minibatch, and the Gram matrices of one network's layers on it."""
    alone = replace(views, models={role: views.models[role].to(device)}, splits={role: views.splits[role]})
    model = alone.models[role]
    with torch.inference_mode(), GramCapture(model, layers) as taken:
        minibatches = alone.minibatches(shard=shard, device=device, **options)
        for number, batches in zip(count(*shard), minibatches, strict=False):
            with located(f"minibatch {number} of {model_info(model).name}"):
                grams = taken.grams(batches[role])
            yield number, grams


def _check_inputs(folder: RunFolder, views: Views, teacher: str, *, own_data: bool) -> None:
    """Refuse a teacher or data at the run's own paths that have changed since: the result would not show it."""
    before, model = folder.inputs() or Inputs(), views.models["teacher"]
    own_teacher = teacher == folder.values()["teacher"]
    now = Inputs(
        model_info(model).sha256 or weights_sha256(model) if own_teacher else None, views.sha256 if own_data else None
    )
    if changes := before.changes(now, teacher=teacher, data=views.data):
        raise AnalysisError(
            f"{folder.path} was trained with a different teacher or data: {'; '.join(changes)}; give the "
            "teacher that taught it, or copy the one to compare with to another path and name that"
        )


def _teacher_facts(folder: RunFolder, shown: Mapping[str, str]) -> dict[str, Any]:
    """Facts that were given for the run's own teacher, and the image size where no file gives one."""
    facts = TeacherFacts.model_validate(folder.values()["teacher_facts"] or {}).of_network()
    if is_foreign(shown["teacher"]) and "image_size" not in facts:
        facts["default_size"] = read_info(Path(shown["student"])).image_size
    return facts


def _chosen(folder: RunFolder, every: int | None) -> dict[int, Path]:
    found = folder.snapshots()
    if not found:
        raise AnalysisError(
            f"{folder.path} has no snapshots; train with --set training.saving.snapshots=K to save one every K epochs"
        )
    chosen = {epoch: path for epoch, path in found.items() if epoch % (every or 1) == 0}
    if not chosen:
        raise AnalysisError(
            f"{folder.path} has no snapshot at a multiple of {every} epochs; it has snapshots after epochs "
            f"{', '.join(map(str, found))}"
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


def _paired(
    found: dict[int, CKAResult], nulls: Sequence[Array], facts: dict[str, Any], origin: dict[str, Any]
) -> Result:
    """The pairs of layers at equal relative depth, of all epochs; beside their nulls if there are any."""
    first = next(iter(found.values()))
    pairs = match_layers(first.teacher_layers, first.student_layers)
    rows = [first.teacher_layers.index(one) for one, _ in pairs]
    columns = [first.student_layers.index(other) for _, other in pairs]
    arrays = {
        name: np.stack([getattr(result, field)[rows, columns] for result in found.values()], axis=1)
        for name, field in (("cka", "matrix"), ("low", "low"), ("high", "high"))
    }
    if nulls:
        null, alpha = (
            np.stack([one[:, rows, columns] for one in nulls], axis=2),
            round(1 - first.facts["confidence"], 12),
        )
        arrays |= calibrate_values(arrays["cka"], null, alpha=alpha).arrays()
        calibration = {"alpha": alpha, "permutations": len(null), "correction": _CORRECTION}
        facts = {**facts, "calibration": calibration}
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
