"""Options that several commands share, each defined once."""

import math
from collections.abc import Callable, Iterable, Iterator
from functools import wraps
from typing import Any

import click

from kdprobe.errors import ConfigError
from kdprobe.user_code import module_of, trusting

overwrite_option = click.option(
    "--overwrite", is_flag=True, help="Also over files in the way that kdprobe did not write as this very output."
)


def flags(**options: bool) -> list[str]:
    """The words that set these options of another command."""
    return [f"--{name}" for name, value in options.items() if value]


#: parameters of commands that hold a CKPT, a data SPEC or a network's name
_SPECS = ("data", "spec", "teacher", "student", "students", "checkpoint", "checkpoints", "against", "models")


def trust_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """`--trust MODULE`: inside the command, files may name code of the modules that the command line names."""

    @click.option(
        "--trust",
        multiple=True,
        metavar="MODULE",
        help="Let received files name code of this module, a network or data set of yours; repeatable.",
    )
    @wraps(command)
    def with_trust(*arguments: Any, trust: tuple[str, ...], **given: Any) -> Any:
        words = [word for name in _SPECS for word in _words(given.get(name))]
        with trusting([*trust, *modules_named(*words)]):
            return command(*arguments, **given)

    return with_trust


def facts_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What `kdprobe.load` takes of networks whose files do not say it; the command gets them as `told`, a mapping."""
    return _facts_options(command, ("",))


def facts_of_both_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The same, and each once more for the teacher and for the student alone: `told` maps these to mappings."""
    return _facts_options(command, ("", "teacher", "student"))


def _facts_options(command: Callable[..., Any], sides: tuple[str, ...]) -> Callable[..., Any]:
    @wraps(command)
    def with_facts(*arguments: Any, **given: Any) -> Any:
        told: dict[str, Any] = {}
        for side in sides:
            facts = {key: given.pop(f"{side}_{key}".strip("_")) for key in _FACTS}
            facts = {key: value for key, value in facts.items() if value is not None}
            told |= ({side: facts} if facts else {}) if side else facts
        return command(*arguments, told=told, **given)

    decorated: Callable[..., Any] = with_facts
    for side in reversed(sides):
        for key, (name, settings, text) in reversed(_FACTS.items()):
            told = f"--{name} of the {side} alone." if side else text
            option, parameter = f"{side}-{name}".strip("-"), f"{side}_{key}".strip("_")
            decorated = click.option(f"--{option}", parameter, **settings, help=told)(decorated)
    return decorated


def _numbers(_context: click.Context, option: click.Parameter, text: str | None) -> tuple[float, ...] | None:
    """One number per channel, above 0 for `--std`."""
    if text is None:
        return None
    try:
        numbers = tuple(float(word) for word in text.split(","))
    except ValueError:
        numbers = ()
    name, is_std = option.opts[0], option.opts[0].endswith("std")
    if not numbers or not all((0.0 if is_std else -math.inf) < number < math.inf for number in numbers):
        above = " above 0" if is_std else ""
        raise ConfigError(f"{name} takes a number{above} for each channel, such as 0.5,0.5,0.5, but got {text!r}")
    return numbers


def _arguments(_context: click.Context, _option: click.Parameter, texts: tuple[str, ...]) -> dict[str, Any] | None:
    from kdprobe.config import override

    return override({}, texts) if texts else None


#: by the name that `kdprobe.load` has for it: option, its settings, and help
_FACTS: dict[str, tuple[str, dict[str, Any], str]] = {
    "n_classes": ("classes", {"type": click.IntRange(min=0)}, "Of NAME@FILE, where the file does not show it."),
    "image_size": ("image-size", {"type": click.IntRange(1, 10_000)}, "Of NAME@FILE and timm:NAME, in pixels."),
    "mean": ("mean", {"callback": _numbers, "metavar": "R,G,B"}, "Of their input, for images in [0, 1]."),
    "std": ("std", {"callback": _numbers, "metavar": "R,G,B"}, "Of their input."),
    "args": (
        "args",
        {"callback": _arguments, "metavar": "KEY=VALUE", "multiple": True},
        "Argument of NAME@FILE's network, such as global_pool=avg; repeatable.",
    ),
}


def modules_named(*specs: object) -> Iterator[str]:
    """The modules in those of the texts that are `module:callable` or `module:callable@FILE`."""
    for spec in specs:
        module = module_of(spec) if isinstance(spec, str) else None
        if module is not None and not _is_ours(module):
            yield module


def modules_in(config: Any) -> Iterator[str]:
    """The modules that a configuration, which may lack sections, names: of its network, data set and teacher."""
    if isinstance(config, dict):
        sections = [(config.get(section), key) for section, key in (("model", "name"), ("data", "spec"))]
        yield from modules_named(
            config.get("teacher"), *(section.get(key) for section, key in sections if isinstance(section, dict))
        )


def _words(value: object) -> Iterable[str]:
    if isinstance(value, str):
        return (value,)
    return [word for word in value if isinstance(word, str)] if isinstance(value, tuple) else ()


def _is_ours(word: str) -> bool:
    """Whether it begins SPECs and CKPTs of kdprobe's own, such as `folder:faces`."""
    from kdprobe.data import DATASETS

    return word == "timm" or word in DATASETS


def view_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options for how image files are shown to networks; the command gets them as `view`, a mapping for `View`."""

    @click.option(
        "--crop-pct",
        type=click.FloatRange(0, 1, min_open=True),
        metavar="FRACTION",
        help="Side of the centred square of image files that is shown, as a fraction of the shorter side.  "
        "[default: as the networks were published, or as the data set has it]",
    )
    @click.option(
        "--interpolation",
        type=click.Choice(["bicubic", "bilinear", "nearest", "lanczos", "box", "hamming"]),
        help="How image files are resampled.  [default: likewise]",
    )
    @wraps(command)
    def with_view(*args: Any, crop_pct: float | None, interpolation: str | None, **options: Any) -> Any:
        mode = None if crop_pct is None else "center"
        view = {"crop_pct": crop_pct, "interpolation": interpolation, "crop_mode": mode}
        return command(*args, view=view, **options)

    return with_view
