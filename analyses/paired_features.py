"""Which layer of a teacher is compared with which of a student, and their features over all test images."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from analyses.cka.stored import require_same_samples, role_in
from kdprobe.devices import pick_device
from kdprobe.distillers.dropkd import DropKD
from kdprobe.errors import AnalysisError, StoreError
from kdprobe.features.capturing import capture
from kdprobe.features.reducers import reduce_stored
from kdprobe.features.shared_images import Views
from kdprobe.features.store import FeatureStore
from kdprobe.models.creation import describe
from kdprobe.models.stages import Need, Stages


@dataclass(frozen=True, eq=False)
class LayerFeatures:
    """Features of both networks over the same samples.

    Attributes:
        teacher: by layer, in the order of execution; [n, ...]. Stored ones are read when they are asked for.
        student: the same.
        labels: classes [n].
        index: places of the samples in the data set's test images [n].
        facts: names of `teacher` and `student`, `data`.
        origin: for the provenance.
        named_by: the feature file that names the data set; None where the images were shown.
    """

    teacher: Mapping[str, Tensor]
    student: Mapping[str, Tensor]
    labels: Tensor
    index: Tensor
    facts: dict[str, Any]
    origin: dict[str, Any] = field(default_factory=dict)
    named_by: Path | None = None


def match_layers(teacher: Sequence[str], student: Sequence[str], chosen: Sequence[str] = ()) -> list[tuple[str, str]]:
    """Pairs of layers.

    Args:
        teacher: its layers, shallow to deep.
        student: its layers, shallow to deep.
        chosen: `TEACHER=STUDENT` pairs; without any, each student layer goes with the teacher layer at the same
            relative depth.

    Raises:
        AnalysisError: for a pair that is not two of the layers.
    """
    if not chosen:
        return [(teacher[max(round((i + 1) / len(student) * len(teacher)) - 1, 0)], s) for i, s in enumerate(student)]
    pairs = []
    for text in chosen:
        one, _, other = text.partition("=")
        if one not in teacher or other not in student:
            raise AnalysisError(
                f"{text!r} is not TEACHER=STUDENT of the teacher's layers {', '.join(teacher)} and the student's "
                f"layers {', '.join(student)}"
            )
        pairs.append((one, other))
    return pairs


def shown_features(
    views: Views,
    *,
    teacher_layers: Sequence[str] = ("stages",),
    student_layers: Sequence[str] = ("stages",),
    reduce: str = "gap",
    batch_size: int = 256,
    device: str | torch.device = "cpu",
    quiet: bool = True,
) -> LayerFeatures:
    """Show all test images to both networks and take features.

    Args:
        views: with the roles `teacher` and `student`.
        teacher_layers: as `kdprobe.capture` takes them.
        student_layers: the same for the student.
        reduce: what of a layer's output is taken.
        batch_size: images at a time.
        device: where the networks run; the features are gathered on the CPU.
        quiet: no progress on standard error.

    Raises:
        CaptureError: for an unknown layer.
    """
    choices, device = {"teacher": teacher_layers, "student": student_layers}, pick_device(device)
    with ExitStack() as stack:
        taken = {
            role: stack.enter_context(capture(model.to(device), choices[role], reduce=reduce))
            for role, model in views.models.items()
        }

        def take(role: str, images: Tensor) -> Mapping[str, Tensor]:
            views.models[role](images)
            return taken[role]

        return _gathered(views, take, {"reduce": reduce}, batch_size=batch_size, device=device, quiet=quiet)


def shown_maps(
    views: Views, method: DropKD, *, batch_size: int = 256, device: str | torch.device = "cpu", quiet: bool = True
) -> tuple[LayerFeatures, list[tuple[str, str]]]:
    """Show all test images to both networks and take the stage maps that a DropKD run was trained on.

    Args:
        views: with the roles `teacher` and `student`.
        method: from `analyses.knowledge.dropkd.load_dropkd`.
        batch_size: images at a time.
        device: where the networks run; the maps are gathered on the CPU.
        quiet: no progress on standard error.

    Returns:
        maps, and the pairs of layers in the order of the run's stage pairs.

    Raises:
        AnalysisError: if the networks are not those of the run.
    """
    needs: list[Need] = ["maps"]
    device = pick_device(device)
    stages = {role: Stages(model.to(device).eval(), needs=needs) for role, model in views.models.items()}
    shapes = {"teacher": method.teacher_shapes, "student": method.student_shapes}
    for role, model in views.models.items():
        trained, given = shapes[role], describe(model).name
        if trained is None or trained.model != given:
            raise AnalysisError(f"the run's {role} was {trained and trained.model}, but {given} is given")
    names = {role: shape.names for role, shape in shapes.items() if shape is not None}
    used = {role: sorted({pair[place] for pair in method.pairs}) for place, role in enumerate(("student", "teacher"))}

    def take(role: str, images: Tensor) -> Mapping[str, Tensor]:
        maps = stages[role](images).maps
        return {names[role][stage]: maps[stage] for stage in used[role]}

    found = _gathered(views, take, {"reduce": "maps"}, batch_size=batch_size, device=device, quiet=quiet)
    return found, [(names["teacher"][other], names["student"][own]) for own, other in method.pairs]


def _gathered(
    views: Views,
    take: Callable[[str, Tensor], Mapping[str, Tensor]],
    facts: dict[str, Any],
    *,
    batch_size: int,
    device: str | torch.device,
    quiet: bool,
) -> LayerFeatures:
    """All test images through `take`, which maps a role and its normalised images to features by layer."""
    loaders = views.loaders(batch_size=batch_size, device=device, label="features", quiet=quiet)
    gathered: dict[str, dict[str, list[Tensor]]] = {"teacher": {}, "student": {}}
    labels, index = [], []
    for first in loaders["teacher"]:
        batches = {"teacher": first, "student": first if views.shared else next(loaders["student"])}
        for role, batch in batches.items():
            with torch.inference_mode():
                features = take(role, describe(views.models[role]).normalise(batch.images))
            for layer, feature in features.items():
                gathered[role].setdefault(layer, []).append(feature.cpu())
        labels.append(first.labels.cpu())
        index.append(first.index.cpu())
    infos = {role: describe(model) for role, model in views.models.items()}
    origin = {role: info.origin() for role, info in infos.items()}
    return LayerFeatures(
        teacher={layer: torch.cat(parts).clone() for layer, parts in gathered["teacher"].items()},
        student={layer: torch.cat(parts).clone() for layer, parts in gathered["student"].items()},
        labels=torch.cat(labels),
        index=torch.cat(index),
        facts={**{role: info.name for role, info in infos.items()}, "data": views.data, **facts},
        origin=origin | {"data": views.data},
    )


def stored_features(
    paths: Sequence[Path],
    *,
    teacher_layers: Sequence[str] = ("all",),
    student_layers: Sequence[str] = ("all",),
    reduce: str = "gap",
) -> LayerFeatures:
    """Features from one dump that holds both networks, or from the teacher's and the student's dump.

    Args:
        paths: one feature file or two.
        teacher_layers: stored names, globs, `stages` or `all`.
        student_layers: the same for the student.
        reduce: what of a stored output is taken.

    Raises:
        StoreError: if the files hold other samples or another order, only Gram matrices, or are damaged.
    """
    if len(paths) > 2:
        raise StoreError(f"a decomposition needs one feature file or two, but got {len(paths)}")
    with FeatureStore.open(paths[0]) as teacher, FeatureStore.open(paths[-1]) as student:
        if len(paths) == 1 and len(teacher.roles) < 2:
            raise StoreError(f"{paths[0]} holds only the {teacher.roles[0]}; give a second file with the other network")
        require_same_samples(teacher, student)
        for store in (teacher, student):
            if store.content != "features":
                raise StoreError(f"{store.path} holds Gram matrices of minibatches; a decomposition needs features")
        roles = role_in(teacher, "teacher"), role_in(student, "student")
        both = [
            _Stored(store.path, role, store.layers(role, layers), reduce)
            for store, role, layers in zip((teacher, student), roles, (teacher_layers, student_layers), strict=True)
        ]
        names = teacher.network(roles[0]).model, student.network(roles[1]).model
        facts = {"teacher": names[0], "student": names[1], "data": teacher.data, "reduce": reduce}
        origin = {
            "teacher": teacher.origin(roles[0]),
            "student": student.origin(roles[1]),
            "data": teacher.data,
        }
        return LayerFeatures(both[0], both[1], teacher.labels, teacher.index, facts, origin, teacher.path)


class _Stored(Mapping[str, Tensor]):
    """Features of one network in a file: a layer is read, and reduced a minibatch at a time, whenever it is looked up.

    Args:
        path: the feature file.
        role: of the network in it.
        layers: that there are to look up, in the order of execution.
        reduce: what of a stored output is taken.
    """

    def __init__(self, path: Path, role: str, layers: Sequence[str], reduce: str) -> None:
        self._path, self._role, self._layers, self._reduce = path, role, layers, reduce

    def __getitem__(self, layer: str) -> Tensor:
        if layer not in self._layers:
            raise KeyError(layer)
        with FeatureStore.open(self._path) as store:
            layout, size = store.layout(self._role, layer), store.batch_size
            taken: Tensor | None = None
            for start in range(0, store.n_samples, size):
                values = store.minibatch(self._role, layer, start, size)
                precise = values.to(torch.promote_types(values.dtype, torch.float32))  # a mean of halves is no half
                part = reduce_stored(precise, layout, self._reduce, of=f"layer {layer!r} of the {self._role}")
                taken = part.new_empty((store.n_samples, *part.shape[1:])) if taken is None else taken
                taken[start : start + size] = part
        assert taken is not None  # no file is finished without samples
        return taken

    def __iter__(self) -> Iterator[str]:
        return iter(self._layers)

    def __len__(self) -> int:
        return len(self._layers)
