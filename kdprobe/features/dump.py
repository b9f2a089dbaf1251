"""Run networks over images and stream their features into files.

A dump has one part per process, or more if parts are to stay small. An interrupted part is continued after
its last complete minibatch: the complete ones are copied into a new file, which proves that they can be read.
"""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kdprobe.data import Batch, Shown, Split
from kdprobe.devices import exact_float32, pick_device
from kdprobe.errors import AnalysisError, CaptureError, StoreError
from kdprobe.features.capturing import Capture, capture
from kdprobe.features.gram import centred_gram
from kdprobe.features.gram_capture import GramCapture
from kdprobe.features.minibatches import Forward, Minibatches, fixed_order, moved
from kdprobe.features.numbered import InOrder, Minibatch, order_of
from kdprobe.features.parts import Part, divide, join
from kdprobe.features.reducers import layout_after, reducer
from kdprobe.features.shared_images import Views, located
from kdprobe.features.staging import Staged, Staging, Stored, behind
from kdprobe.features.store import FeatureStore, FeatureWriter, Network, partial_path
from kdprobe.features.writer import Compression, Content
from kdprobe.models.creation import model_info
from kdprobe.models.identity import network_name, network_origin, weights_sha256
from kdprobe.models.layout import Layout
from kdprobe.terminal import worded_bytes

_Source = Callable[[int, int], Iterator[Mapping[str, Batch | Minibatch]]]


@dataclass(frozen=True)
class Dump:
    """What to write.

    Attributes:
        models: the networks by role, `teacher` and `student`.
        minibatches: gives the samples from start to stop, for each role in its input size.
        n_samples: number of samples.
        batch_size: samples per minibatch.
        layers: by role, as `kdprobe.capture` takes them; `stages` if not given.
        data: the data SPEC, for the record.
        shown: which images these are and how they are shown, by role, for the record and for comparisons.
        content: `features`, or `grams` of each minibatch.
        dtype: type of stored features, `float32` or `float16`.
        compression: `gzip` or `none`.
        reduce: what is stored of each layer's output, as `kdprobe.features.reducers.reducer` takes it; of `flatten` and
            `whole`, Gram matrices are the same.
        device: the device that the networks run on.
        forward: `forward(model, batch)` runs a network on a minibatch of any form.
        as_given: whether the images are prepared for the networks already, so that nothing is recorded of how.
        order: places of the samples in the order in which they come [n_samples]; that of the places if not given.

    Example:
        >>> import torch
        >>> from kdprobe.features import Dump
        >>> from kdprobe.models import create
        >>> model = create("resnet8", n_classes=10, image_size=16)
        >>> Dump.over({"student": model}, [torch.rand(8, 3, 16, 16)], reduce="gap").reduce
        'gap'
    """

    models: Mapping[str, nn.Module]
    minibatches: _Source
    n_samples: int
    batch_size: int
    layers: Mapping[str, str | Sequence[str]] = field(default_factory=dict)
    data: str = ""
    shown: Mapping[str, Shown] = field(default_factory=dict)
    content: Content = "features"
    dtype: str = "float32"
    compression: Compression = "gzip"
    reduce: str = "whole"
    device: str | torch.device = "cpu"
    forward: Forward | None = None
    as_given: bool = False
    order: Tensor | None = None

    @classmethod
    def of(
        cls, views: Views, *, batch_size: int, device: str | torch.device = "cpu", quiet: bool = True, **options: Any
    ) -> "Dump":
        """A dump of networks on the test images that they are shown, with progress on standard error unless quiet."""
        shown: dict[str, Any] = {"batch_size": batch_size, "device": device}
        minibatches = partial(views.minibatches, **shown, label="dump", quiet=quiet)
        facts: dict[str, Any] = {"n_samples": views.n_samples, "data": views.data, "shown": views.shown}
        facts["order"] = fixed_order(views.n_samples)
        return cls(views.models, minibatches, **facts, **shown, **options)

    @classmethod
    def over(
        cls,
        models: Mapping[str, nn.Module],
        loader: Minibatches,
        *,
        student_loader: Minibatches | None = None,
        forward: Forward | None = None,
        **options: Any,
    ) -> "Dump":
        """A dump of networks on the minibatches of a loader, whose classes are stored where it gives them.

        Args:
            models: one or two networks by role, `teacher` and `student`.
            loader: as `analyses.cka.cka` takes it, with samples in a fixed order: they may be read several times.
            student_loader: the same samples as the student takes them.
            forward: `forward(model, batch)` runs a network, or a part of it, on a minibatch of any form.
            options: `layers` (by role, or the same for all) and other attributes, from `content` to `device`.

        Raises:
            AnalysisError: for other roles, a loader that shuffles, or one whose number of samples is not known.
        """
        if not models or any(role not in ("teacher", "student") for role in models):
            raise AnalysisError(f"a dump is of a teacher, a student or both, but got networks named {[*models]}")
        if not isinstance(layers := options.pop("layers", {}), Mapping):
            layers = dict.fromkeys(models, layers)
        source = InOrder.of([*models], loader, student_loader, forward)
        facts = source, source.n_samples, source.batch_size, layers
        options |= {"as_given": not isinstance(loader, Split), "order": order_of(loader)}
        return cls(models, *facts, forward=forward, **options)


@exact_float32
def write_dump(
    dump: Dump,
    path: str | Path,
    *,
    part_size: int | None = None,
    resume: bool = False,
    overwrite: bool = False,
    shard: tuple[int, int] = (0, 1),
    say: Callable[[str], None] = lambda _text: None,
) -> None:
    """Write the features of all images.

    Args:
        dump: what to write.
        path: the `.h5` file.
        part_size: the most samples per file; one file per process if not given.
        resume: continue an interrupted dump.
        overwrite: replace whatever has the file's name.
        shard: (r, k): this is process r of k; each writes its own parts, and the first one joins them.
        say: receives lines for the user, such as the size before the start.

    Raises:
        StoreError: if the dump exists already, does not fit on the disk or into float16, or is to resume another dump.
        CaptureError: for an unknown layer or reducer, or a layer that has no such reduction.
        AnalysisError: for features that are NaN or infinite.

    Example:
        >>> import h5py
        >>> import torch
        >>> from kdprobe.features import Dump, write_dump
        >>> from kdprobe.models import create
        >>> model = create("resnet8", n_classes=10, image_size=16)
        >>> _ = write_dump(Dump.over({"student": model}, [torch.rand(8, 3, 16, 16)], reduce="gap"), "features.h5")
        >>> with h5py.File("features.h5") as file:
        ...     print(list(file["student"]), file["student/layer3"].shape)
        ['act1', 'layer1', 'layer2', 'layer3'] (8, 64)
    """
    path, dump = Path(path), replace(dump, device=pick_device(dump.device))
    reducer(dump.reduce)
    parts = divide(path, dump.n_samples, dump.batch_size, part_size, shard[1])
    if resume and overwrite:
        raise StoreError("--resume continues what is there, and --overwrite discards it; give one of them")
    if not (resume or overwrite):
        _refuse_existing(path, parts)
        if shard[1] > 1:
            torch.distributed.barrier()  # what is looked for must not be another process's
    for part in parts[shard[0] :: shard[1]]:
        if part.path.exists() and not overwrite:
            _check_finished(dump, part, say)
        else:
            _write_part(
                dump, part, resume=resume, overwrite=overwrite, say=say if part is parts[0] else lambda _text: None
            )
    if shard[1] > 1:
        torch.distributed.barrier()
    if len(parts) > 1 and shard[0] == 0 and (overwrite or not path.exists()):
        join(path, [part.path for part in parts])


def _refuse_existing(path: Path, parts: Sequence[Part]) -> None:
    for taken in [path, *(part.path for part in parts)]:
        if taken.exists():
            raise StoreError(f"{taken} exists already; give another name, remove it, or give --overwrite")
        for left in (partial_path(taken), _kept_path(taken)):
            if left.exists():
                raise StoreError(f"{left} is left from an interrupted dump; resume it or remove it")


def _write_part(dump: Dump, part: Part, *, resume: bool, overwrite: bool, say: Callable[[str], None]) -> None:
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode())
        taken = {role: stack.enter_context(_captured(dump, role)) for role in dump.models}
        kept = _kept_path(part.path) if resume else None
        writer = stack.enter_context(_writer(dump, part.path, keep=kept, overwrite=overwrite))
        if kept is not None and kept.exists():
            _copy(dump, part, kept, writer, say)
            kept.unlink()
        staging = Staging(torch.device(dump.device), writer.dtype)
        append = stack.enter_context(behind(partial(_append, dump, writer)))
        first = part.start + writer.n_samples
        for number, batches in enumerate(dump.minibatches(first, part.stop)):
            start = first + number * dump.batch_size
            staged = _shown(dump, taken, batches, start, staging)
            if number == 0:
                _check_room(dump, staged, part.path.parent, dump.n_samples - first, say)
                stages = {role: _stages(features) for role, features in taken.items()}
            layouts = {role: _layouts(dump, features) for role, features in taken.items()}
            append(staged.n_bytes, staged, start, layouts=layouts, stages=stages)
            del staged  # it may go as soon as it is written


def _captured(dump: Dump, role: str) -> Capture:
    model, layers = dump.models[role].to(dump.device), dump.layers.get(role, "stages")
    if dump.content == "features":
        return capture(model, layers, reduce=dump.reduce, forward=dump.forward)
    reduce = "flatten" if dump.reduce == "whole" else dump.reduce  # of both, Gram matrices are the same
    if torch.device(dump.device).type == "cuda":
        return GramCapture(model, layers, reduce=reduce, forward=dump.forward)  # which waits once for all layers
    return capture(model, layers, reduce="gram" if reduce == "flatten" else reduce, forward=dump.forward)


def _shown(
    dump: Dump, taken: Mapping[str, Capture], batches: Mapping[str, Batch | Minibatch], start: int, staging: Staging
) -> Staged:
    """A minibatch that was shown to all networks, on its way to the file."""
    features: dict[str, dict[str, Tensor]] = {}
    for role, batch in batches.items():
        content = moved(batch.content if isinstance(batch, Minibatch) else batch, torch.device(dump.device))
        with located(f"{role}, samples from {start} on"):
            features[role] = _features(dump, taken[role], content)
    one, *_ = batches.values()
    return staging.take({role: batch.index for role, batch in batches.items()}, one.labels, features)


def _features(dump: Dump, taken: Capture, batch: Any) -> dict[str, Tensor]:
    """What is stored of each layer, features or Gram matrices."""
    if isinstance(taken, GramCapture):
        return taken.grams(batch)
    taken(batch)
    if dump.content == "features" or dump.reduce in ("whole", "flatten"):
        return dict(taken)
    grams = {}
    for name, feature in taken.items():
        with located(f"layer {name!r}"):
            grams[name] = centred_gram(feature)
    return grams


def _append(dump: Dump, writer: FeatureWriter, staged: Staged, start: int, **facts: Any) -> None:
    """Write a minibatch, as soon as it has come."""
    features = staged.arrived(writer.dtype)
    one, *others = staged.index.values()
    if any(not torch.equal(one, other) for other in others):
        raise StoreError("teacher and student were given different images, or the same ones in different order")
    _refuse_broken(features, start, dump.batch_size)
    writer.append(one, staged.labels, features, **facts)


def _layouts(dump: Dump, taken: Capture) -> dict[str, Layout]:
    """Of what is stored; of Gram matrices, those of the features behind them."""
    return {layer: layout_after(dump.reduce, layout) for layer, layout in taken.layouts.items()}


def _stages(taken: Capture) -> list[str]:
    try:
        return taken.stages
    except CaptureError:  # layers chosen by name need no stages
        return []


def _writer(dump: Dump, path: Path, *, keep: Path | None, overwrite: bool) -> FeatureWriter:
    networks = _networks(dump)
    return FeatureStore.create(
        path,
        networks,
        data=dump.data,
        batch_size=dump.batch_size,
        content=dump.content,
        dtype=dump.dtype,
        compression=dump.compression,
        reduce=dump.reduce,
        keep=keep,
        overwrite=overwrite,
    )


def _kept_path(path: Path) -> Path:
    """Where the unfinished file is set aside; an earlier one there holds more samples."""
    return path.with_name(path.name + ".kept.partial")


def _copy(dump: Dump, part: Part, kept: Path, writer: FeatureWriter, say: Callable[[str], None]) -> None:
    try:
        store = FeatureStore.open(kept, salvage=True)
    except StoreError as error:
        say(f"starts again from the beginning: {error}")
        return
    with store:
        if not store.n_samples:
            say(f"starts again from the beginning: no minibatch of {kept} is complete")
            return
        _check_same(dump, part, store, say)
        readers = {role: store.minibatches(role) for role in store.roles}
        layouts = {role: {name: store.layout(role, name) for name in store.layers(role)} for role in store.roles}
        stages = {role: store.stages(role) for role in store.roles}
        for labels in torch.split(store.labels, store.batch_size):
            read = {role: next(reader) for role, reader in readers.items()}
            index = next(iter(read.values()))[0]
            features = {role: layers for role, (_, layers) in read.items()}
            writer.append(index, labels, features, layouts=layouts, stages=stages)
        say(f"continues after {store.n_samples} samples")


def _check_finished(dump: Dump, part: Part, say: Callable[[str], None]) -> None:
    with FeatureStore.open(part.path) as store:
        _check_same(dump, part, store, say)
        if store.n_samples != part.stop - part.start:
            raise StoreError(f"{part.path} has {store.n_samples} samples, not {part.stop - part.start}; remove it")


def _check_same(dump: Dump, part: Part, store: FeatureStore, say: Callable[[str], None]) -> None:
    """Refuse a file that is not the beginning of this part."""
    dtype = "float64" if dump.content == "grams" else dump.dtype
    networks = {role: store.network(role) for role in store.roles}
    wanted, found = _facts(_networks(dump)), _facts(networks)
    wanted |= {"batch_size": dump.batch_size, "content": dump.content, "dtype": dtype, "reduce": dump.reduce}
    found |= {"batch_size": store.batch_size, "content": store.content, "dtype": store.dtype, "reduce": store.reduce}
    unsaid = [key for key in wanted if key.endswith(_SEEN) and key not in found and key.split()[0] in networks]
    if not all(f"{role} images" in facts for role in networks for facts in (wanted, found)):
        wanted, found = {"data": dump.data, **wanted}, {"data": store.data, **found}  # by where they lie
    if unsaid:
        say(f"{store.path} does not hold its {', '.join(unsaid)}, so it is not checked whether they are still the same")
    different = [
        f"{key} was {found.get(key, 'not there')}, but now is {wanted.get(key, 'not there')}"
        for key in dict.fromkeys((*found, *wanted))
        if found.get(key) != wanted.get(key) and key not in unsaid
    ]
    if different:
        raise StoreError(
            f"{store.path} is the beginning of another dump: {'; '.join(different)}; resume with what it began with, "
            "or give another name"
        )
    order = torch.arange(dump.n_samples) if dump.order is None else dump.order
    if not torch.equal(store.index, order[part.start : part.stop][: store.n_samples]):
        raise StoreError(
            f"{store.path} cannot be continued: it does not hold the samples from {part.start} on in the order in "
            "which they come now; give another name, or --overwrite to begin again"
        )


def _refuse_broken(features: Mapping[str, Mapping[str, Stored]], start: int, batch_size: int) -> None:
    """Refuse features that are not finite, which no analysis could use."""
    for role, layers in features.items():
        for name, feature in layers.items():
            if not feature.is_finite:
                nan, infinite = feature.n_broken
                raise AnalysisError(
                    f"{role}, minibatch {start // batch_size}, samples from {start} on: layer {name!r} has {nan} NaN "
                    f"and {infinite} infinite values among {feature.values.numel()}; dump other layers, or other "
                    "weights"
                )


def _check_room(dump: Dump, staged: Staged, folder: Path, n_samples: int, say: Callable[[str], None]) -> None:
    """Report the size before compression, and refuse a dump that cannot fit."""
    layers = (one for of in staged.features.values() for one in of.values())
    features = [one.values if isinstance(one, Stored) else one for one in layers]
    if dump.content == "grams":
        size = len(features) * 8 * dump.batch_size * n_samples
    else:
        size = sum(feature[0].numel() for feature in features) * np.dtype(dump.dtype).itemsize * n_samples
    free = shutil.disk_usage(folder).free
    needed, left = worded_bytes(size), worded_bytes(free)
    say(f"{n_samples} samples of {len(features)} layers: {needed} before compression, {left} are free")
    if size > free:
        advice = "choose fewer layers, --reduce gap, --dtype float16 or --grams"
        raise StoreError(f"the dump needs up to {needed}, but {folder} has {left} left; {advice}")


_SEEN = (" images", " crop_pct", " interpolation", " crop_mode")


def _facts(networks: Mapping[str, Network]) -> dict[str, Any]:
    """The facts of networks, and of what they see, that must stay the same."""
    facts: dict[str, Any] = {}
    for role, network in networks.items():
        named = {"model": network.model, "sha256": network.sha256, "images": network.images, **network.preprocessing}
        facts |= {f"{role} {key}": value for key, value in named.items() if value not in ("", None)}
    return facts


def _networks(dump: Dump) -> dict[str, Network]:
    made = _as_given if dump.as_given else _network
    return {role: made(model, dump.shown.get(role, Shown())) for role, model in dump.models.items()}


def _network(model: nn.Module, shown: Shown) -> Network:
    info = model_info(model)
    preprocessing = {"image_size": info.image_size, "mean": list(info.mean), "std": list(info.std)}
    seen = {key: value for key, value in asdict(shown.view).items() if value is not None}
    return Network(info.name, info.sha256 or "", {**preprocessing, **seen}, shown.identity, info.remark)


def _as_given(model: nn.Module, shown: Shown) -> Network:
    origin = network_origin(model)
    sha256 = origin.get("sha256") or weights_sha256(model)
    return Network(network_name(model), sha256, {}, shown.identity, origin.get("remark", ""))
