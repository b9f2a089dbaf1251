"""`kdprobe evaluate`; torch and the rest are imported when it runs."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kdprobe.cli.options import checkpoints_option, data_option, neighbours_option, saving_options, showing_options
from kdprobe.errors import ConfigError
from kdprobe.terminal import echo

if TYPE_CHECKING:
    from kdprobe.data import View


@click.command()
@checkpoints_option()
@data_option(show_default="that of the first checkpoint")
@click.option("--against", metavar="CKPT", help="Network that each is tested against, paired by image.")
@click.option(
    "--probe",
    type=click.Choice(["linear", "knn"]),
    help="Judge features by a classifier that learns from the training images, instead of the networks' own classes: "
    "logistic regression, or the nearest neighbours by cosine.",
)
@neighbours_option("Number of neighbours of knn.", show_default="20")
@saving_options("evaluation")
@showing_options
def evaluate(
    checkpoints: tuple[str, ...],
    data: str | None,
    against: str | None,
    probe: Any,
    neighbours: int | None,
    out: Path,
    device: str,
    view: "View",
    told: dict[str, Any],
    *,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Measure accuracy, UAR, calibration and confusion.

    Networks are shown the test images; every number has a 95 % interval. With --probe it is said of a simple
    classifier of their features, which may have any classes, or none; the training images decide it alone.

    \b
    Example:
      kdprobe evaluate --checkpoint runs/resnet8-kd --against runs/resnet8 --out evaluation
      kdprobe evaluate --checkpoint runs/headless --probe linear --data folder:birds --out evaluation
    """
    from analyses.evaluation.accuracy import evaluate as run_evaluation
    from analyses.evaluation.accuracy import evaluation_summary, evaluation_table
    from analyses.evaluation.calibration import reliability_result, reliability_table
    from analyses.evaluation.predictions import judge
    from analyses.evaluation.probing import judge_by_probe
    from kdprobe.cli.saving import Saving

    if neighbours is not None and probe != "knn":
        raise ConfigError("--neighbours is for --probe knn")
    ending = f"-{probe}" if probe else ""
    numbers, bins = out / f"evaluation{ending}.npz", out / f"reliability{ending}.npz"
    saving = Saving({numbers: "evaluation", bins: "reliability"}, overwrite=overwrite, quiet=quiet)
    shown = list(checkpoints) if against is None or against in checkpoints else [*checkpoints, against]
    options: dict[str, Any] = {"device": device, "quiet": quiet, "view": view, "told": told}
    if probe:
        judged, how = judge_by_probe(shown, data, probe=probe, neighbours=neighbours or 20, **options)
    else:
        judged, how = judge(shown, data, **options), None
    result = run_evaluation(judged, against=None if against is None else shown.index(against), probe=how)
    reliability = reliability_result(result)
    saving.save(numbers, result, evaluation_table(result))
    saving.save(bins, reliability, reliability_table(reliability))
    echo(evaluation_summary(result))
    if how is not None:
        for one, words in zip(judged, how["words"], strict=True):
            echo(f"{one.name}: {words}")
    saving.draw()
