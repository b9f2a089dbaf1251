"""`kdprobe evaluate`; torch and the rest are imported when it runs."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kdprobe.cli.options import checkpoints_option, data_option, saving_options, showing_options
from kdprobe.terminal import echo

if TYPE_CHECKING:
    from kdprobe.data import View


@click.command()
@checkpoints_option()
@data_option(show_default="that of the first checkpoint")
@click.option("--against", metavar="CKPT", help="Network that each is tested against, paired by image.")
@saving_options("evaluation")
@showing_options
def evaluate(
    checkpoints: tuple[str, ...],
    data: str | None,
    against: str | None,
    out: Path,
    device: str,
    view: "View",
    told: dict[str, Any],
    *,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Measure accuracy, UAR, calibration and confusion.

    Networks are shown the test images; every number has a 95 % interval.

    \b
    Example:
      kdprobe evaluate --checkpoint runs/resnet8-kd --against runs/resnet8 --out evaluation
    """
    from analyses.evaluation.accuracy import evaluate as run_evaluation
    from analyses.evaluation.accuracy import evaluation_summary, evaluation_table
    from analyses.evaluation.calibration import reliability_result, reliability_table
    from analyses.evaluation.predictions import judge
    from kdprobe.cli.saving import Saving

    numbers, bins = out / "evaluation.npz", out / "reliability.npz"
    saving = Saving({numbers: "evaluation", bins: "reliability"}, overwrite=overwrite, quiet=quiet)
    shown = list(checkpoints) if against is None or against in checkpoints else [*checkpoints, against]
    judged = judge(shown, data, device=device, quiet=quiet, view=view, told=told)
    result = run_evaluation(judged, against=None if against is None else shown.index(against))
    reliability = reliability_result(result)
    saving.save(numbers, result, evaluation_table(result))
    saving.save(bins, reliability, reliability_table(reliability))
    echo(evaluation_summary(result))
    saving.draw()
