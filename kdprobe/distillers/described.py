"""What there is to know of a method before it is used: what it reads, what it adds, where its numbers come from."""

import inspect
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from kdprobe.distillers import KNOWN_METHODS, Method
from kdprobe.distillers.pairing import Pairs
from kdprobe.errors import ConfigError, ModelError, near_matches
from kdprobe.models import create
from kdprobe.models.stages import Need, Shapes, measure

#: pairs of networks (teacher, student), by the name that is shown; the first for which a method is defined counts it
NETWORK_PAIRS: dict[str, tuple[str, str]] = {
    "ResNet56 to ResNet20": ("resnet56", "resnet20"),
    "ViT-Ti to ResNet20": ("vit_tiny_patch16_224", "resnet20"),
    "ResNet56 to distilled DeiT-Ti": ("resnet56", "deit_tiny_distilled_patch16_224"),
}
_WORDS: dict[Need, str] = {
    "logits": "logits",
    "head": "classifier",
    "maps": "maps",
    "preacts": "maps before activation",
    "pooled": "pooled",
    "tokens": "tokens",
    "qkv": "attention",
}
_CLASSES = 100


@dataclass(frozen=True)
class MethodDescription:
    """A method in words and numbers.

    Attributes:
        about: what it minimises, and on what.
        teacher_reads: which of the teacher's features it reads, in words; `-` for none.
        student_reads: which of the student's, besides the logits that the cross entropy takes.
        extra_parameters: parameters that are trained with the student and dropped afterwards.
        pair: the networks that they are counted for, a key of `NETWORK_PAIRS`.
        method: the method's class, which holds the rest: reference, source, published, search, Options.
    """

    about: str
    teacher_reads: str
    student_reads: str
    extra_parameters: int
    pair: str
    method: type[Method]

    @property
    def options(self) -> dict[str, Any]:
        """The default of each option."""
        return {name: field.get_default(call_default_factory=True) for name, field in self._fields}

    @property
    def choices(self) -> dict[str, str]:
        """What each option may be, where its default does not show it."""
        return {name: told for name, field in self._fields if (told := _told(field))}

    @property
    def _fields(self) -> Iterable[tuple[str, Any]]:
        return self.method.Options.model_fields.items()


def describe_method(name: str) -> MethodDescription:
    """Describe a method with its default options, for the first pair of networks that it takes.

    Raises:
        ConfigError: if there is no method of this name.
        ModelError: if it takes none of the pairs.
    """
    if name not in KNOWN_METHODS:
        raise ConfigError(f"no method {name!r}{near_matches(name, KNOWN_METHODS)}")
    kind, why = KNOWN_METHODS[name], ""
    for pair, names in NETWORK_PAIRS.items():
        teacher, student = (_shapes(network) for network in names)
        try:
            method = kind(kind.Options(), student, teacher if kind.uses_teacher else None)
        except ModelError as error:
            why = why or str(error)
            continue
        n_parameters = sum(parameter.numel() for parameter in method.parameters())
        reads = _worded(method.teacher_needs) if kind.uses_teacher else "-", _worded(method.student_needs)
        return MethodDescription(about(kind), *reads, n_parameters, pair, kind)
    raise ModelError(f"method {name!r} is defined for none of {', '.join(NETWORK_PAIRS)}: {why}")


@cache
def _shapes(name: str) -> Shapes:
    args = {} if name.startswith("resnet") else {"patch_size": 4}
    return measure(create(name, n_classes=_CLASSES, image_size=32, args=args, named_by=None))


def _worded(needs: Iterable[Need]) -> str:
    return ", ".join(_WORDS[need] for need in needs) or "-"


def _told(field: FieldInfo) -> str:
    kinds = [field.annotation, *get_args(field.annotation)]
    if get_origin(field.annotation) is Literal:
        return "one of " + ", ".join(map(json.dumps, get_args(field.annotation)))
    if Pairs in kinds:
        return "pairs [[student's stage, teacher's], ...]"
    return field.description or ""


def about(kind: type[Method]) -> str:
    """What a method's documentation says before its attributes, on one line."""
    return " ".join((inspect.getdoc(kind) or "").partition("\n\nAttributes:")[0].split())


def summary_of(kind: type[Method]) -> str:
    """What a method's documentation begins with, on one line."""
    return " ".join((inspect.getdoc(kind) or "").partition("\n\n")[0].split())
