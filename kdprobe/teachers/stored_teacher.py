"""A teacher that need not look at the same view of an image twice: its outputs are kept in a `Store`."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kdprobe.config import OF_TRAINING, RunConfig
from kdprobe.data.dataset import Split
from kdprobe.devices import sent
from kdprobe.distillers import Method
from kdprobe.errors import ConfigError, ModelError, StoreError
from kdprobe.models import model_info
from kdprobe.models.stages import Features, Need
from kdprobe.runs.inputs import Inputs
from kdprobe.runtime.distributed import Ranks
from kdprobe.runtime.precision import autocast
from kdprobe.teachers.entries import EntryType
from kdprobe.teachers.store import STORE_LASTS, Store, check_store
from kdprobe.teachers.teacher import Teacher
from kdprobe.terminal import worded_bytes, worded_count

_BYTES = {"float32": "<f4", "float16": "<f2"}
_ONE_OF_SEVERAL = ("maps", "preacts")


class StoredTeacher:
    """Reads the outputs of a teacher where they are kept; else it asks the teacher and keeps what it says.

    What was computed is used as it is kept, in its precision: the first pass and all later ones are the same to the
    bit. Outside `begun` the teacher is asked for everything.

    Args:
        teacher: whose outputs are kept.
        config: the run's, with `teacher.store`, and without `auto` for its precision.
        method: says which outputs it reads.
        train: the images.
        inputs: which teacher and which data these are.

    Raises:
        ConfigError: if the outputs of this training cannot be kept.
        StoreError: if the folder keeps others.
    """

    def __init__(self, teacher: Teacher, config: RunConfig, method: Method, *, train: Split, inputs: Inputs) -> None:
        assert config.teacher_facts is not None
        assert config.teacher_facts.store is not None
        self.teacher, self.config, self.method, self.train, self.inputs = teacher, config, method, train, inputs
        self.stages, self.info, self.layout = teacher.stages, teacher.info, teacher.layout
        self.facts, self.folder = config.teacher_facts, Path(config.teacher_facts.store).expanduser()
        self.dtype = config.teacher_facts.store_dtype or "float32"
        self._store: Store | None = None
        if not hasattr(os, "preadv"):
            raise ConfigError("teacher.store needs a system that reads files by pread, as Linux does; leave it out")
        if config.training.mixing.mixup or config.training.mixing.cutmix:
            raise ConfigError(
                "teacher.store keeps what the teacher makes of each image, but a mixed image never comes again; set "
                "training.mixing.mixup=0 and training.mixing.cutmix=0, or leave teacher.store out"
            )
        self.names = {"teacher": str(config.teacher), "data": config.data.spec}
        check_store(self.folder, inputs, **self.names)

    @contextmanager
    def begun(self, group: Ranks) -> Iterator[str]:
        """Read and keep outputs inside; the room that they need is taken first, before anything of the run is written.

        Args:
            group: this process among all.

        Yields:
            in the first process, a line about what is kept, its size, and how much of it is there; else nothing.

        Raises:
            StoreError: if there is not enough room, or the folder cannot be used.
            ConfigError: if the teacher does not have the outputs that are to be kept.
        """
        entries = self.entries(group)
        training, augment = self.config.training, self.config.data.augment
        store = Store(
            self.folder,
            self._facts(group.world),
            n_views=len(self.train) * augment.repeats,
            epochs=self.epochs_of(self.config),
            entries=entries,
        )
        line = ""
        if group.main:
            store.reserve(self.inputs, **self.names)
            line = (
                f"teacher.store {self.folder}: {', '.join(entries)} of {store.n_views:,} views, "
                f"{worded_count(store.epochs, 'epoch')}, {self.dtype}, in {worded_bytes(store.n_bytes)} on disk, "
                f"{(there := store.fraction()):.0%} computed"
            )
            if there < 1:
                line += f"; {STORE_LASTS}"
                if training.epochs > (filling := len(store.epochs)):
                    asked = "the first epoch" if filling == 1 else f"the first {filling} epochs"
                    line += f"; the teacher is asked in {asked} alone, so that later ones are faster than these"
        group.wait()
        self._store = store
        try:
            yield line
        finally:
            self._store = None
            store.close()

    @staticmethod
    def epochs_of(config: RunConfig) -> list[int]:
        """The epochs of a training whose views are different."""
        augment = config.data.augment
        return sorted({augment.varied_as(epoch) for epoch in range(config.training.epochs)})

    def entries(self, group: Ranks) -> dict[str, EntryType]:
        """What is kept of each view: types and shapes of the outputs, by name.

        Raises:
            ConfigError: if the teacher does not have the outputs that are to be kept.
        """
        side = self.train.image_size
        # what is kept must not be the output of a CUDA graph; nor is anything compiled for two images
        with autocast(self.config.training.precision, group.device), torch.compiler.set_stance("force_eager"):
            self._like = self.teacher.look(torch.full((2, 3, side, side), 0.5, device=group.device))
        self._given = dict(tensors_of(self._like))
        self._read = self._read_of(self._given)
        number = _BYTES[self.dtype]
        return {name: np.dtype((number, tuple(self._given[name].shape[1:]))) for name in self._kept_of(self._given)}

    def _read_of(self, given: Mapping[str, Tensor]) -> set[str]:
        """Names of the outputs that the method reads."""
        wanted, stages, found = self.method.teacher_needs, self._stages(given), set()
        for name in given:
            field, _, number = name.partition(".")
            if field in wanted and (not number or stages is None or int(number) in stages):
                found.add(name)
        return found

    def _kept_of(self, given: Mapping[str, Tensor]) -> list[str]:
        """Names of the outputs that are kept: those, and what `teacher.store_outputs` asks for."""
        asked = set(self.facts.store_outputs or ())
        found = [name for name in given if name in self._read or {name, name.partition(".")[0]} & asked]
        for name in self.facts.store_outputs or ():
            if not any(one == name or one.startswith(f"{name}.") for one in found):
                raise ConfigError(
                    f"teacher.store_outputs names {name!r}, which the teacher does not have; it has "
                    f"{', '.join(self._available())} (maps and preacts are all of theirs)"
                )
        if not found:
            raise ConfigError("teacher.store has nothing to keep: the method reads no outputs of the teacher")
        return found

    def _available(self) -> list[str]:
        """Names of all outputs that this teacher has, whether the method reads them or not."""
        network, found = self.stages.model, []
        image = torch.full(
            (2, 3, self.info.image_size, self.info.image_size), 0.5, device=next(network.parameters()).device
        )
        for need in get_args(Need):
            try:
                looked = Teacher(network, needs=[need], layout=self.layout).look(image)
            except ModelError:
                continue
            found += [name for name, _ in tensors_of(looked) if name.partition(".")[0] == need]
        return found

    def _stages(self, given: Mapping[str, Tensor]) -> set[int] | None:
        """Numbers of the stages whose maps the method reads; None for all."""
        if (stages := self.method.teacher_stages) is None:
            return None
        count = max(sum(name.startswith(f"{field}.") for name in given) for field in _ONE_OF_SEVERAL)
        return {stage % count for stage in stages}  # they may be counted from the end

    def _facts(self, world: int) -> dict[str, Any]:
        """What decides the outputs, besides teacher and data."""
        training, data = self.config.training, self.config.data
        return {
            "format": "kdprobe-teacher-store",
            "version": 1,
            "teacher": model_info(self.teacher.stages.model).to_json(),
            "facts": self.facts.model_dump(mode="json", exclude=OF_TRAINING, exclude_none=True),
            "images": {
                "number": len(self.train),
                "sides": [self.train.image_size, self.train.student_size],
                "seed": data.seed_or(self.config.seed),
                **data.model_dump(mode="json", include={"holdout", "per_class", "skip_bad"}),
                "augment": data.augment.model_dump(mode="json", exclude_none=True) if data.augment.varies else None,
                **({} if data.decode == "exact" else {"decode": data.decode}),  # as folders of earlier versions have it
            },
            "computed": {
                "precision": training.precision,
                "layout": str(self.layout),
                "batch_size": training.batch_size,
                "accumulate": training.accumulate,
                "processes": world,
            },
            "dtype": self.dtype,
        }

    @property
    def summary(self) -> dict[str, Any]:
        """What `result.json` says: which outputs the run read from the store, and their precision."""
        assert self._store is not None
        return {"dtype": self.dtype, "outputs": list(self._store.entries)}

    @torch.no_grad()
    def __call__(self, images: Tensor, view: Tensor | None) -> Features:
        """Features of images in [0, 1].

        Args:
            images: [B, 3, s, s].
            view: the views of training images that these are, as in `Batch`; None if they are something else.

        Raises:
            ConfigError: if they are something else.
            StoreError: if the store cannot be read or written, or an output is too large for float16.
        """
        if view is None:
            raise ConfigError(
                f"method {self.config.method['name']!r} shows the teacher images of its own, which never come again; "
                "leave teacher.store out"
            )
        if self._store is None:
            return self.teacher(images)
        views = view.tolist()
        found, known = self._store.read(views, self._read)
        if not known.all():
            found = self._store.keep(views, self._numbers(self.teacher.look(images)))
        return self.teacher.of_classes(self._features(found, len(views), images.device))

    def _numbers(self, features: Features) -> dict[str, NDArray[Any]]:
        """The outputs as they are kept."""
        assert self._store is not None
        given, kept = dict(tensors_of(features)), {}
        for name, entry in self._store.entries.items():
            values = given[name].float().cpu().numpy()
            with np.errstate(over="ignore"):
                kept[name] = values.astype(entry.base, copy=False)
            if self.dtype == "float16" and np.isinf(kept[name]).any() and np.isfinite(values).all():
                raise StoreError(
                    f"float16 holds numbers up to 65504, but {name} of the teacher reach {np.abs(values).max():.3g}; "
                    "set teacher.store_dtype=float32"
                )
        return kept

    def _features(self, values: Mapping[str, NDArray[Any]], count: int, device: torch.device) -> Features:
        """The outputs as the teacher gives them; those that are not kept are empty or None."""
        found = {name: self._tensor(name, array, device) for name, array in values.items()}
        nothing = torch.empty(count, 0, device=device)
        maps, preacts = (
            tuple(found.get(name, nothing) for name in self._given if name.startswith(f"{field}."))
            for field in _ONE_OF_SEVERAL
        )
        qkv = found.get("qkv")
        return replace(
            self._like,
            logits=found.get("logits", nothing),
            pooled=found.get("pooled"),
            tokens=found.get("tokens"),
            qkv=None if qkv is None else qkv.movedim(0, 1),
            maps=maps,
            preacts=preacts,
        )

    def _tensor(self, name: str, values: NDArray[Any], device: torch.device) -> Tensor:
        like = self._given[name]
        tensor = sent(torch.from_numpy(values), device).to(like.dtype)
        last = like.ndim == 4 and not like.is_contiguous() and like.is_contiguous(memory_format=torch.channels_last)
        return tensor.contiguous(memory_format=torch.channels_last) if last else tensor


def tensors_of(features: Features) -> Iterator[tuple[str, Tensor]]:
    """The tensors of features by name, images first: `logits`, `pooled`, `tokens`, `qkv`, `maps.0`, `preacts.0`, ..."""
    if features.logits.shape[1]:
        yield "logits", features.logits
    for field in ("pooled", "tokens"):
        if (tensor := getattr(features, field)) is not None:
            yield field, tensor
    if features.qkv is not None:
        yield "qkv", features.qkv.movedim(1, 0)
    for field in _ONE_OF_SEVERAL:
        yield from ((f"{field}.{number}", tensor) for number, tensor in enumerate(getattr(features, field)))
