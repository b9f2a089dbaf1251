"""From features of both networks to saved decompositions, layer pair by layer pair."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from analyses.knowledge.decomposition import Decomposition, decompose
from analyses.knowledge.dropkd import RATES, load_dropkd
from analyses.knowledge.examples import examples_result, require_images
from analyses.knowledge.groups import groups_of_images
from analyses.knowledge.pair import Pair, measure_pair
from analyses.knowledge.result import knowledge_result
from analyses.layer_pairs import match_layers
from analyses.paired_features import LayerFeatures, shown_features, shown_maps, stored_features
from kdprobe.data import AS_IT_IS, View
from kdprobe.devices import exact_float32, pick_device
from kdprobe.errors import AnalysisError, Undefined
from kdprobe.features.shared_images import open_views
from kdprobe.results import Result


@exact_float32
def decompose_layers(
    features: LayerFeatures,
    pairs: Sequence[tuple[str, str]] | None = None,
    *,
    method: str = "adjusted",
    auxiliary: Path | None = None,
    folds: int = 5,
    seed: int = 0,
    confidence: float = 0.95,
    groups: Tensor | Sequence[int] | Sequence[str] | None = None,
    probes: bool = True,
    n_images: int = 0,
) -> tuple[Result, Result | None]:
    """Decompose pairs of layers.

    Args:
        features: of both networks.
        pairs: teacher layer and student layer, at equal relative depth if not given; with `dropkd`, in the order of the
            run's stage pairs.
        method: as `analyses.knowledge.decomposition.decompose` takes it.
        auxiliary: file of a DropKD run, for `dropkd`.
        folds: held out in turn.
        seed: of the folds.
        confidence: of the intervals.
        groups: as `decompose` takes them; samples of one image, by their places in the data set, if not given.
        probes: also measure linear probes.
        n_images: number of images to pick for each network, by the last pair; 0 for none.

    Returns:
        a result of kind "knowledge", as `analyses.knowledge.result.knowledge_result` makes it, with `index` and
        `labels` [samples] besides; its facts `left_out` name the pairs of a layer that does not vary. And one of kind
        "examples" if images were asked for.

    Raises:
        AnalysisError: naming the pair that cannot be decomposed.
        Undefined: likewise, if a layer of every pair does not vary.

    Example:
        >>> import torch
        >>> from analyses.knowledge import decompose_layers
        >>> from analyses.paired_features import loader_features
        >>> from kdprobe.models import create
        >>> _ = torch.manual_seed(0)
        >>> model = create("resnet8", n_classes=10, image_size=16)
        >>> features = loader_features(model, model, [torch.rand(64, 3, 16, 16) for _ in range(3)])
        >>> knowledge, _ = decompose_layers(features, [("layer1", "layer1")], probes=False)
        >>> knowledge.arrays["teacher_general"].round(3).tolist()
        [[1.0, 1.0, 1.0]]
    """
    options: dict[str, Any] = {"method": method, "folds": folds, "seed": seed, "confidence": confidence}
    if n_images:
        require_images(n_images, features.index)
    groups = features.index if groups is None else groups
    measured, left_out, shown = [], [], None
    pairs = match_layers(list(features.teacher), list(features.student)) if pairs is None else pairs
    for stage, (one, other) in enumerate(pairs):
        given = features.teacher[one], features.student[other]
        settings = (
            options | {"groups": groups} | ({"auxiliary": auxiliary, "stage": stage} if method == "dropkd" else {})
        )
        try:
            found = decompose(given[0], given[1], **settings)
            pair = measure_pair(one, other, found, features.labels if probes else None)
        except Undefined as error:  # a layer does not vary: the other pairs are measured all the same
            left_out.append({"teacher_layer": one, "student_layer": other, "reason": str(error)})
            continue
        except AnalysisError as error:
            raise AnalysisError(f"teacher layer {one!r} and student layer {other!r}: {error}") from error
        if method == "dropkd":
            by_rate = [decompose(given[0], given[1], **settings, rates=(rate, rate)) for rate in RATES]
            pair = _with_rates(pair, by_rate)
        measured.append(pair)
        shown = found, {"teacher_layer": one, "student_layer": other, "method": method}
    if shown is None:
        cell = left_out[0]
        raise Undefined(
            f"teacher layer {cell['teacher_layer']!r} and student layer {cell['student_layer']!r}: {cell['reason']}"
        )
    counts = {"n_samples": len(features.labels), "n_independent": shown[0].groups.count}
    facts = features.facts | options | counts | {"left_out": left_out}
    result = knowledge_result(measured, facts, features.origin)
    result.arrays.update(index=features.index.numpy(), labels=features.labels.numpy())
    examples = None
    if n_images:
        facts = features.facts | shown[1]
        examples = examples_result(shown[0], features.index, facts, n_images=n_images, named_by=features.named_by)
    if method == "dropkd":
        result.arrays["rates"] = np.array(RATES)
    return result, examples


def _with_rates(pair: Pair, by_rate: Sequence[Decomposition]) -> Pair:
    """A pair with the general fractions at each of the rates [rates, 3]."""
    more = {
        "teacher_by_rate": np.array([found.teacher.fraction.ends for found in by_rate]),
        "student_by_rate": np.array([found.student.fraction.ends for found in by_rate]),
    }
    return pair._replace(numbers=pair.numbers | more)


@exact_float32
def decompose_networks(
    teacher: str | None,
    student: str | None,
    *,
    method: str = "adjusted",
    folds: int = 5,
    seed: int = 0,
    probes: bool = True,
    n_images: int = 0,
    grouped_by: Path | None = None,
    pairs_of: Result | None = None,
    device: str | torch.device = "cpu",
    **source: Any,
) -> list[Result]:
    """Decompose a teacher and a student, or the feature files of both.

    Args:
        teacher: as `features_and_pairs` takes it.
        student: likewise.
        method: as `decompose_layers` takes it, and so the next four.
        folds: held out in turn.
        seed: of the folds.
        probes: also measure linear probes.
        n_images: pick this many images per network.
        grouped_by: file of the images' groups, as `analyses.knowledge.groups.groups_of_images` takes it.
        pairs_of: a result of kind "knowledge" that this one is to be compared with.
        device: where the networks run.
        source: what else `features_and_pairs` takes.

    Returns:
        a result of kind "knowledge", and one of kind "examples" if images were asked for.

    Raises:
        AnalysisError: as `features_and_pairs`, `groups_of_images` and `decompose_layers`, or for other pairs of layers.
    """
    features, pairs = features_and_pairs(teacher, student, method=method, device=pick_device(device), **source)
    if pairs_of is not None:
        _require_same_pairs(pairs_of, student, pairs)
    groups = None if grouped_by is None else groups_of_images(grouped_by, features.index)
    auxiliary = Path(student) if method == "dropkd" and student else None
    options: dict[str, Any] = {"method": method, "folds": folds, "seed": seed, "probes": probes, "groups": groups}
    result, examples = decompose_layers(features, pairs, auxiliary=auxiliary, n_images=n_images, **options)
    return [result] if examples is None else [result, examples]


def _require_same_pairs(other: Result, student: str | None, pairs: Sequence[tuple[str, str]]) -> None:
    """Refuse a student that cannot be compared before it is decomposed."""
    facts = other.facts
    left_out = [(cell["teacher_layer"], cell["student_layer"]) for cell in facts.get("left_out", [])]
    before = [*zip(facts["teacher_layers"], facts["student_layers"], strict=True), *left_out]
    if different := sorted({*before} ^ {*pairs}):
        one, own = different[0]
        raise AnalysisError(
            f"students are compared at equal layers, but {student} and the one before it have different pairs, as "
            f"{one}={own}; give --layers T=S that all of them have, or decompose them one at a time"
        )


#: what is taken of networks unless chosen otherwise
_USUAL = {"teacher_layers": ("stages",), "student_layers": ("stages",), "reduce": None}


def features_and_pairs(
    teacher: str | None,
    student: str | None,
    data: str | None = None,
    files: Sequence[Path] = (),
    *,
    method: str = "adjusted",
    layers: Sequence[str] = (),
    device: str | torch.device = "cpu",
    quiet: bool = True,
    view: View = AS_IT_IS,
    told: Mapping[str, Any] | None = None,
    **chosen: Any,
) -> tuple[LayerFeatures, list[tuple[str, str]]]:
    """Features and pairs of layers of two checkpoints, or of feature files.

    Args:
        teacher: a checkpoint, as `kdprobe.load` takes it.
        student: a checkpoint; a DropKD run's folder for `dropkd`.
        data: a data SPEC; the student's own if not given.
        files: feature files instead of checkpoints.
        method: `dropkd` takes its own run's stage pairs and whole maps.
        layers: `TEACHER=STUDENT` pairs.
        device: where the networks run.
        quiet: no progress on standard error.
        view: how image files are shown, as `open_views` takes it.
        told: facts of checkpoints whose files do not give them, as `open_views` takes them.
        chosen: `teacher_layers`, `student_layers`, `reduce`.

    Raises:
        AnalysisError: for `dropkd` without networks, or with layers or a reduction, or for a pair that does not exist.
    """
    if method == "dropkd" and (
        files or layers or any(chosen.get(key, usual) != usual for key, usual in _USUAL.items())
    ):
        raise AnalysisError(
            "dropkd shows images to both networks and has its own pairs of stages, whose maps it takes whole; give "
            "checkpoints, without layers or a reduction"
        )
    if files:
        features = stored_features(files, **chosen)
    else:
        views = open_views({"teacher": str(teacher), "student": str(student)}, data=data, view=view, told=told)
        if method == "dropkd":
            return shown_maps(views, load_dropkd(str(student)), device=device, quiet=quiet)
        features = shown_features(views, device=device, quiet=quiet, **chosen)
    return features, match_layers(list(features.teacher), list(features.student), layers)
