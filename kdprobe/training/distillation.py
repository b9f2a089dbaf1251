"""Distillation in a loop of one's own: student, teacher and method as one module.

It computes what kdprobe's own training computes, the same losses to the bit, and leaves everything else to the loop:
data, optimizer, precision, processes, checkpoints.

    distillation = kdprobe.Distillation(student, teacher, "dropkd", n_epochs=100)
    optimizer = torch.optim.SGD(distillation.parameters(), lr=0.05, momentum=0.9)
    for epoch in range(100):
        for images, labels in loader:
            optimizer.zero_grad()
            distillation(images, labels, epoch=epoch).loss.backward()
            optimizer.step()
"""

import re
from collections.abc import Callable, Sequence
from numbers import Real
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from kdprobe.config.parsing import check_method
from kdprobe.data.given_batches import check_images, check_labels, check_shapes
from kdprobe.data.loaders import Batch
from kdprobe.distillers import KNOWN_METHODS, Method, Progress, make_method, option_types
from kdprobe.distillers.base import needs_teacher, reads_logits
from kdprobe.errors import CheckpointError, ConfigError, DataError, ModelError
from kdprobe.models import load, model_info
from kdprobe.models.building import told_size
from kdprobe.models.creation import unwrap
from kdprobe.models.description import describe
from kdprobe.models.facts import made_up_images
from kdprobe.models.identity import weights_sha256
from kdprobe.models.stages import measure
from kdprobe.teachers.classes import Said, matched_classes
from kdprobe.teachers.teacher import Teacher
from kdprobe.training.objective import Objective, losses

_Images = Tensor | Sequence[Tensor]


class Distilled(NamedTuple):
    """What one batch gives.

    Attributes:
        loss: the sum of the terms, a scalar.
        terms: weighted, by name; `ce` is the cross entropy with the labels.
        logits: the student's [B, C]; those of the first view, where a method makes several views of each image.
    """

    loss: Tensor
    terms: dict[str, Tensor]
    logits: Tensor


class Distillation(nn.Module):
    """A student, its frozen teacher and a method: from images to a loss.

    Its parameters are the student's and those of the method's auxiliary modules. The teacher is not among them, nor in
    `state_dict()`, nor in the buckets of `DistributedDataParallel`; it follows `.to(device)` and stays in eval mode.
    `state_dict()` is all of it that a restart needs, and is refused where another teacher teaches.

    Args:
        student: the network to train; one in evaluation mode, as loaded ones are, is put into training mode.
        teacher: a network, which is frozen, or where to find one: a run folder, a checkpoint file, NAME@FILE or
            `timm:NAME` (see `kdprobe.load`); None for a method without a teacher.
        method: its name, or a class of one's own.
        images: example images [B, c, s, s], or their side s: the student's input in this training, where its facts say
            another size or none; the teacher's too, if nothing is known about it.
        classes: which of the teacher's logits are the student's classes, where these are not the same: as
            `teacher.classes` of a configuration.
        n_epochs: length of the training, for warm-ups and schedules.
        label_smoothing: that of the cross entropy.
        options: the method's, as under `method:` in a configuration.

    Raises:
        ConfigError: for a method or an option that does not exist.
        ModelError: if nothing is known about a network, or the method is not defined for this pair.
        CheckpointError: if the teacher cannot be loaded.

    Example:
        >>> import torch
        >>> import kdprobe
        >>> from kdprobe.models import create
        >>> _ = torch.manual_seed(0)
        >>> teacher, student = (create(name, n_classes=10, image_size=16) for name in ("resnet14", "resnet8"))
        >>> distillation = kdprobe.Distillation(student, teacher, "kd", n_epochs=10)
        >>> out = distillation(torch.rand(4, 3, 16, 16), torch.arange(4), epoch=0)
        >>> sorted(out.terms), out.logits.shape
        (['ce', 'kd'], torch.Size([4, 10]))
        >>> bool(out.loss == sum(out.terms.values()))
        True
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module | str | Path | None = None,
        method: str | type[Method] = "dropkd",
        *,
        images: Tensor | int | None = None,
        classes: Said | None = None,
        n_epochs: int = 1,
        label_smoothing: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__()
        kind, settings = _method(method, options)
        name = settings["name"]
        _check_student(student)
        if not (isinstance(n_epochs, int) and n_epochs > 0):
            raise ConfigError(f"n_epochs must be a whole number of at least 1, but is {n_epochs!r}")
        if not 0 <= label_smoothing < 1:
            raise ConfigError(f"label_smoothing must be at least 0 and below 1, but is {label_smoothing!r}")
        if images is not None or not _is_known(student):
            describe(student, image_size=_side(images))
        network = _teacher(name, kind, teacher, student, images)
        sizes = measure(student), None if network is None else measure(network)
        try:
            built = make_method(settings, *sizes, kind=kind)
        except ModelError as error:
            raise ModelError(_with_options_of_python(error)) from error
        if not student.training:
            student.train()
        self.objective = Objective(student, built.to(_device(student)), label_smoothing=label_smoothing)
        self.method_name, self.n_epochs = name, n_epochs
        self.teacher: Teacher | None = None  # no module: its weights are none of this module's
        self._taught_by: _Weights | None = None
        if network is not None:
            needs, known = built.teacher_needs, (model_info(network), model_info(student))
            places = matched_classes(type(network).__name__, *known, classes) if reads_logits(needs) else None
            self.teacher = Teacher(network, needs=needs, layout=torch.contiguous_format, classes=places)
            self._taught_by = _Weights(network)
        self._oblong = _oblong(student, network)
        self._has_seen_a_batch = False

    @property
    def student(self) -> nn.Module:
        """The network that is trained."""
        return self.objective.student.model

    @property
    def method(self) -> Method:
        """What owns the auxiliary modules."""
        return self.objective.method

    def forward(
        self, images: _Images, labels: Tensor | None = None, *, epoch: float, index: Tensor | None = None
    ) -> Distilled:
        """The loss of one batch.

        Args:
            images: [B, c, h, w] in [0, 1], resampled to each network's size and standardised by its mean and std; or a
                pair, the student's input and the teacher's, taken as they are.
            labels: classes [B], or probabilities [B, C] of mixed images; none where the student has no classifier.
            epoch: epochs done, from 0, preferably with a fraction inside an epoch.
            index: places [B] of the images in the data set, for methods that remember single images.

        Raises:
            ConfigError: for an epoch outside the training.
            DataError: for images or labels that cannot be meant; their values are looked at in the first batch alone.
            ModelError: for a pair of inputs and a method that makes its own views of images.
        """
        labels = self._labels(images, labels)
        self._check(images, labels, epoch, index)
        if self.teacher is not None and self.teacher.stages.model.training:  # by `train()` of a module around it
            self.teacher.stages.eval()
        soft = labels if labels.is_floating_point() else None
        classes = labels if soft is None else labels.argmax(1)
        progress = Progress(epoch, self.n_epochs)
        if isinstance(images, Tensor):
            batch = Batch(images, classes, torch.full_like(classes, -1) if index is None else index)
            taught = (self.method, self.teacher, batch, soft, progress)
            logits, terms = losses(self.objective, *taught, prepare=model_info(self.student).prepare)
        else:
            with torch.no_grad():
                features = None if self.teacher is None else self.teacher.of_classes(self.teacher.stages(images[1]))
            logits, terms = self.objective(images[0], classes, features, progress, soft)
        return Distilled(torch.stack(list(terms.values())).sum(), terms, logits[: len(labels)])

    def get_extra_state(self) -> Tensor:
        """The sha256 of the teacher's weights, its 32 bytes; empty without a teacher."""
        taught_by = "" if self._taught_by is None else self._taught_by.sha256()
        return torch.tensor(list(bytes.fromhex(taught_by)), dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        """Check that a state is of a training with this teacher, before anything is loaded.

        Raises:
            CheckpointError: naming both teachers.
        """
        before, now = bytes(state.tolist()).hex(), bytes(self.get_extra_state().tolist()).hex()
        if before != now:
            raise CheckpointError(
                f"this state is of a training whose teacher's weights had the sha256 {before or None}, but this "
                f"teacher's have {now or None}; give the same teacher, or load the student alone"
            )

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Distillation":
        """What `.to()`, `.cuda()` and the like do to each tensor, the teacher's too."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if self.teacher is not None:
            self.teacher.stages._apply(fn)  # type: ignore[no-untyped-call]
        return self

    def _labels(self, images: _Images, labels: Tensor | None) -> Tensor:
        if labels is not None:
            whole = isinstance(labels, Tensor) and not labels.is_floating_point()
            return labels.long() if whole else labels
        if self.method.student_shapes.n_classes:
            raise DataError(
                "labels are needed, as the student has a classifier; without one it learns from features alone"
            )
        first = images if isinstance(images, Tensor) else images[0]
        return torch.zeros(len(first), dtype=torch.int64, device=first.device)

    def _check(self, images: _Images, labels: Tensor, epoch: float, index: Tensor | None) -> None:
        if not isinstance(epoch, Real):
            raise ConfigError(f"epoch must be a number, the epochs done, but is {epoch!r}")
        if not 0 <= epoch <= self.n_epochs or (self.training and epoch == self.n_epochs):
            raise ConfigError(f"epoch counts the epochs done, from 0, of n_epochs={self.n_epochs}, but is {epoch}")
        if index is None and self.method.remembers_images:
            raise DataError(
                f"method {self.method_name!r} remembers single images: give index=, their places in the data set"
            )
        if not isinstance(images, Tensor):
            if len(images) != 2:
                raise DataError(f"images must be one batch, or a pair (student's, teacher's), but are {len(images)}")
            if type(self.method).inputs is not Method.inputs:
                raise ModelError(
                    f"method {self.method_name!r} makes its own views of images in [0, 1]; give these instead of a pair"
                )
        elif self._oblong:
            raise ModelError(
                f"a batch is resampled to squares, which {self._oblong} does not take; give a pair of inputs "
                "(student's, teacher's)"
            )
        check_shapes([images] if isinstance(images, Tensor) else [one for one in images if one is not None], labels)
        if not self._has_seen_a_batch and not torch.compiler.is_compiling():
            if n_classes := self.method.student_shapes.n_classes:
                check_labels(labels, n_classes)
            if isinstance(images, Tensor):
                check_images(images, len(model_info(self.student).mean))
            self._has_seen_a_batch = True


def _method(method: str | type[Method], options: dict[str, Any]) -> tuple[type[Method], dict[str, Any]]:
    """A method's class, and its name and options, which are checked."""
    name = method if isinstance(method, str) else method.__name__
    types = option_types() if isinstance(method, str) else {name: method.Options}
    settings, mistakes = check_method({"name": name, **options}, types)
    if mistakes:
        raise ConfigError(
            "Distillation: "
            + "; ".join(mistake.removeprefix("method.name: ").removeprefix("method.") for mistake in mistakes)
        )
    return KNOWN_METHODS[name] if isinstance(method, str) else method, settings


class _Weights:
    """The sha256 of a network's weights, computed anew after they changed."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self._seen: tuple[tuple[int, int], ...] = ()
        self._sha256 = ""

    def sha256(self) -> str:
        """As `weights_sha256`."""
        tensors = self.network.state_dict().values()
        seen = tuple((one.data_ptr(), 0 if one.is_inference() else one._version) for one in tensors)
        if seen != self._seen:
            self._seen, self._sha256 = seen, weights_sha256(self.network)
        return self._sha256


def _check_student(student: nn.Module) -> None:
    if not isinstance(student, nn.Module):
        raise ModelError(
            f"the student must be a torch.nn.Module, but is {student!r}; kdprobe.models.create makes one by its name"
        )
    if unwrap(student) is not student:
        raise ModelError(
            f"the student is wrapped in {type(student).__name__}; give the network itself, and wrap the Distillation"
        )
    if not any(parameter.requires_grad for parameter in student.parameters()):
        raise ModelError(
            f"the student {type(student).__name__} has no parameters that require gradients, so there is nothing to "
            "learn"
        )


def _is_known(network: nn.Module) -> bool:
    try:
        model_info(network)
    except ModelError:
        return False
    return True


def _side(images: Tensor | int | None) -> int | None:
    if images is None or isinstance(images, int):
        return images
    if not isinstance(images, Tensor):
        raise DataError(f"images must be example images [B, c, s, s] or their side in pixels, but are {images!r}")
    if images.ndim != 4 or images.shape[2] != images.shape[3]:
        raise DataError(f"example images must be [B, c, s, s], but are {list(images.shape)}")
    return images.shape[3]


def _teacher(
    name: str,
    kind: type[Method],
    teacher: nn.Module | str | Path | None,
    student: nn.Module,
    images: Tensor | int | None,
) -> nn.Module | None:
    """The teacher, frozen, in eval mode and where the student is."""
    if not kind.uses_teacher:
        if teacher is not None:
            raise ModelError(f"method {name!r} has no use for a teacher, but one was given")
        return None
    needs_teacher(name, teacher)
    assert teacher is not None
    size = model_info(student).image_size
    network = unwrap(teacher) if isinstance(teacher, nn.Module) else load(teacher, default_size=size)
    shared = {id(parameter) for parameter in student.parameters()}
    if any(id(parameter) in shared for parameter in network.parameters()):
        raise ModelError("student and teacher share weights; give one of them as a copy, by copy.deepcopy")
    if not _is_known(network):
        describe(network, image_size=told_size(network) or _side(images))
    return network.to(_device(student)).requires_grad_(False).eval()


def _with_options_of_python(error: ModelError) -> str:
    """Without `method.` in front of the options, which are arguments here."""
    return re.sub(r"\bmethod\.(?=\w)", "", str(error))


def _oblong(*networks: nn.Module | None) -> str:
    """Which of them takes images that are no squares."""
    sizes = {type(one).__name__: made_up_images(one).shape[2:] for one in networks if one is not None}
    return " and ".join(f"{name} ({size[0]} x {size[1]} px)" for name, size in sizes.items() if size[0] != size[1])


def _device(network: nn.Module) -> torch.device:
    return next(network.parameters()).device
