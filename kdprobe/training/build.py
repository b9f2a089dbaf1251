"""From a configuration to networks, method and objective, checked against each other."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor, nn

from kdprobe.config import RunConfig, TeacherFacts
from kdprobe.data import DataSet, View, load_data
from kdprobe.data.spec import stored
from kdprobe.data.views import shared_view
from kdprobe.distillers import KNOWN_METHODS, Method, make_method
from kdprobe.distillers.base import needs_teacher, reads_logits
from kdprobe.errors import ConfigError, ModelError
from kdprobe.models import create, load, model_info
from kdprobe.models.creation import ANATOMY, count_parameters, relabel
from kdprobe.models.description import describe, shown_as
from kdprobe.models.foreign.embeddings import uncovered
from kdprobe.models.foreign.starting import Started, start_from
from kdprobe.models.identity import weights_sha256
from kdprobe.models.stages import Need, measure
from kdprobe.runs.inputs import Inputs
from kdprobe.teachers.classes import matched_classes
from kdprobe.teachers.stored_teacher import StoredTeacher
from kdprobe.teachers.teacher import Teacher
from kdprobe.training.freezing import freeze
from kdprobe.training.objective import Objective


@dataclass(frozen=True)
class Job:
    """What is trained, by what, on what.

    Attributes:
        data: training images for both networks, and evaluation images for the student.
        student: the network.
        teacher: frozen and in eval mode, or None.
        method: owns the auxiliary modules.
        objective: student, method and losses as one module.
        layout: memory layout of images and maps.
        inputs: which teacher, data and first weights these are, by their content.
        notes: sentences for the user.
        network: args, mean and std of the student, where its first weights decided them.
        shuffles_teacher: whether images get the teacher's answers of others.
    """

    data: DataSet
    student: nn.Module
    teacher: Teacher | StoredTeacher | None
    method: Method
    objective: Objective
    layout: torch.memory_format
    inputs: Inputs
    notes: tuple[str, ...] = ()
    network: dict[str, Any] | None = None
    shuffles_teacher: bool = False

    def prepare(self, images: Tensor) -> Tensor:
        """The student's input from images in [0, 1] of any size."""
        return model_info(self.student).prepare(images).contiguous(memory_format=self.layout)


def build(
    config: RunConfig,
    device: torch.device,
    *,
    download: bool = False,
    named_by: str | Path | None = None,
    data: DataSet | None = None,
    begun_as: dict[str, Any] | None = None,
) -> Job:
    """Make everything that a training needs.

    Args:
        config: the run's.
        device: the networks are moved there.
        download: fetch data that are not there.
        named_by: the file that holds the configuration, unless the person at the keyboard gave it.
        data: what `data_of` returned; it is read and decoded now if not given.
        begun_as: of a run that goes on from its own state, and so without `model.weights`, the `network` of its job.

    Raises:
        KdprobeError: if something in the configuration cannot be used.
    """
    found = data or data_of(config, download=download, named_by=named_by, decode=False)
    started = _student(config, found, named_by, begun_as)
    student = started.model.to(device)
    frozen = freeze(student, config.training.freeze)
    teacher = _teacher(config, student, device, named_by)
    if teacher is not None:
        found = shared_view(found, model_info(teacher).image_size)
    if data is None:
        found = stored(found, config.data.storage, config.data.augment)
    method = _method(config, student, teacher).to(device)
    objective = Objective(student, method, label_smoothing=config.training.label_smoothing, frozen=frozen)
    layout = _layout(config, device)
    if layout == torch.channels_last:
        objective.to(memory_format=layout)
    digest = None if teacher is None else model_info(teacher).sha256 or weights_sha256(teacher)
    inputs, info = Inputs(digest, found.sha256, started.sha256), model_info(student)
    shown: Teacher | StoredTeacher | None = None
    if teacher is not None:
        shown = _shown(config, student, teacher, method, layout)
        if config.teacher_facts is not None and config.teacher_facts.store is not None:
            shown = StoredTeacher(shown, config, method, train=found.train, inputs=inputs)
    network = None if started.sha256 is None else {"args": info.args, "mean": info.mean, "std": info.std}
    notes = (
        *([started.note] if started.note else []), *_frozen_note(student, config), *_size_note(found, shown),
        *_edge_notes(student, teacher), *_untested_note(found),
    )  # fmt: skip
    shuffles = config.teacher_facts is not None and config.teacher_facts.shuffle
    return Job(found, student, shown, method, objective, layout, inputs, notes, network, shuffles_teacher=shuffles)


def _frozen_note(student: nn.Module, config: RunConfig) -> Iterator[str]:
    if config.training.freeze:
        n_trained = sum(parameter.numel() for parameter in student.parameters() if parameter.requires_grad)
        yield f"{n_trained:,} of the {count_parameters(student):,} parameters of {config.model.name} are trained"


def _size_note(data: DataSet, teacher: Teacher | StoredTeacher | None) -> Iterator[str]:
    if teacher is not None and teacher.info.image_size != data.image_size:
        yield (
            f"the teacher sees images of {teacher.info.image_size} px and the student of {data.image_size} px, both "
            f"made from views of {data.train.image_size} px"
        )


def _edge_notes(student: nn.Module, teacher: nn.Module | None) -> Iterator[str]:
    """Of both networks, what of their images they do not see."""
    for who, network in (("student", student), ("teacher", teacher)):
        if network is not None and (edge := uncovered(network, model_info(network).image_size)):
            yield f"the {who} does not see whole images: {edge}"


def _untested_note(data: DataSet) -> Iterator[str]:
    """Which classes no accuracy speaks of."""
    seen = set(data.test.labels.tolist())
    names = [repr(str(name)) for place, name in enumerate(data.classes) if place not in seen]
    if names:
        shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        of = "it" if len(names) == 1 else "them"
        yield f"no {data.evaluated_on} images of {shown}: the accuracy says nothing of {of}"


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
    data = load_data(
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
        view=View(decode=settings.decode),
    )
    if settings.decode == "fast" and data.shown.view.decode is None:
        raise ConfigError(f"data.decode 'fast' is for images that are decoded, but {data.spec} has none; leave it out")
    if len(data.classes) == 1:
        raise ConfigError(
            f"{data.spec} has one class alone, {data.classes[0]!r}, so that there is nothing to learn; give two or more"
        )
    return data


def _layout(config: RunConfig, device: torch.device) -> torch.memory_format:
    """Channels-last as configured, or where it pays."""
    chosen = config.training.channels_last
    pays = config.training.precision != "fp32" or device.type == "cuda"
    return torch.channels_last if chosen is True or (chosen == "auto" and pays) else torch.contiguous_format


def _student(config: RunConfig, data: DataSet, named_by: str | Path | None, begun_as: dict[str, Any] | None) -> Started:
    """The network that is trained, new, or as its first weights have it."""
    settings = config.model
    build = partial(
        create,
        settings.name,
        n_classes=len(data.classes),
        image_size=data.image_size,
        pretrained=settings.pretrained,
        mean=data.mean,
        std=data.std,
        classes=data.classes,
        data=data.spec,
        named_by=named_by,
    )
    if settings.weights is None or begun_as is not None:
        started = Started(build(**{"args": settings.args, **(begun_as or {})}))
    else:
        started = start_from(settings.weights, build, args=settings.args, classes=data.classes)
    said = {"mean": settings.mean, "std": settings.std}
    relabel(started.model, **{key: value for key, value in said.items() if value is not None})
    model = started.model
    if not any(parameter.requires_grad for parameter in model.parameters()):
        has = (
            "no parameter that is trained: all are frozen" if any(True for _ in model.parameters()) else "no parameters"
        )
        raise ModelError(
            f"network {settings.name!r} has {has}, so there is nothing to learn; give one with parameters that "
            "require gradients"
        )
    describe(model, **{fact: getattr(settings, fact) for fact in ANATOMY})
    shown_as(relabel(model, method=config.method["name"]), data.shown.view.decode)
    return started


def _teacher(
    config: RunConfig, student: nn.Module, device: torch.device, named_by: str | Path | None
) -> nn.Module | None:
    """The frozen teacher."""
    name = config.method["name"]
    if not KNOWN_METHODS[name].uses_teacher:
        if config.teacher is not None or config.teacher_facts is not None:
            given = config.teacher or "facts of one (teacher.…)"
            raise ModelError(
                f"method {name!r} has no use for a teacher, but {given} was given; leave it out, one of a recipe by "
                "--set teacher=null"
            )
        return None
    path, size = needs_teacher(name, config.teacher), model_info(student).image_size
    facts = (config.teacher_facts or TeacherFacts()).of_network()
    teacher = load(path, device=device, named_by=named_by, default_size=size, **facts)
    return teacher.requires_grad_(False)


def _shown(
    config: RunConfig, student: nn.Module, network: nn.Module, method: Method, layout: torch.memory_format
) -> Teacher:
    """The teacher as the method sees it: its logits are of the data's classes."""
    classes, facts = None, config.teacher_facts or TeacherFacts()
    if reads_logits(method.teacher_needs):
        classes = matched_classes(str(config.teacher), model_info(network), model_info(student), facts.classes)
    fields = {name.partition(".")[0] for name in facts.store_outputs or ()}
    needs = {*method.teacher_needs, *(need for need in get_args(Need) if need in fields)}
    return Teacher(network, needs=needs, layout=layout, classes=classes)


def _method(config: RunConfig, student: nn.Module, teacher: nn.Module | None) -> Method:
    return make_method(config.method, measure(student), None if teacher is None else measure(teacher))
