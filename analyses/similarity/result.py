"""Similarity of every pair of layers, by other measures than CKA, as a result."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from analyses.cka.minibatch_classes import warn_of_few_classes
from analyses.layer_pairs import pairs_table
from analyses.paired_features import LayerFeatures, shown_features
from analyses.similarity.corrected_cka import FeatureCorrectedCKA
from analyses.similarity.intervals import SAMPLE_GROUPS, PreparedLayer, group_half_widths, group_samples, matrix_of
from analyses.similarity.measure import FeatureSet, Measure
from analyses.similarity.measures import find_measure
from analyses.similarity.null import CalibratedPairs, calibrate_pairs, enough_permutations
from analyses.similarity.permuted import permutation_null
from analyses.stored_pair import open_pair
from kdprobe.data import AS_IT_IS, View
from kdprobe.devices import exact_float32, pick_device
from kdprobe.errors import AnalysisError, Undefined
from kdprobe.features.shared_images import open_views
from kdprobe.provenance import provenance
from kdprobe.results import Result

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class PreparedLayers:
    """All layers of two networks, prepared for a measure.

    Attributes:
        measure: that they were prepared for.
        rows: the teacher's, by name.
        columns: the student's, by name.
        index: of each sample; equal ones are samples of one image [n].
        facts: of the result.
        origin: for the provenance.
    """

    measure: Measure[Any]
    rows: Mapping[str, PreparedLayer]
    columns: Mapping[str, PreparedLayer]
    index: Tensor
    facts: dict[str, Any]
    origin: dict[str, Any]


@exact_float32
def files_similarity(
    paths: Sequence[Path],
    measure: str | Measure[Any],
    *,
    teacher_layers: str | Sequence[str] = "all",
    student_layers: str | Sequence[str] = "all",
    reduce: str | None = None,
    groups: int = SAMPLE_GROUPS,
    permutations: int = 0,
) -> Result:
    """One measure for every pair of stored layers, over all samples.

    Args:
        paths: one feature file that holds both networks, or the teacher's and the student's.
        measure: a name in `analyses.similarity.measures.MEASURES`, or a measure.
        teacher_layers: stored names, globs, `stages` or `all`.
        student_layers: the same for the student.
        reduce: what of a feature is compared, as `kdprobe.capture` takes it; if not given, its means over positions
            (gap), or what the files hold.
        groups: of samples, one left out at a time for the intervals; 0 for none.
        permutations: of the student's samples, for each value's null, p values and the calibrated value; 0 for none.

    Returns:
        kind "similarity": `matrix` [Lt, Ls], rows teacher layers, NaN where the facts' `undefined` says why; `low` and
        `high`, the ends of 95 % intervals, NaN where `no_interval` says why; `remarks`, of values of few samples,
        also for their dimensions; facts `measure` (for people), names and layers of both networks, `reduce`,
        `n_samples`, `data`; of measures by neighbours their number `neighbours`, and `chance`, what independent
        features come to, if that is known.

    Raises:
        StoreError: if the files do not fit together, are damaged, or hold Gram matrices or another reduction.
        AnalysisError: for an unknown measure, or a reduction of which it makes no sense.
        Undefined: if no pair of layers has a value, with the reason of the first.

    Example:
        >>> from analyses.similarity import files_similarity
        >>> from pathlib import Path
        >>> import torch
        >>> from kdprobe.features import Dump, write_dump
        >>> from kdprobe.models import create
        >>> model, loader = create("resnet8", n_classes=10, image_size=16), [torch.rand(8, 3, 16, 16) for _ in range(4)]
        >>> _ = write_dump(Dump.over({"teacher": model, "student": model}, loader, reduce="gap"), "features.h5")
        >>> files_similarity([Path("features.h5")], "rsa").arrays["matrix"].diagonal().round(4)
        array([1., 1., 1., 1.])
    """
    chosen = find_measure(measure)
    with open_pair(paths) as pair:
        facts: dict[str, Any] = pair.facts() | {"reduce": pair.reduction(reduce)}
        facts["n_samples"] = pair.store.n_samples
        layers = {"teacher": teacher_layers, "student": student_layers}
        _accept(chosen, facts["reduce"])
        _warn_of_sorted(chosen, pair.store.labels)
        rows, columns = (
            _prepared(chosen, name, side.layers(layers[name]), partial(side.reduced, reduce=reduce), side.store.dtype)
            for name, side in pair.sides.items()
        )
        origin = provenance(**pair.origin())
        prepared = PreparedLayers(chosen, rows, columns, pair.store.index, facts, origin)
    return _compared(prepared, groups, permutations)


@exact_float32
def layers_similarity(
    features: LayerFeatures, measure: str | Measure[Any], *, groups: int = SAMPLE_GROUPS, permutations: int = 0
) -> Result:
    """One measure for every pair of layers whose features were taken.

    Args:
        features: of both networks, as `analyses.paired_features` takes them.
        measure: a name in `analyses.similarity.measures.MEASURES`, or a measure.
        groups: of samples, one left out at a time for the intervals; 0 for none.
        permutations: of the student's samples, for each value's null, p values and the calibrated value; 0 for none.

    Returns:
        as `files_similarity`.

    Raises:
        AnalysisError: for an unknown measure, or a reduction of which it makes no sense.
        Undefined: if no pair of layers has a value, with the reason of the first.

    Example:
        >>> import torch
        >>> from analyses.paired_features import loader_features
        >>> from analyses.similarity import layers_similarity
        >>> from kdprobe.models import create
        >>> model = create("resnet8", n_classes=10, image_size=16)
        >>> features = loader_features(model, model, [torch.rand(16, 3, 16, 16) for _ in range(2)])
        >>> layers_similarity(features, "rsa").arrays["matrix"].diagonal().round(4)
        array([1., 1., 1., 1.])
    """
    chosen = find_measure(measure)
    facts = features.facts | {"n_samples": len(features.index)}
    _accept(chosen, facts["reduce"])
    _warn_of_sorted(chosen, features.labels)
    rows = _prepared(chosen, "teacher", list(features.teacher), features.teacher.__getitem__)
    columns = _prepared(chosen, "student", list(features.student), features.student.__getitem__)
    origin = provenance(**features.origin)
    return _compared(PreparedLayers(chosen, rows, columns, features.index, facts, origin), groups, permutations)


@exact_float32
def networks_similarity(
    teacher: str,
    student: str,
    measure: str | Measure[Any],
    *,
    data: str | None = None,
    groups: int = SAMPLE_GROUPS,
    permutations: int = 0,
    device: str | torch.device = "cpu",
    quiet: bool = True,
    view: View = AS_IT_IS,
    told: Mapping[str, Any] | None = None,
    **chosen: Any,
) -> Result:
    """One measure for every pair of layers of two checkpoints, on the same test images.

    Args:
        teacher: a checkpoint, as `kdprobe.load` takes it.
        student: a checkpoint.
        measure: a name in `analyses.similarity.measures.MEASURES`, or a measure.
        data: a data SPEC; the student's own if not given.
        groups: of samples, one left out at a time for the intervals; 0 for none.
        permutations: of the student's samples, for each value's null, p values and the calibrated value; 0 for none.
        device: where the networks run.
        quiet: no progress on standard error.
        view: how image files are shown, as `open_views` takes it.
        told: facts of checkpoints whose files do not give them, as `open_views` takes them.
        chosen: `teacher_layers`, `student_layers` and `reduce`, as `analyses.paired_features.shown_features` takes
            them.

    Returns:
        as `files_similarity`.

    Raises:
        AnalysisError: as `layers_similarity`.
        CaptureError: for an unknown layer.

    Example:
        >>> from analyses.similarity import networks_similarity
        >>> networks_similarity("runs/vit", "runs/resnet8", "rsa-spearman")  # doctest: +SKIP
    """
    found = find_measure(measure)
    _accept(found, chosen.get("reduce") or "gap")
    views = open_views({"teacher": teacher, "student": student}, data=data, view=view, told=told)
    features = shown_features(views, device=pick_device(device), quiet=quiet, **chosen)
    return layers_similarity(features, found, groups=groups, permutations=permutations)


def _accept(measure: Measure[Any], reduce: str) -> None:
    if reason := measure.refused(reduce):
        raise AnalysisError(reason)


def _warn_of_sorted(measure: Measure[Any], labels: Tensor) -> None:
    """What goes by minibatches needs them to hold all classes."""
    if isinstance(measure, FeatureCorrectedCKA):
        warn_of_few_classes(torch.split(labels, measure.batch_size), stacklevel=4)


def _compared(prepared: PreparedLayers, groups: int, permutations: int) -> Result:
    measure, (rows, columns) = prepared.measure, (prepared.rows, prepared.columns)
    both = list(rows.values()), list(columns.values())
    n_permutations = enough_permutations(permutations, calibrated=permutations > 0)
    matrix = matrix_of(measure, *both)
    undefined, remarks = list[dict[str, str]](), list[dict[str, str]]()
    for (row, one), (column, other) in product(rows.items(), columns.items()):
        cell = {"teacher_layer": row, "student_layer": column}
        error = next((str(layer.prepared) for layer in (one, other) if layer.failed), "")
        if reason := error or measure.undefined(one.prepared, other.prepared):
            undefined.append({**cell, "reason": reason})
        elif remark := measure.caution(one.prepared, other.prepared, prepared.facts["n_samples"]):
            remarks.append({**cell, "reason": remark})
    if len(undefined) == matrix.size:
        raise Undefined(f"no pair of layers has a value; {undefined[0]['reason']}")
    layers = {"teacher_layers": list(rows), "student_layers": list(columns)}
    known = {"measure": measure.title, **prepared.facts, **measure.facts(prepared.facts["n_samples"])}
    facts = {**known, **layers, "undefined": undefined, "remarks": remarks}
    arrays = {"matrix": matrix}
    if groups:
        member = group_samples(prepared.index, groups)
        half, reason = group_half_widths(measure, *both, member)
        arrays["low"], arrays["high"] = measure.ends(matrix, half)
        facts |= {"interval": f"95 %, by the jackknife over {measure.grouping}", "no_interval": reason}
    if n_permutations:
        null = permutation_null(measure, *both, prepared.index, n_permutations)
        beside = calibrate_pairs(matrix, null, largest=measure.largest)
        arrays |= beside.arrays()
        facts |= {"calibration": beside.facts()}
    return Result("similarity", arrays, facts, prepared.origin)


def similarity_table(result: Result) -> "pd.DataFrame":
    """One row per pair of layers: teacher_layer, student_layer, similarity, low, high, undefined, remark (reasons).

    Of a calibrated result, with the columns of `CalibratedPairs` before the last two.
    """
    facts = result.facts
    reasons = {"undefined": facts.get("undefined", []), "remark": facts.get("remarks", [])}
    names = {"matrix": "similarity", "low": "low", "high": "high"}
    values = {name: result.arrays[key] for key, name in names.items() if key in result.arrays}
    beside = _calibrated(result)
    values |= beside.columns() if beside else {}
    return pairs_table(facts["teacher_layers"], facts["student_layers"], values, reasons)


def similarity_summary(result: Result) -> str:
    """The teacher layer most like each student layer, with reasons and remarks."""
    table = similarity_table(result).dropna(subset="similarity")
    best = table.loc[table.groupby("student_layer", sort=False)["similarity"].idxmax()]
    ends = [key for key in ("low", "high") if key in best and best[key].notna().any()]
    shown = best[["teacher_layer", "student_layer", "similarity", *ends]].rename(
        columns={"similarity": result.facts["measure"]}
    )
    beside = _calibrated(result)
    if beside:
        places = [result.facts["student_layers"].index(layer) for layer in best["student_layer"]]
        kept = beside.by_student
        shown = shown.assign(**{beside.best_of_teacher: kept.score[places], "p": kept.p_adjusted[places]})
    lines = [shown.to_string(index=False)]
    lines += [beside.summary(result.facts["teacher_layers"], result.facts["student_layers"])] if beside else []
    lines += [_neighbours(result.facts)] if "neighbours" in result.facts else []
    lines += [f"no intervals: {reason}" for reason in [result.facts.get("no_interval")] if reason]
    for key, title in (("undefined", "undefined"), ("remarks", "read with care")):
        reasons = Counter(cell["reason"] for cell in result.facts.get(key, []))
        lines += [
            f"{title} ({count} of {len(result.arrays['matrix'].ravel())} cells): {reason}"
            for reason, count in reasons.items()
        ]
    return "\n".join(lines)


def _neighbours(facts: Mapping[str, Any]) -> str:
    chance = f", {facts['chance']:.3f} by chance" if "chance" in facts else ""
    return (
        f"{facts['neighbours']} neighbours of {facts['n_samples'] - 1} other samples{chance}; values depend on both "
        "numbers, so compare those of the same"
    )


def _calibrated(result: Result) -> CalibratedPairs | None:
    known = result.facts.get("calibration")
    return CalibratedPairs.of(result.arrays["matrix"], result.arrays, known) if known else None


def _prepared(
    measure: Measure[Any],
    role: str,
    layers: Sequence[str],
    read: Callable[[str], Tensor],
    stored: str | None = None,
) -> dict[str, PreparedLayer]:
    """What a measure needs of each layer, or why that has no similarity with any others."""
    found: dict[str, PreparedLayer] = {}
    for name in layers:
        try:
            features = FeatureSet(read(name), getattr(torch, stored) if stored else None)
            found[name] = PreparedLayer(features, measure.prepare(features))
        except AnalysisError as error:
            found[name] = PreparedLayer(None, type(error)(f"{role} layer {name!r}: {error}"))
    return found
