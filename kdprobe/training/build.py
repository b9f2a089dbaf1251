"""From a configuration to networks, method and objective, checked against each other."""

from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import torch
from torch import Tensor, nn

from kdprobe.config import STORE_KEYS, RunConfig, TeacherFacts
from kdprobe.data import DataSet, Split, load_data
from kdprobe.distillers import DISTILLERS, Method, make_method
from kdprobe.distillers.base import needs_teacher
from kdprobe.errors import ModelError
from kdprobe.models import create, load, model_info
from kdprobe.models.creation import relabel
from kdprobe.models.identity import weights_sha256
from kdprobe.models.stages import Need, measure
from kdprobe.runs.inputs import Inputs
from kdprobe.teachers.stored_teacher import StoredTeacher
from kdprobe.teachers.teacher import Teacher
from kdprobe.training.objective import Objective


@dataclass(frozen=True)
class Job:
    """What is trained, by what, on what.

    Attributes:
        data: training and evaluation images.
        student: the network.
        teacher: frozen and in eval mode, or None.
        method: owns the auxiliary modules.
        objective: student, method and losses as one module.
        layout: memory layout of images and maps.
        inputs: which teacher and which data these are, by their content.
    """

    data: DataSet
    student: nn.Module
    teacher: Teacher | StoredTeacher | None
    method: Method
    objective: Objective
    layout: torch.memory_format
    inputs: Inputs

    def prepare(self, images: Tensor) -> Tensor:
        """The student's input from images in [0, 1]."""
        return model_info(self.student).normalise(images).contiguous(memory_format=self.layout)


def build(
    config: RunConfig,
    device: torch.device,
    *,
    download: bool = False,
    named_by: str | Path | None = None,
    data: DataSet | None = None,
) -> Job:
    """Make everything that a training needs.

    Args:
        config: the run's.
        device: the networks are moved there.
        download: fetch data that are not there.
        named_by: the file that holds the configuration, unless the person at the keyboard gave it.
        data: what `data_of` returned; it is read now if not given.

    Raises:
        KdprobeError: if something in the configuration cannot be used.
    """
    data = data or data_of(config, download=download, named_by=named_by)
    student = _student(config, data, named_by).to(device)
    teacher = _teacher(config, student, device, named_by)
    method = _method(config, student, teacher).to(device)
    objective = Objective(student, method, label_smoothing=config.training.label_smoothing)
    layout = _layout(config, device)
    if layout == torch.channels_last:
        objective.to(memory_format=layout)
    digest = None if teacher is None else model_info(teacher).sha256 or weights_sha256(teacher)
    inputs = Inputs(digest, data.sha256)
    asked = None if teacher is None else _asked(config, teacher, method, layout, data.train, inputs)
    return Job(data, student, asked, method, objective, layout, inputs)


def _asked(
    config: RunConfig, network: nn.Module, method: Method, layout: torch.memory_format, train: Split, inputs: Inputs
) -> Teacher | StoredTeacher:
    """The teacher, or a store in front of it."""
    facts = config.teacher_facts or TeacherFacts()
    kept = [need for need in get_args(Need) for name in facts.store_outputs or () if name.partition(".")[0] == need]
    teacher = Teacher(network, needs={*method.teacher_needs, *kept}, layout=layout)
    return teacher if facts.store is None else StoredTeacher(teacher, config, method, train=train, inputs=inputs)


def data_of(
    config: RunConfig, *, download: bool = False, named_by: str | Path | None = None, decode: bool = True
) -> DataSet:
    """The data set of a configuration, with its sha256.

    Args:
        config: the run's.
        download: fetch data that are not there.
        named_by: as `build`.
        decode: whether image files may be decoded now; false if only a few of them are needed.

    Raises:
        KdprobeError: if the data cannot be used.
    """
    settings = config.data
    return load_data(
        settings.spec,
        image_size=settings.image_size,
        storage=settings.storage,
        holdout=settings.holdout,
        per_class=settings.per_class,
        seed=settings.seed_or(config.seed),
        download=download,
        augment=settings.augment,
        skip_bad=settings.skip_bad,
        named_by=named_by,
        identified=True,
        decode=decode,
    )


def _layout(config: RunConfig, device: torch.device) -> torch.memory_format:
    """Channels-last as configured, or where it pays."""
    chosen = config.training.channels_last
    pays = config.training.precision != "fp32" or device.type == "cuda"
    return torch.channels_last if chosen is True or (chosen == "auto" and pays) else torch.contiguous_format


def _student(config: RunConfig, data: DataSet, named_by: str | Path | None) -> nn.Module:
    model = create(
        config.model.name,
        n_classes=len(data.classes),
        image_size=data.image_size,
        args=config.model.args,
        pretrained=config.model.pretrained,
        mean=data.mean,
        std=data.std,
        classes=data.classes,
        data=data.spec,
        named_by=named_by,
    )
    if not any(parameter.requires_grad for parameter in model.parameters()):
        has = (
            "no parameter that is trained: all are frozen" if any(True for _ in model.parameters()) else "no parameters"
        )
        raise ModelError(
            f"network {config.model.name!r} has {has}, so there is nothing to learn; give one with parameters that "
            "require gradients"
        )
    return relabel(model, method=config.method["name"])


def _teacher(
    config: RunConfig, student: nn.Module, device: torch.device, named_by: str | Path | None
) -> nn.Module | None:
    """The frozen teacher, checked against the student."""
    name = config.method["name"]
    if not DISTILLERS[name].uses_teacher:
        if config.teacher is not None or config.teacher_facts is not None:
            raise ModelError(f"method {name!r} has no use for a teacher, but {config.teacher} was given")
        return None
    path, expected = needs_teacher(name, config.teacher), model_info(student)
    facts = (config.teacher_facts or TeacherFacts()).model_dump(exclude_none=True, exclude=STORE_KEYS)
    teacher = load(path, device=device, named_by=named_by, default_size=expected.image_size, **facts)
    given = model_info(teacher.requires_grad_(False))
    if given.n_classes != expected.n_classes:
        raise ModelError(f"the teacher {path} has {given.n_classes} classes, but the student has {expected.n_classes}")
    names = zip(given.classes, expected.classes, strict=False)
    for number, (taught, named) in enumerate(names):
        if taught != named:
            raise ModelError(
                f"the teacher {path} has other classes than the data, or in another order: class {number} is "
                f"{taught!r} to the teacher, but {named!r} in the data"
            )
    if given.image_size != expected.image_size:
        raise ModelError(
            f"the teacher {path} takes {given.image_size} px images, but the student takes "
            f"{expected.image_size} px; set data.image_size={given.image_size}, or use another teacher"
        )
    return teacher


def _method(config: RunConfig, student: nn.Module, teacher: nn.Module | None) -> Method:
    return make_method(config.method, measure(student), None if teacher is None else measure(teacher))
