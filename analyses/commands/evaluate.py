"""`kdprobe evaluate`; torch and the rest are imported when it runs."""

from pathlib import Path
from typing import Any

import click

from kdprobe.cli.options import (
    facts_options,
    flags,
    overwrite_option,
    trust_option,
    view_options,
)
from kdprobe.terminal import echo


@click.command()
@click.option("--checkpoint", "checkpoints", multiple=True, required=True, metavar="CKPT", help="Repeat to compare.")
@click.option("--data", metavar="SPEC", help="The data set that the first checkpoint names, if not given.")
@click.option("--against", metavar="CKPT", help="Test each for a difference from this one, paired by image.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default="evaluation", show_default=True)
@view_options
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:N, mps.")
@overwrite_option
@click.option("--quiet", is_flag=True, help="No progress and no list of files.")
@facts_options
@trust_option
def evaluate(
    checkpoints: tuple[str, ...],
    data: str | None,
    against: str | None,
    out: Path,
    device: str,
    view: dict[str, Any],
    told: dict[str, Any],
    *,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Accuracy, UAR, calibration (ECE) and confusion matrix on the test images, with 95 % intervals.

    \b
    Example:
      kdprobe evaluate --checkpoint runs/resnet8-kd --against runs/resnet8 --out evaluation
    """
    from analyses.evaluation.accuracy import evaluate as run_evaluation
    from analyses.evaluation.accuracy import evaluation_summary, evaluation_table
    from analyses.evaluation.calibration import reliability_result, reliability_table
    from analyses.evaluation.predictions import judge
    from kdprobe.cli.group import run
    from kdprobe.data import View
    from kdprobe.devices import pick_device
    from kdprobe.results import permit_result, save_result

    paths = [out / "evaluation.npz", out / "reliability.npz"]
    for path in paths:
        permit_result(path, path.stem, pictures=out, overwrite=overwrite)
    shown = [*checkpoints, *([against] if against is not None and against not in checkpoints else [])]
    judged = judge(shown, data, device=pick_device(device), quiet=quiet, view=View(**view), told=told)
    result = run_evaluation(judged, against=None if against is None else shown.index(against))
    bins = reliability_result(result)
    save_result(result, paths[0], table=evaluation_table(result).to_csv(index=False), overwrite=overwrite)
    save_result(bins, paths[1], table=reliability_table(bins).to_csv(index=False), overwrite=overwrite)
    echo(evaluation_summary(result))
    run("figures", *paths, "--out", out, *flags(overwrite=overwrite, quiet=quiet))
