"""Every option that several commands have, defined once.

What ends in `_option` gives one option, and what ends in `_options` several; where a docstring says so, the command
gets their values as one.
"""

import math
import re
from collections.abc import Callable
from functools import reduce, wraps
from pathlib import Path
from typing import Any

import click

from kdprobe.cli.named_modules import modules_given
from kdprobe.cli.shells.words import checkpoint_words, data_words, recipe_words
from kdprobe.errors import ConfigError
from kdprobe.formats.outputs import PICTURES
from kdprobe.user_code import trusting

Command = Callable[..., Any]
Decorator = Callable[[Command], Command]


class FiniteRange(click.FloatRange):
    """A number in a range; NaN lies in none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """As click does, without NaN and infinities."""
        number = super().convert(value, param, ctx)
        return number if math.isfinite(number) else self.fail(f"{value!r} is not a finite number", param, ctx)


class Whole(click.IntRange):
    """A whole number in a range, below a limit."""

    def __init__(self, *, limit: int = 2**31, **settings: Any) -> None:
        super().__init__(**settings)
        self._limit = limit

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """As click does, but in words of one's own where it is no such number."""
        if isinstance(value, str) and not re.fullmatch(r"\s*[+-]?\d+\s*", value):
            self.fail(f"{value!r} is not a whole number", param, ctx)
        number = super().convert(value, param, ctx)
        return number if number < self._limit else self.fail(f"{value} is too large", param, ctx)


class Reduction(click.Choice[str]):
    """One of several reductions; any number may stand for the N of `spatial:N`."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """As click does, but for the number."""
        return str(value) if re.fullmatch("spatial:[1-9][0-9]*", value) else super().convert(value, param, ctx)


PATH = click.Path(path_type=Path)
FILE = click.Path(dir_okay=False, path_type=Path)
FOLDER = click.Path(file_okay=False, path_type=Path)


def flags(**options: bool) -> list[str]:
    """The words that set these options of another command."""
    return [f"--{name}" for name, value in options.items() if value]


def quiet_option(text: str = "Print results and problems only, no progress and no list of files.") -> Decorator:
    """`--quiet`."""
    return click.option("--quiet", is_flag=True, help=text)


def overwrite_option() -> Decorator:
    """`--overwrite`."""
    text = "Replace files that are in the way, even if kdprobe did not write them as this very output."
    return click.option("--overwrite", is_flag=True, help=text)


def out_option(text: str, *, of: click.Path = FOLDER, default: str | None = None, **settings: Any) -> Decorator:
    """`--out`: a folder unless `of` says otherwise; `show_default` words a default that the command computes."""
    shown = {"show_default": True} | settings if default else settings
    return click.option("--out", type=of, default=default, help=text, **shown)


def saving_options(default: str) -> Decorator:
    """`--out`, `--overwrite` and `--quiet` of a command that saves results into a folder."""
    return _group(out_option("Folder of the results.", default=default), overwrite_option(), quiet_option())


def resume_option(text: str) -> Decorator:
    """`--resume`."""
    return click.option("--resume", is_flag=True, help=text)


def format_option(*one_of: str) -> Decorator:
    """`--format`, one of these; without any, of pictures, several times: the command gets `formats`."""
    pictures: dict[str, Any] = {"multiple": True, "default": PICTURES, "show_default": True}
    return click.option(
        "--format",
        *([] if one_of else ["formats"]),
        **({"required": True} if one_of else pictures),
        type=click.Choice(one_of or ["pdf", "png", "svg"]),
        help="Format of the file." if one_of else "File format of the pictures; repeatable.",
    )


def names_option() -> Decorator:
    """`--names FILE` of pictures."""
    text = "YAML or JSON file with what layers, networks, methods or classes are called instead."
    return click.option("--names", type=FILE, metavar="FILE", help=text)


def recipe_argument(**settings: Any) -> Decorator:
    """RECIPE: the name of a shipped one, or a file."""
    return click.argument("recipe", shell_complete=recipe_words, **settings)


def teacher_option(text: str = "Teacher: a run folder, a checkpoint file, NAME@FILE or timm:NAME.") -> Decorator:
    """`--teacher`."""
    return click.option("--teacher", metavar="CKPT", help=text, shell_complete=checkpoint_words)


def student_option(text: str = "Student, given like the teacher.", **settings: Any) -> Decorator:
    """`--student`; with `multiple=True` the command gets `students`."""
    names = ("--student", "students") if settings.get("multiple") else ("--student",)
    return click.option(*names, metavar="CKPT", help=text, shell_complete=checkpoint_words, **settings)


def checkpoint_option(text: str, **settings: Any) -> Decorator:
    """`--checkpoint`; with `multiple=True` the command gets `checkpoints`."""
    names = ("--checkpoint", "checkpoints") if settings.get("multiple") else ("--checkpoint",)
    return click.option(*names, metavar="CKPT", help=text, shell_complete=checkpoint_words, **settings)


def checkpoints_option() -> Decorator:
    """`--checkpoint`, once or several times; the command gets `checkpoints`."""
    text = "Network: a run folder, a checkpoint file, NAME@FILE or timm:NAME; repeatable, to compare several."
    return checkpoint_option(text, multiple=True, required=True)


def data_option(text: str = "Data set, such as digits, folder:DIR or module:callable.", **settings: Any) -> Decorator:
    """`--data`; `show_default` words whose data set is taken instead."""
    return click.option("--data", metavar="SPEC", help=text, shell_complete=data_words, **settings)


def features_option(**settings: Any) -> Decorator:
    """`--features`, once or twice."""
    text = "Dump of both networks; give two where teacher and student were dumped separately."
    return click.option("--features", multiple=True, type=PATH, metavar="FILE.h5", help=text, **settings)


def layers_option(text: str, metavar: str, **settings: Any) -> Decorator:
    """`--layers`: of both networks at once."""
    return click.option("--layers", multiple=True, metavar=metavar, help=text, **settings)


def layers_options(default: str | None = None, *, instead: str = "") -> Decorator:
    """`--teacher-layers` and `--student-layers`."""
    shown: dict[str, Any] = {"default": (default,), "show_default": True} if default else {}

    def of(role: str) -> Decorator:
        text = f"Layer of the {role}{instead}: a name, a glob, stages, leaves or all; repeatable."
        return click.option(f"--{role}-layers", multiple=True, metavar="GLOB", help=text, **shown)

    return _group(of("teacher"), of("student"))


def reduce_option(*choices: str, **settings: Any) -> Decorator:
    """`--reduce`: what there is."""
    return click.option("--reduce", type=Reduction(choices), help="How maps and tokens become features.", **settings)


def batch_size_option(text: str, *, least: int, **settings: Any) -> Decorator:
    """`--batch-size`."""
    return click.option("--batch-size", type=Whole(min=least), help=text, **settings)


def device_option() -> Decorator:
    """`--device`."""
    return click.option(
        "--device", default="auto", show_default=True, help="Device to compute on: auto, cpu, cuda, cuda:N or mps."
    )


def tf32_option() -> Decorator:
    """`--tf32`: how float32 is computed until the command ends."""

    def choose(context: click.Context, _option: click.Parameter, tf32: bool) -> None:
        from kdprobe.devices import float32

        context.with_resource(float32(tf32=tf32))

    text = "Let GPUs compute float32 in TF32, faster and with 11 bits instead of 24; exact without."
    return click.option("--tf32", is_flag=True, expose_value=False, callback=choose, help=text)


def set_option() -> Decorator:
    """`--set`, several times; the command gets `assignments`."""
    text = "Set one value of the configuration, written as in YAML; repeatable."
    return click.option("--set", "assignments", multiple=True, metavar="KEY.KEY=VALUE", help=text)


def method_option(text: str, **settings: Any) -> Decorator:
    """`--method`: of a training, or of an analysis."""
    return click.option("--method", help=text, **settings)


def measure_option(**settings: Any) -> Decorator:
    """`--measure` of similarity, whose names are those of `analyses.similarity.measures`."""
    return click.option("--measure", metavar="NAME", help="Measure of similarity.", **settings)


def neighbours_option(text: str, **settings: Any) -> Decorator:
    """`--neighbours`."""
    return click.option("--neighbours", type=Whole(min=1), metavar="K", help=text, **settings)


def seed_option(text: str, **settings: Any) -> Decorator:
    """`--seed`."""
    return click.option("--seed", type=Whole(min=0, limit=2**64), help=text, **settings)


def seeds_option(text: str, **settings: Any) -> Decorator:
    """`--seeds`: a number of seeds."""
    return click.option("--seeds", type=Whole(min=1), metavar="N", help=text, **settings)


def sweep_options(command: Command) -> Command:
    """What every sweep takes: its trainings, and where they run."""
    options = (
        set_option(),
        teacher_option(),
        data_option(show_default="the recipe's"),
        seeds_option("Number of trainings of each cell, with the seeds 0 to N - 1."),
        out_option("Folder of the sweep.", of=PATH, show_default="sweeps/RECIPE"),
        engine_options,
        quiet_option(),
        facts_options,
        trust_option,
    )
    return _group(*options)(command)


def engine_options(command: Command) -> Command:
    """What does the work of many cells, where, and how often it tries."""
    engines = click.Choice(["local", "ray", "slurm"])
    what, more = "What does the work: this machine, a Ray cluster or Slurm.", "Further tries of a failing cell."
    starts = click.Choice(["fork", "spawn"])
    how = "A cell's process here: a fork of one with all imports, or a new one."
    each = "one per GPU; without, one per four processors, at least two"
    cards: dict[str, Any] = {"show_default": "1 if there are any", "help": "GPUs of each cell in Ray, or 0.5."}
    options = (
        click.option("--engine", type=engines, default="local", show_default=True, help=what),
        click.option("--slots", type=Whole(min=1), show_default=each, help="Cells at a time on this machine."),
        click.option("--start", type=starts, show_default="fork on a CPU with Linux, else spawn", help=how),
        click.option("--address", help="Address of a Ray cluster that runs, auto or HOST:PORT; else one starts here."),
        click.option("--processors", type=FiniteRange(min=0), show_default="1", help="Processors of each cell in Ray."),
        click.option("--gpus", type=FiniteRange(min=0), **cards),
        click.option(
            "--slurm", multiple=True, metavar="KEY=VALUE", help="Parameter of submitit, or cells_per_job=N; repeatable."
        ),
        click.option("--retries", type=Whole(min=0), default=2, show_default=True, help=more),
        device_option(),
    )
    return _group(*options)(command)


def trust_option(command: Command) -> Command:
    """`--trust`: inside the command, files may name code of its modules and of those that the command line names."""

    @click.option(
        "--trust",
        multiple=True,
        metavar="MODULE",
        help="Module whose networks and data sets received files may name, because you trust it; repeatable.",
    )
    @wraps(command)
    def with_trust(*arguments: Any, trust: tuple[str, ...], **given: Any) -> Any:
        with trusting([*trust, *modules_given(given)]):
            return command(*arguments, **given)

    return with_trust


def facts_options(command: Command) -> Command:
    """What `kdprobe.load` takes of networks whose files do not say it; the command gets them as `told`, a mapping."""
    return _facts_options(command, ("",))


def facts_of_both_options(command: Command) -> Command:
    """The same, and each once more for the teacher and for the student alone: `told` maps these to mappings."""
    return _facts_options(command, ("", "teacher", "student"))


def _facts_options(command: Command, sides: tuple[str, ...]) -> Command:
    @wraps(command)
    def with_facts(*arguments: Any, **given: Any) -> Any:
        told: dict[str, Any] = {}
        for side in sides:
            facts = {key: given.pop(f"{side}_{key}".strip("_")) for key in _FACTS}
            facts = {key: value for key, value in facts.items() if value is not None}
            told |= ({side: facts} if facts else {}) if side else facts
        return command(*arguments, told=told, **given)

    def option(side: str, key: str) -> Decorator:
        name, settings, text = _FACTS[key]
        shown = f"The same as --{name}, for the {side} alone." if side else text
        words = f"--{side}-{name}" if side else f"--{name}", f"{side}_{key}".strip("_")
        return click.option(*words, **settings, help=shown)

    return _group(*(option(side, key) for side in sides for key in _FACTS))(with_facts)


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


_STANDARD = "as published, CIFAR's of its ResNets, as kdprobe.describe says, else ImageNet's"
#: by the name that `kdprobe.load` has for it: option, its settings, and help
_FACTS: dict[str, tuple[str, dict[str, Any], str]] = {
    "n_classes": (
        "classes",
        {"type": Whole(min=0)},
        "Number of classes of NAME@FILE, where the file does not show it.",
    ),
    "image_size": (
        "image-size",
        {"type": Whole(min=1, max=10_000)},
        "Side of the images that NAME@FILE or timm:NAME takes, in pixels.",
    ),
    "mean": (
        "mean",
        {"callback": _numbers, "metavar": "R,G,B", "show_default": _STANDARD},
        "Channel means that NAME@FILE or timm:NAME subtracts from images in [0, 1].",
    ),
    "std": (
        "std",
        {"callback": _numbers, "metavar": "R,G,B", "show_default": _STANDARD},
        "Channel standard deviations that NAME@FILE or timm:NAME then divides by.",
    ),
    "args": (
        "args",
        {"callback": _arguments, "metavar": "KEY=VALUE", "multiple": True},
        "Argument of the network of NAME@FILE, such as global_pool=avg; repeatable.",
    ),
}


def view_options(command: Command) -> Command:
    """How image files are shown to networks; the command gets `view`, a `kdprobe.data.View`."""
    published: dict[str, Any] = {"show_default": "as the networks were published, or as the data set has it"}
    ways = click.Choice(["bicubic", "bilinear", "nearest", "lanczos", "box", "hamming"])
    part = "Side of the centred square of each image file that is shown, as a fraction of its shorter side."
    fast = "Decode and resample image files as Pillow does, or faster, to slightly different pixels."
    default = "as the networks' runs did, or exact"

    @click.option("--crop-pct", type=FiniteRange(0, 1, min_open=True), metavar="FRACTION", help=part, **published)
    @click.option("--interpolation", type=ways, help="How image files are resampled.", **published)
    @click.option("--decode", type=click.Choice(["exact", "fast"]), show_default=default, help=fast)
    @wraps(command)
    def with_view(*args: Any, crop_pct: float | None, **options: Any) -> Any:
        from kdprobe.data import View

        mode = None if crop_pct is None else "center"
        view = View(crop_pct, options.pop("interpolation"), mode, options.pop("decode"))
        return command(*args, view=view, **options)

    return with_view


def showing_options(command: Command) -> Command:
    """What commands take that show images to networks: where, how (`view`), and what files do not say (`told`)."""
    return _group(device_option(), tf32_option(), view_options, facts_options, trust_option)(command)


def showing_both_options(command: Command) -> Command:
    """The same, where these are a teacher and a student."""
    return _group(device_option(), tf32_option(), view_options, facts_of_both_options, trust_option)(command)


def _group(*options: Decorator) -> Decorator:
    """Several options as one decorator, shown in this order."""
    return lambda command: reduce(lambda decorated, option: option(decorated), reversed(options), command)
