"""The contract of a distillation method.

A method is an `nn.Module` that owns its auxiliary modules and turns the features of both networks into
named loss terms. It owns neither network: `student_needs` and `teacher_needs` say what it
needs of them, and it is built from their measured `Shapes`. The training loop adds the terms up,
weights the cross entropy of the student's logits by `ce_weight`, and logs each one.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from math import cos, inf
from types import MappingProxyType
from typing import Any, ClassVar, TypeVar

from torch import Tensor, nn

from kdprobe.config import Section
from kdprobe.data.loaders import Batch
from kdprobe.distillers.search import SearchRange, ranges
from kdprobe.errors import ConfigError, ModelError
from kdprobe.models.stages import LOGITS, Features, Need, Shapes

_Teacher = TypeVar("_Teacher")
Amount = float | Tensor


@dataclass(frozen=True)
class Progress:
    """How far training has come.

    Attributes:
        epoch: epochs done, a fraction inside an epoch; 0 at the first step. In a compiled training it is a scalar on
            the device, as what is compiled for a number would be compiled anew for the next one.
        n_epochs: epochs in all.

    Example:
        >>> from kdprobe.distillers import Progress
        >>> Progress(epoch=2.5, n_epochs=10).ramp(5)  # half way through the first five epochs
        0.5
    """

    epoch: Amount
    n_epochs: int

    @property
    def whole(self) -> Amount:
        """Whole epochs done."""
        return self.epoch.floor() if isinstance(self.epoch, Tensor) else int(self.epoch)

    def ramp(self, epochs: float) -> Amount:
        """Linear rise from 0 at the first step to 1 after this many epochs; 1 from the start for 0 epochs."""
        return 1.0 if epochs <= 0 else clamped(self.epoch / epochs, high=1.0)

    def warmup(self, epochs: int, *, first: int = 1) -> Amount:
        """Rise by whole epochs, as the benchmarks do: `first` / epochs all through the first one; at most 1.

        Args:
            epochs: number of epochs after which it is 1; it always is for 0.
            first: what the first epoch counts as: 1, as in mdistiller, or 0, as in ReviewKD's own script.
        """
        return 1.0 if epochs <= 0 else clamped((self.whole + first) / epochs, high=1.0)


def cosine(amount: Amount) -> Amount:
    """The cosine of a number, or of a scalar on a device."""
    return amount.cos() if isinstance(amount, Tensor) else cos(amount)


def clamped(amount: Amount, *, low: float = -inf, high: float = inf) -> Amount:
    """A number, or a scalar on a device, that is at least `low` and at most `high`; a scalar becomes float32."""
    if isinstance(amount, Tensor):
        return amount.clamp(low, high).float()
    return min(max(amount, low), high)


class Method(nn.Module):
    """Base of all methods; plain training, as it adds no term to the cross entropy.

    Args:
        options: the method's own `Options`.
        student: sizes of the student's features.
        teacher: sizes of the teacher's features; None where the method has no teacher.

    Attributes:
        Options: the type of the options; they become keys under `method:`.
        uses_teacher: whether a teacher must be given.
        n_views: how many views of each image `inputs` returns.
        labels_may_be: what the cross entropy may take instead of whole classes: `mixed` labels, `smoothed` ones.
        remembers_images: whether single images are told apart, by their places in the data set.
        is_static: whether each step has tensors of the same shapes, and changes what it remembers in place.
        reference: authors and year.
        source: where the default weights come from.
        published: an accuracy in %, with data and networks, of those that `figures/paper/published` lists; empty if
            there is none.
        search: the options worth tuning and their ranges; the learning rate is tuned for every method alike.
        student_needs: which of the student's features the method reads, of the class, or of the instance where they
            depend on its options; `logits` only where more is done with them than the cross entropy with the labels.
        teacher_needs: which of the teacher's.
        without_logits: options with which it needs no logits, where it has such.
        teacher_stages: numbers of the teacher's stages whose maps are read, if not those of all.

    Raises:
        ModelError: if the method is not defined for this pair of networks.

    Example:
        >>> from kdprobe.distillers import DISTILLERS
        >>> rkd = DISTILLERS["rkd"]
        >>> rkd.teacher_needs, rkd.reference
        (('pooled',), 'Park, Kim, Lu, Cho 2019')
        >>> rkd.Options().distance_weight
        25.0
    """

    Options: ClassVar[type[Section]] = Section
    uses_teacher: ClassVar[bool] = True
    n_views: ClassVar[int] = 1
    labels_may_be: ClassVar[Collection[str]] = ("mixed", "smoothed")
    remembers_images: ClassVar[bool] = False
    is_static: ClassVar[bool] = True
    reference: ClassVar[str] = ""
    source: ClassVar[str] = ""
    published: ClassVar[str] = ""
    search: ClassVar[Mapping[str, SearchRange]] = ranges()
    student_needs: tuple[Need, ...] = LOGITS
    teacher_needs: tuple[Need, ...] = LOGITS
    without_logits: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    teacher_stages: Collection[int] | None = None

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for key, found in cls.search.items():
            if not isinstance(found, SearchRange):
                raise ConfigError(
                    f"{cls.__name__}.search[{key!r}] must be a Uniform, LogUniform or Choice of "
                    f"kdprobe.distillers.search, but is {found!r}"
                )
            if key not in cls.Options.model_fields:
                raise ConfigError(f"{cls.__name__}.search names {key!r}, which is no option of {cls.Options.__name__}")

    @classmethod
    def idle(cls, options: Mapping[str, Any]) -> Collection[str]:
        """Names of `search` that make no difference where the other options are these, so that they are not tuned."""
        return ()

    def __init__(self, options: Section, student: Shapes, teacher: Shapes | None) -> None:
        super().__init__()
        self.options = options
        self.student_shapes = student
        self.teacher_shapes = teacher

    @property
    def ce_weight(self) -> float:
        """Weight of the cross entropy of `logits` and the labels."""
        return float(getattr(self.options, "ce_weight", 1.0))

    def inputs(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """The student's and the teacher's images [k B, c, s, s] in [0, 1], and their classes [k B].

        Methods that use k views of each image return them one view after the other; the default is the batch itself.
        """
        return batch.images, batch.images, batch.labels

    def logits(self, student: Features) -> Tensor:
        """Logits [k B, C] for the cross entropy with the labels; by default the student's."""
        return student.logits

    def agree(self, join: Callable[[Tensor], list[int]]) -> None:
        """Exchange with the other processes what is known of single images; called before evaluating and saving.

        Args:
            join: turns this process's whole numbers into those of all processes, in their order.
        """

    def forward(
        self, student: Features, teacher: Features | None, labels: Tensor, progress: Progress
    ) -> dict[str, Tensor]:
        """Loss terms of one batch.

        Args:
            student: features with gradients.
            teacher: features without gradients.
            labels: classes, as from `inputs`.
            progress: how far training has come, for warm-ups and schedules.

        Returns:
            weighted scalar terms by name; their sum is added to the loss.
        """
        return {}


def needs_teacher(method: str, teacher: _Teacher | None) -> _Teacher:
    """The teacher, or its shapes, of a method that cannot do without.

    Raises:
        ModelError: if there is no teacher.
    """
    if teacher is None:
        raise ModelError(
            f"method {method!r} needs a teacher: give --teacher RUN, CHECKPOINT or timm:NAME (in Python, teacher=)"
        )
    return teacher


def check_needs(name: str, method: Method | type[Method], student: Shapes, teacher: Shapes | None) -> None:
    """Check that there are the classifiers that a method's needs ask for.

    Args:
        name: the method's.
        method: before it is built, or with the needs that its options give it.
        student: sizes of the student's features.
        teacher: sizes of the teacher's features.

    Raises:
        ModelError: saying what it needs that is not there, and how to get it.
    """
    do = " ".join(f"method.{option}={value}" for option, value in method.without_logits.items())
    do = f"set {do}, or " if do else ""
    if not student.n_classes and (reads_logits(method.student_needs) or not method.uses_teacher):
        raise ModelError(
            f"method {name!r} learns from classes, but the data have no labels; {do}take one that reads a teacher's "
            "features alone, such as rkd, fitnet or dropkd"
        )
    if teacher is not None and not teacher.n_classes and reads_logits(method.teacher_needs):
        raise ModelError(
            f"method {name!r} learns from the teacher's logits, but {teacher.model} has no classifier: train one on it "
            f"(model.weights with training.freeze), or {do}take a method that reads features alone, such as rkd, "
            "fitnet or dropkd with logit_source=classifier"
        )


def check_weight(name: str, method: Method) -> None:
    """Check that nothing weights the cross entropy with labels that are not there.

    Raises:
        ModelError: naming the option.
    """
    if method.ce_weight and not method.student_shapes.n_classes:
        raise ModelError(
            f"method {name!r} weights the cross entropy with the labels by {method.ce_weight:g}, but the data have no "
            "labels; set method.ce_weight=0"
        )


def reads_logits(needs: Iterable[Need]) -> bool:
    """Whether there must be a classifier: for its logits, or for itself."""
    return bool({"logits", "head"} & set(needs))


def needs_maps(method: str, *networks: Shapes) -> None:
    """Check that the networks offer stage maps.

    Raises:
        ModelError: naming the one that does not.
    """
    for shapes in networks:
        if not shapes.maps:
            raise ModelError(
                f"method {method!r} needs stage maps, which {shapes.model} does not offer; {_way_out(shapes, 'stages')}"
            )


def needs_places(method: str, *networks: Shapes) -> None:
    """Check that the networks' classifiers also apply at each place of their last maps.

    Raises:
        ModelError: naming the one whose does not.
    """
    needs_maps(method, *networks)
    for shapes in networks:
        if not shapes.averaged:
            raise ModelError(
                f"{method} applies the classifier at the places of the last map and is not defined for {shapes.model}, "
                "which does not classify that map's plain mean by a linear layer; ofa and dropkd take any pair"
            )


def needs_cells(method: str, option: str, side: int, *networks: Shapes) -> None:
    """Check that no cell of a grid is smaller than a position of the networks' last maps.

    Args:
        method: its name, for messages.
        option: that says the grid.
        side: of the grid.
        networks: with maps.

    Raises:
        ModelError: naming the network whose map is coarser.
    """
    for shapes in networks:
        _, height, width = shapes.maps[-1]
        if side > (most := min(height, width)):
            raise ModelError(
                f"{method} averages onto a grid of {side} x {side}, finer than the last map of {shapes.model}, "
                f"{height} x {width}; give method.{option} of at most {most}"
            )


def needs_pooled(method: str, *networks: Shapes) -> None:
    """Check that the networks offer pooled features.

    Raises:
        ModelError: naming the one that does not.
    """
    for shapes in networks:
        if not shapes.width:
            raise ModelError(
                f"method {method!r} needs pooled features, which {shapes.model} does not offer; "
                f"{_way_out(shapes, 'classifier')}"
            )


def _way_out(shapes: Shapes, key: str) -> str:
    """What to give where a network does not show its features."""
    way = f"if it has them, describe its `{key}` (under model: or teacher:, or by kdprobe.describe)"
    return f"{way}; methods that need logits alone, such as 'kd', can use it" if shapes.n_classes else way
