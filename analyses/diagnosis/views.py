"""How often teacher and student are right about the images as the training shows them, and as they are."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor

from analyses.diagnosis.kept_run import KeptRun
from kdprobe.data import AS_IT_IS, Split, evaluation_batches, load_data
from kdprobe.data.augment import generator
from kdprobe.errors import KdprobeError
from kdprobe.mean_interval import wilson
from kdprobe.models import load, model_info
from kdprobe.models.checkpoint import is_foreign
from kdprobe.models.outputs import logits_in
from kdprobe.teachers.classes import matched_classes
from kdprobe.terminal.progress import progress

OWN_WAY = ", the teacher's own way"
_Answers = Callable[[Tensor], Tensor]  # images in [0, 1] -> logits
_SHOWN_AT_A_TIME = 128  # images


@dataclass(frozen=True, eq=False)
class RightAnswers:
    """Accuracies of one or two networks on V views of images.

    Attributes:
        networks: `student`, and before it `teacher` where there is one.
        views: names of the views.
        accuracy: fractions with Wilson's 95 % intervals [networks, V, 3]; NaN where there is none.
        n_images: images of each view.
        reasons: why an accuracy is missing: network, view, reason.
    """

    networks: tuple[str, ...]
    views: tuple[str, ...]
    accuracy: ndarray
    n_images: tuple[int, ...]
    reasons: tuple[tuple[str, str, str], ...]


@torch.no_grad()
def measure_views(run: KeptRun, n_minibatches: int) -> RightAnswers:
    """Show networks the minibatches that the student learns from, the same images without variations, and others.

    Networks are in evaluation mode. The teacher is asked as in the training; the last view is of the same images as the
    one before it, but of the teacher as its own file has it: without the means, deviations and (timm's) size that the
    run says of it, and at its own size.
    """
    data, told = run.job.data, f"{run.job.data.evaluated_on} images"
    views = ("training views", "training images", told)
    table = _Table(views if run.teacher is None else (*views, told + OWN_WAY))
    if not data.classes:
        return table.result(run.teacher is not None, "the data have no labels")
    asked: dict[str, _Answers] = {"student": _student(run)}
    if run.teacher is not None:
        try:
            asked = {"teacher": _teacher(run), **asked}
        except KdprobeError as error:
            table.reasons += [("teacher", view, str(error)) for view in table.views]
    with run.unchanged():
        run.trainer.objective.eval()
        run.trainer.exported.eval()
        seen = [step.batch.index for step in run.steps(n_minibatches)]
        index = torch.unique(torch.cat(seen)).cpu()
        test = _some(len(data.test), len(index))
        table.count(0, asked, _training_views(run, n_minibatches))
        for view, split in ((1, data.train.take(index)), (2, data.test.take(test))):
            table.count(view, asked, ((batch.images, batch.images, batch.labels) for batch in _shown(run, split)))
        if "teacher" in asked:
            _own_way(run, test, table)
    return table.result(run.teacher is not None)


_Shown = tuple[Tensor, Tensor, Tensor]  # images of the student and of the teacher, and classes


@dataclass
class _Table:
    """Right answers and images, as they are counted."""

    views: tuple[str, ...]
    counts: dict[tuple[str, int], tuple[int, int]] = field(default_factory=dict)
    reasons: list[tuple[str, str, str]] = field(default_factory=list)

    def count(self, view: int, asked: dict[str, _Answers], shown: Iterable[_Shown]) -> None:
        """Ask networks about the images of one view."""
        for student_images, teacher_images, labels in shown:
            for name, answers in asked.items():
                images = student_images if name == "student" else teacher_images
                right, seen = self.counts.get((name, view), (0, 0))
                right += int((answers(images).argmax(1) == labels).sum())
                self.counts[name, view] = right, seen + len(labels)

    def result(self, has_teacher: bool, reason: str = "") -> RightAnswers:
        """All of it; where nothing could be counted, why."""
        networks = ("teacher", "student") if has_teacher else ("student",)
        if reason:
            self.reasons += [(network, view, reason) for network in networks for view in self.views]
        n_views = range(len(self.views))
        found = [[self.counts.get((network, view), (0, 0)) for view in n_views] for network in networks]
        tallies = np.array([[(right, seen - right) for right, seen in row] for row in found])
        n_images = tuple(max(row[view][1] for row in found) for view in n_views)
        return RightAnswers(networks, self.views, wilson(tallies), n_images, tuple(self.reasons))


def _student(run: KeptRun) -> _Answers:
    network = run.trainer.exported
    info = model_info(network)
    return lambda images: logits_in(network(run.job.prepare(images)), info)


def _teacher(run: KeptRun) -> _Answers:
    """The teacher as the training asks it, its logits in the order of the data's classes."""
    teacher = run.teacher
    assert teacher is not None
    places = slice(None) if teacher.classes is not None else _places(run)
    return lambda images: teacher(images).logits[:, places]


def _places(run: KeptRun) -> slice | list[int]:
    """Where the data's classes stand in the logits of the teacher by itself, whether the method reads them or not."""
    teacher, facts = run.teacher, run.config.teacher_facts
    assert teacher is not None
    places, said = teacher.classes, None if facts is None else facts.classes
    if places is None:
        places = matched_classes(str(run.config.teacher), teacher.info, model_info(run.job.student), said)
    return slice(None) if places is None else list(places)


def _training_views(run: KeptRun, n_minibatches: int) -> Iterable[_Shown]:
    """What both networks are shown in the training: mixed, erased and varied as it is configured."""
    return (run.job.method.inputs(step.batch) for step in run.counted_steps(n_minibatches, "accuracies on views"))


def _shown(run: KeptRun, split: Split) -> Iterator[Any]:
    with progress("accuracies on images", len(split)) as shown:
        for batch in evaluation_batches(split, batch_size=_SHOWN_AT_A_TIME, workers=0, device=run.trainer.group.device):
            yield batch
            shown(len(batch.labels))


def _some(n_images: int, wanted: int) -> Tensor:
    """Places of some images, the same ones each time."""
    return torch.randperm(n_images, generator=generator(n_images))[:wanted].sort().values


def _own_way(run: KeptRun, test: Tensor, table: _Table) -> None:
    """Ask the teacher as its file has it."""
    try:
        network, split = _by_itself(run)
        info, places = model_info(network), _places(run)

        def answers(images: Tensor) -> Tensor:
            return logits_in(network(info.prepare(images)), info)[:, places]

        table.count(3, {"teacher": answers}, ((b.images, b.images, b.labels) for b in _shown(run, split.take(test))))
    except KdprobeError as error:
        table.reasons.append(("teacher", table.views[3], str(error)))


def _by_itself(run: KeptRun) -> tuple[torch.nn.Module, Split]:
    """The teacher without what the run says of how it is shown images, and the test images at its own size."""
    config, settings = run.config, run.config.data
    facts = {} if config.teacher_facts is None else config.teacher_facts.of_network()
    contradicting = ("mean", "std") if is_foreign(str(config.teacher)) else ("mean", "std", "image_size")
    facts = {key: value for key, value in facts.items() if key not in contradicting}
    size, named_by = run.job.data.image_size, run.folder.config_path
    network = load(str(config.teacher), device=run.trainer.group.device, named_by=named_by, default_size=size, **facts)
    info = model_info(network)
    data = load_data(
        settings.spec,
        image_size=info.image_size,
        holdout=settings.holdout,
        seed=settings.seed_or(config.seed),
        skip_bad=settings.skip_bad,
        named_by=named_by,
        view=AS_IT_IS.otherwise(info.view),
        decode=False,
    )
    return network, data.test
