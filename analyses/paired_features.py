"""Features of two networks for all test images, shown or stored."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from analyses.stored_pair import StoredNetwork, open_pair
from kdprobe.devices import exact_float32, pick_device
from kdprobe.distillers.dropkd import DropKD
from kdprobe.errors import AnalysisError
from kdprobe.features.capturing import capture
from kdprobe.features.minibatches import Forward, Minibatches, moved
from kdprobe.features.numbered import numbered_minibatches
from kdprobe.features.shared_images import Views, located
from kdprobe.features.store import FeatureStore
from kdprobe.models.creation import model_info
from kdprobe.models.identity import network_name, network_origin
from kdprobe.models.stages import Need, Stages


@dataclass(frozen=True, eq=False)
class LayerFeatures:
    """Features of both networks for the same samples.

    Attributes:
        teacher: by layer, in the order of execution; [n, ...]. Stored ones are read when they are looked up.
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


@exact_float32
def shown_features(
    views: Views,
    *,
    teacher_layers: Sequence[str] = ("stages",),
    student_layers: Sequence[str] = ("stages",),
    reduce: str | None = None,
    batch_size: int = 256,
    device: str | torch.device = "cpu",
    quiet: bool = True,
) -> LayerFeatures:
    """Show all test images to both networks and take features.

    Args:
        views: with the roles `teacher` and `student`.
        teacher_layers: as `kdprobe.capture` takes them.
        student_layers: the same for the student.
        reduce: what of a layer's output is taken; `gap` if not given.
        batch_size: images at a time.
        device: where the networks run; the features are gathered on the CPU.
        quiet: no progress on standard error.

    Raises:
        CaptureError: for an unknown layer.
    """
    choices, device = {"teacher": teacher_layers, "student": student_layers}, pick_device(device)
    reduce = reduce or "gap"
    with ExitStack() as stack:
        taken = {
            role: stack.enter_context(capture(model.to(device), choices[role], reduce=reduce))
            for role, model in views.models.items()
        }

        def take(role: str, batch: Any) -> Mapping[str, Tensor]:
            taken[role](batch)
            return taken[role]

        return _gathered(views, take, {"reduce": reduce}, batch_size=batch_size, device=device, quiet=quiet)


@exact_float32
def loader_features(
    teacher: nn.Module,
    student: nn.Module,
    loader: Minibatches,
    *,
    student_loader: Minibatches | None = None,
    teacher_layers: str | Sequence[str] = "stages",
    student_layers: str | Sequence[str] = "stages",
    reduce: str | Callable[[Tensor], Tensor] = "gap",
    device: str | torch.device = "cpu",
    forward: Forward | None = None,
    data: str = "a loader",
) -> LayerFeatures:
    """Show the minibatches of a loader to both networks and take features.

    Args:
        teacher: any network.
        student: any network.
        loader: as `analyses.cka.cka` takes it; classes are taken of a tuple's second tensor, or under a usual name.
        student_loader: the same images in the size that the student takes, in the same order.
        teacher_layers: as `kdprobe.capture` takes them.
        student_layers: the same for the student.
        reduce: what of a layer's output is taken; or a function.
        device: both networks are moved there; the features are gathered on the CPU.
        forward: `forward(model, batch)` runs a network, or a part of it, on a minibatch of any form.
        data: what the loader shows, for the record.

    Raises:
        AnalysisError: if the loader gives no minibatches, the two show different images, or a feature is not finite.
        CaptureError: for an unknown layer.
    """
    place = pick_device(device)
    networks = {"teacher": teacher, "student": student}
    chosen: dict[str, Any] = {"reduce": reduce, "forward": forward}
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode())
        layers = {"teacher": teacher_layers, "student": student_layers}
        taken = {
            role: stack.enter_context(capture(model.to(place), layers[role], **chosen))
            for role, model in networks.items()
        }
        gathered = _Gathered()
        for number, batches in enumerate(numbered_minibatches(loader, student_loader, forward)):
            for role, batch in batches.items():
                with located(f"minibatch {number} of the {role}"):
                    taken[role](moved(batch.content, place))
                gathered.add(role, taken[role])
            gathered.add_samples(batches["teacher"].labels, batches["teacher"].index)
    facts = {role: network_name(model) for role, model in networks.items()}
    facts |= {"data": data, "reduce": reduce if isinstance(reduce, str) else getattr(reduce, "__name__", "a function")}
    return gathered.features(facts, {role: network_origin(model) for role, model in networks.items()} | {"data": data})


@exact_float32
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
        trained, given = shapes[role], model_info(model).name
        if trained is None or trained.model != given:
            raise AnalysisError(f"the run's {role} was {trained and trained.model}, but {given} is given")
    names = {role: shape.names for role, shape in shapes.items() if shape is not None}
    used = {role: sorted({pair[place] for pair in method.pairs}) for place, role in enumerate(("student", "teacher"))}

    def take(role: str, batch: Any) -> Mapping[str, Tensor]:
        maps = stages[role](model_info(views.models[role]).normalise(batch.images)).maps
        return {names[role][stage]: maps[stage] for stage in used[role]}

    found = _gathered(views, take, {"reduce": "maps"}, batch_size=batch_size, device=device, quiet=quiet)
    return found, [(names["teacher"][other], names["student"][own]) for own, other in method.pairs]


def _gathered(
    views: Views,
    take: Callable[[str, Any], Mapping[str, Tensor]],
    facts: dict[str, Any],
    *,
    batch_size: int,
    device: str | torch.device,
    quiet: bool,
) -> LayerFeatures:
    """All test images through `take`, which maps a role and its minibatch to features by layer."""
    gathered = _Gathered()
    minibatches = views.minibatches(batch_size=batch_size, device=device, label="features", quiet=quiet)
    for number, batches in enumerate(minibatches):
        for role, batch in batches.items():
            with torch.inference_mode(), located(f"minibatch {number} of the {role}"):
                features = take(role, batch)
            gathered.add(role, features)
        gathered.add_samples(batches["teacher"].labels, batches["teacher"].index)
    infos = {role: model_info(model) for role, model in views.models.items()}
    origin = {role: info.origin() for role, info in infos.items()}
    facts = {**{role: info.name for role, info in infos.items()}, "data": views.data, **facts}
    return gathered.features(facts, origin | {"data": views.data})


class _Gathered:
    """Features, minibatch by minibatch, on the CPU."""

    def __init__(self) -> None:
        self._parts: dict[str, dict[str, list[Tensor]]] = {"teacher": {}, "student": {}}
        self._labels: list[Tensor] = []
        self._index: list[Tensor] = []

    def add(self, role: str, features: Mapping[str, Tensor]) -> None:
        """Those of one network for the next minibatch."""
        for layer, feature in features.items():
            parts = self._parts[role].setdefault(layer, [])
            if parts and parts[0].shape[1:] != feature.shape[1:]:
                raise AnalysisError(
                    f"layer {layer!r} of the {role} gives {list(feature.shape[1:])} an image, but "
                    f"{list(parts[0].shape[1:])} before; give images of one size, or reduce='gap'"
                )
            parts.append(feature.cpu())

    def add_samples(self, labels: Tensor, index: Tensor) -> None:
        """Classes and places of the samples of that minibatch."""
        self._labels.append(labels.cpu())
        self._index.append(index.cpu())

    def features(self, facts: dict[str, Any], origin: dict[str, Any]) -> LayerFeatures:
        """Those of all minibatches.

        Raises:
            AnalysisError: if there was none.
        """
        if not self._index:
            raise AnalysisError("the loader gave no minibatches")
        joined = {
            role: {layer: torch.cat(parts).clone() for layer, parts in layers.items()}
            for role, layers in self._parts.items()
        }
        labels, index = torch.cat(self._labels), torch.cat(self._index)
        return LayerFeatures(joined["teacher"], joined["student"], labels, index, facts, origin)


def stored_features(
    paths: Sequence[Path],
    *,
    teacher_layers: Sequence[str] = ("all",),
    student_layers: Sequence[str] = ("all",),
    reduce: str | None = None,
) -> LayerFeatures:
    """Features from one dump that holds both networks, or from the teacher's and the student's dump.

    Args:
        paths: one feature file or two.
        teacher_layers: stored names, globs, `stages` or `all`.
        student_layers: the same for the student.
        reduce: what of a stored output is taken; if not given, its means over positions (gap), or what the files hold.

    Raises:
        StoreError: if the files hold different samples or another order, no features or another reduction, or are
            damaged.
    """
    with open_pair(paths) as pair:
        chosen = {"teacher": teacher_layers, "student": student_layers}
        both = [
            _Stored(side.store.path, side.role, side.layers(chosen[name]), reduce) for name, side in pair.sides.items()
        ]
        store, facts = pair.store, {**pair.facts(), "reduce": pair.reduction(reduce)}
        return LayerFeatures(both[0], both[1], store.labels, store.index, facts, pair.origin(), store.path)


class _Stored(Mapping[str, Tensor]):
    """Features of one network in a file: a layer is read whenever it is looked up.

    Args:
        path: the feature file.
        role: of the network in it.
        layers: that there are to look up, in the order of execution.
        reduce: what of a stored output is taken, as `StoredNetwork.reduction` has it.
    """

    def __init__(self, path: Path, role: str, layers: Sequence[str], reduce: str | None) -> None:
        self._path, self._role, self._layers, self._reduce = path, role, layers, reduce

    def __getitem__(self, layer: str) -> Tensor:
        if layer not in self._layers:
            raise KeyError(layer)
        with FeatureStore.open(self._path) as store:
            return StoredNetwork(store, self._role).reduced(layer, self._reduce)

    def __iter__(self) -> Iterator[str]:
        return iter(self._layers)

    def __len__(self) -> int:
        return len(self._layers)
