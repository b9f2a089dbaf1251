"""Dumps and runs of made-up networks, and an engine without processes, for the tests of maps."""

from concurrent.futures import Future

import torch

from kdprobe.config import parse, write_yaml
from kdprobe.config.parsing import override
from kdprobe.distillers import option_types
from kdprobe.features.gram import centred_gram
from kdprobe.features.store import FeatureStore, Network
from kdprobe.models.layout import Layout
from kdprobe.recipe import read_recipe
from kdprobe.runs.folder import RunFolder
from kdprobe.sweeps.work import work

N, BATCH = 48, 12
_RESULT = {
    **{"model": "resnet8", "data": "digits", "data_sha256": "d", "evaluated_on": "test", "evaluated_images": N},
    **{"epochs": 1, "images_seen": 1, "accuracy": 0.5, "best_accuracy": 0.5, "parameters": 1},
    **{"auxiliary_parameters": 0, "seconds": 1.0},
}


def features(seed, width=6, *, n=N, shared=1.0):
    """[n, width], of which every network has the same part."""
    common = torch.randn(n, 4, generator=torch.Generator().manual_seed(0))
    own = torch.Generator().manual_seed(100 + seed)
    mixed = common @ torch.randn(4, width, generator=own)
    return shared * mixed + torch.randn(n, width, generator=own)


def write_dump(
    path,
    layers,
    *,
    roles=("student",),
    sha256="",
    index=None,
    stages=None,
    grams=False,
    reduce="gap",
    size=BATCH,
    labels=None,
):
    """A dump of layers by name, the same for each role."""
    n = len(next(iter(layers.values())))
    networks = {
        role: Network(f"net-{path.stem}", sha256 or f"{role} {path.stem}", {}, "images digits") for role in roles
    }
    content = {"content": "grams" if grams else "features", "batch_size": size}
    with FeatureStore.create(path, networks, data="digits", reduce=reduce, **content) as writer:
        for places in torch.arange(n).split(size):
            of = {name: centred_gram(x[places]) if grams else x[places] for name, x in layers.items()}
            writer.append(
                places if index is None else index[places],
                places % 3 if labels is None else labels[places],
                dict.fromkeys(roles, of),
                layouts={role: dict.fromkeys(layers, Layout("vector")) for role in roles},
                stages=dict.fromkeys(roles, list(layers) if stages is None else stages),
            )
    return str(path)


def write_run(path, *assignments, teacher_sha256=None, weights="", **result):
    """A finished run without weights."""
    config = parse(override(read_recipe("digits/resnet8-kd"), ["teacher=t/teacher", *assignments]), option_types())
    path.mkdir(parents=True)
    (path / "config.yaml").write_text(write_yaml(config))
    facts = {"seed": config.seed, "method": config.method["name"], "teacher": config.teacher, **_RESULT, **result}
    hashes = {"sha256": {"last.safetensors": weights or str(path)}, "teacher_sha256": teacher_sha256}
    RunFolder(path).write_result(facts | hashes)
    return path


class Here:
    """An engine that works in this process, one cell at a time."""

    slots = 1

    def __init__(self, order):
        self.order = order

    def submit(self, cell, given_up=0):
        future = Future()
        future.set_result(work(self.order, cell.id, cell.config, given_up))
        return future

    def abandon(self, cell):
        raise AssertionError(cell)

    def close(self):
        pass
