"""`kdprobe fidelity`; torch and the rest are imported when it runs."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kdprobe.cli.options import (
    FiniteRange,
    Whole,
    data_option,
    saving_options,
    showing_options,
    student_option,
    teacher_option,
)
from kdprobe.errors import ConfigError
from kdprobe.terminal import echo

if TYPE_CHECKING:
    from kdprobe.data import View


@click.command()
@teacher_option()
@student_option("Student, given like the teacher; repeatable.", multiple=True, required=True)
@click.option(
    "--control",
    "controls",
    multiple=True,
    metavar="CKPT",
    help="Network that did not learn from the teacher, such as one trained without it, or with teacher.shuffle=true; "
    "repeatable.",
)
@data_option(show_default="that of the teacher's checkpoint")
@click.option(
    "--temperature",
    type=FiniteRange(min=0, min_open=True),
    default=1.0,
    show_default=True,
    help="Temperature of the Jensen-Shannon divergence.",
)
@click.option(
    "--examples",
    type=Whole(min=1),
    default=8,
    show_default=True,
    help="Number of images shown of each method: mistakes of the teacher's that it makes more often than controls.",
)
@saving_options("fidelity")
@showing_options
def fidelity(
    teacher: str | None,
    students: tuple[str, ...],
    controls: tuple[str, ...],
    data: str | None,
    temperature: float,
    examples: int,
    out: Path,
    device: str,
    view: "View",
    told: dict[str, Any],
    *,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Compare students' answers with their teacher's.

    Students are asked whether they answer as their teacher does, also where it is wrong, beside controls that did not
    learn from it. Every number has a 95 % interval; runs that differ in the seed alone count as one method, and methods
    are tested by their seeds, single networks by the images.

    \b
    Example:
      kdprobe fidelity --teacher runs/vit --student runs/resnet8-kd --control runs/resnet8 --out fidelity
    """
    from analyses.evaluation.predictions import judge
    from analyses.fidelity.inherited import inherited_errors, inherited_table
    from analyses.fidelity.result import measure_fidelity
    from analyses.fidelity.words import fidelity_summary, fidelity_table
    from kdprobe.cli.saving import Saving

    if teacher is None:
        raise ConfigError("fidelity needs a teacher; give it with --teacher")
    numbers, pictures = out / "fidelity.npz", out / "inherited-errors.npz"
    saving = Saving({numbers: "fidelity", pictures: "inherited-errors"}, overwrite=overwrite, quiet=quiet)
    judged = judge([teacher, *students, *controls], data, device=device, quiet=quiet, view=view, told=told)
    parts = judged[0], judged[1 : 1 + len(students)], judged[1 + len(students) :]
    result = measure_fidelity(*parts, temperature=temperature)
    shown = inherited_errors(result, *parts[:2], n_images=examples)
    saving.save(numbers, result, fidelity_table(result))
    if shown is not None:
        saving.save(pictures, shown, inherited_table(shown))
    echo(fidelity_summary(result))
    if shown is None:
        echo("students make no mistake of the teacher's more often than controls")
    saving.draw()
