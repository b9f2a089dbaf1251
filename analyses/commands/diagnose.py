"""`kdprobe diagnose`; torch and the rest are imported when it runs."""

from pathlib import Path

import click

from kdprobe.cli.options import (
    FILE,
    PATH,
    Whole,
    data_option,
    device_option,
    out_option,
    overwrite_option,
    quiet_option,
    teacher_option,
    tf32_option,
    trust_option,
)
from kdprobe.terminal import echo


@click.command()
@click.argument("run", type=PATH)
@click.option(
    "--minibatches",
    type=Whole(min=1),
    default=8,
    show_default=True,
    help="Number of minibatches that are shown, of the run's own size.",
)
@teacher_option("Where the run's teacher is now, if it has moved.")
@data_option("Where the run's images are now, if they have moved.")
@out_option("File to save the numbers in, FILE.npz; their picture is drawn beside it.", of=FILE)
@overwrite_option()
@device_option()
@tf32_option()
@quiet_option()
@trust_option
def diagnose(
    run: Path,
    minibatches: int,
    teacher: str | None,
    data: str | None,
    out: Path | None,
    device: str,
    *,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Say why a run's loss does not fall.

    RUN may be finished, stopped or failed; nothing in it changes. It shows how large each term of the loss and its
    gradient are, where the gradient goes, whether teacher and student are right about the images as the training shows
    them, and what of that stands out.

    \b
    Example:
      kdprobe diagnose runs/digits-resnet8-kd-seed0 --out diagnosis.npz
    """
    from analyses.diagnosis.result import diagnose as run_diagnosis
    from analyses.diagnosis.result import diagnosis_summary, diagnosis_table
    from kdprobe.cli.saving import Saving

    kinds = {} if out is None else {out: "diagnosis"}
    saving = Saving(kinds, overwrite=overwrite, quiet=quiet)
    result = run_diagnosis(run, n_minibatches=minibatches, device=device, teacher=teacher, data=data)
    echo(diagnosis_summary(result))
    if out is not None:
        saving.save(out, result, diagnosis_table(result))
        saving.draw()
