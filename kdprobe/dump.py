"""Run networks over images and stream their features into a file."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from kdprobe.capture import capture, stage_names
from kdprobe.data import Batch
from kdprobe.errors import AnalysisError, CaptureError, StoreError
from kdprobe.models.create import describe, unwrap
from kdprobe.store import Compression, Content, FeatureStore, Network


@dataclass(frozen=True)
class Source:
    """One network and its view of the images.

    Attributes:
        model: from `kdprobe.load`.
        batches: the images in its input size, in a fixed order that all sources share; sources of the same
            input size may share the iterable too.
        layers: as `kdprobe.capture` takes them.
    """

    model: nn.Module
    batches: Iterable[Batch]
    layers: str | Sequence[str] = "stages"


def dump(
    sources: Mapping[str, Source],
    path: Path,
    *,
    data: str,
    batch_size: int,
    content: Content = "features",
    dtype: str = "float32",
    compression: Compression = "gzip",
    device: str | torch.device = "cpu",
) -> int:
    """Write the features of all images.

    Args:
        sources: by role, `teacher` and `student`.
        path: the `.h5` file, which must not exist.
        data: the data SPEC, for the record.
        batch_size: of the sources' batches.
        content: `features`, or `grams` of each minibatch.
        dtype: of features, `float32` or `float16`.
        compression: `gzip` or `none`.
        device: where the networks run.

    Returns:
        the number of samples.

    Raises:
        StoreError: if the file exists, float16 overflows, or the sources' images differ.
        CaptureError: for an unknown layer.
    """
    if path.exists():
        raise StoreError(f"{path} exists already; give another name or remove it")
    networks = {role: _network(source.model) for role, source in sources.items()}
    stages = {role: stage_names(unwrap(source.model)) for role, source in sources.items()}
    reduce = "gram" if content == "grams" else "whole"
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode())
        taken = {
            role: stack.enter_context(capture(source.model.to(device), source.layers, reduce=reduce))
            for role, source in sources.items()
        }
        writer = stack.enter_context(
            FeatureStore.create(
                path,
                networks,
                data=data,
                batch_size=batch_size,
                content=content,
                dtype=dtype,
                compression=compression,
            )
        )
        for batches in _together(sources):
            for role, batch in batches.items():
                _show(role, sources[role].model, batch, device, writer.n_samples)
            one = next(iter(batches.values()))
            layouts = {role: features.layouts for role, features in taken.items()}
            writer.append(one.index, one.labels, taken, layouts=layouts, stages=stages)
    return writer.n_samples


def _together(sources: Mapping[str, Source]) -> Iterator[dict[str, Batch]]:
    distinct = {id(source.batches): source.batches for source in sources.values()}
    for batches in zip(*distinct.values(), strict=True):
        first = batches[0].index.cpu()
        if any(not torch.equal(first, batch.index.cpu()) for batch in batches[1:]):
            raise StoreError("teacher and student were given different images, or the same ones in different order")
        seen = dict(zip(distinct, batches, strict=True))
        yield {role: seen[id(source.batches)] for role, source in sources.items()}


def _show(role: str, model: nn.Module, batch: Batch, device: str | torch.device, done: int) -> None:
    try:
        model(describe(model).normalise(batch.images.to(device)))
    except (AnalysisError, CaptureError) as error:
        raise type(error)(f"{role}, samples from {done} on: {error}") from error


def _network(model: nn.Module) -> Network:
    info = describe(model)
    preprocessing = {"image_size": info.image_size, "mean": list(info.mean), "std": list(info.std)}
    return Network(info.name, info.sha256 or "", preprocessing)
