"""What a map needs of a network: the means over positions of its stages' outputs, and its classifier's input."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from analyses.map.pairs import POOLED
from kdprobe.data import View
from kdprobe.devices import pick_device
from kdprobe.errors import AnalysisError
from kdprobe.features.capturing import capture
from kdprobe.features.minibatches import arguments_of
from kdprobe.features.shared_images import Views, located, open_views
from kdprobe.features.store import FeatureStore
from kdprobe.features.writer import Network
from kdprobe.files import sha256, write_text
from kdprobe.models.creation import model_info
from kdprobe.models.identity import weights_sha256
from kdprobe.models.layout import Layout
from kdprobe.models.stages import Need, Stages
from kdprobe.models.watched.parts import find_parts
from kdprobe.runs.folder import RunFolder

ROLE = "student"  # of the network in its feature file
FEATURES, SOURCE = "features.h5", "source.json"


def prepare_network(config: Mapping[str, Any], out: Path, device: str) -> None:
    """Write the features of one network of a map, or where the dump is that holds them.

    Args:
        config: `spec` or `file` and `role` of an `analyses.map.members.Member`, with `data`, `batch_size`, `view` and
            `told`.
        out: folder for them.
        device: where the network runs.
    """
    out.mkdir(parents=True, exist_ok=True)
    source = {"file": config["file"], "role": config["role"]}
    if config["spec"]:
        _show(config, out / FEATURES, device)
        source = {"file": FEATURES, "role": ROLE}
    write_text(out / SOURCE, json.dumps(source) + "\n")
    written = [path for path in (out / FEATURES, out / SOURCE) if path.is_file()]
    RunFolder(out).write_result({"sha256": {path.name: sha256(path) for path in written}})


def source_of(folder: Path) -> tuple[Path, str]:
    """The file that `prepare_network` wrote or found, and the role of the network in it."""
    said = json.loads((folder / SOURCE).read_text(encoding="utf-8"))
    return folder / said["file"], str(said["role"])


def views_of(config: Mapping[str, Any]) -> Views:
    """A network and the images that it is shown, from what `prepare_network` takes."""
    view = View(**config["view"]) if config["view"] else View()
    named_by = {ROLE: Path(config["named_by"])} if config["named_by"] else None
    given: dict[str, Any] = {"data": config["data"], "named_by": named_by, "view": view, "told": config["told"]}
    return open_views({ROLE: config["spec"]}, shown=True, **given)


def seen_by(views: Views) -> dict[str, Any]:
    """How images are shown to the network, with nothing left open."""
    info, view = model_info(views.models[ROLE]), views.shown[ROLE].view
    preprocessing = {"image_size": info.image_size, "mean": list(info.mean), "std": list(info.std)}
    return preprocessing | {key: value for key, value in vars(view).items() if value is not None}


def _show(config: Mapping[str, Any], path: Path, device: str) -> None:
    views = views_of(config)
    model = views.models[ROLE]
    info = model_info(model)
    found = info.sha256 or weights_sha256(model)
    if config["sha256"] not in ("", found):
        raise AnalysisError(f"{config['spec']} has the sha256 {found}, but the runs were taught by {config['sha256']}")
    network = Network(info.name, found, seen_by(views), views.shown[ROLE].identity, info.remark)
    path.unlink(missing_ok=True)
    with FeatureStore.create(
        path, {ROLE: network}, data=views.data, batch_size=config["batch_size"], reduce="gap", overwrite=True
    ) as writer:
        for batch, features, stages in _features(views, config["batch_size"], device):
            layouts = {ROLE: dict.fromkeys(features, Layout("vector"))}
            writer.append(batch.index, batch.labels, {ROLE: features}, layouts=layouts, stages={ROLE: stages})


def _features(views: Views, batch_size: int, device: str) -> Any:
    """Minibatches of the test images, with the network's features and the names of its stages."""
    place, model = pick_device(device), views.models[ROLE]
    model.to(place).eval()
    needs: list[Need] = ["pooled"]
    network = Stages(model, needs=[] if find_parts(model, needs).no_pooled else needs)
    with torch.inference_mode(), capture(model, "stages", reduce="gap") as taken:
        for number, batches in enumerate(views.minibatches(batch_size=batch_size, device=place)):
            batch = batches[ROLE]
            with located(f"minibatch {number} of {model_info(model).name}"):
                pooled = network(arguments_of(model, batch)[0][0]).pooled
            features: dict[str, Tensor] = {name: value.float() for name, value in taken.items()}
            stages = list(features)
            if pooled is not None:
                features[POOLED] = pooled.flatten(1).float()
            _refuse_broken(features, model_info(model).name)
            yield batch, features, stages


def _refuse_broken(features: Mapping[str, Tensor], name: str) -> None:
    for layer, values in features.items():
        if broken := int((~values.isfinite()).sum()):
            raise AnalysisError(f"{name}: layer {layer!r} has {broken} NaN or infinite values among {values.numel()}")
