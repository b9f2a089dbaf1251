"""`kdprobe compound`; torch and the rest are imported when it runs."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kdprobe.cli.options import checkpoints_option, data_option, saving_options, showing_options
from kdprobe.terminal import echo

if TYPE_CHECKING:
    from kdprobe.data import View


@click.command()
@checkpoints_option()
@data_option("Data set of compound emotions: rafdb-compound:DIR or ferplus-compound:DIR.", required=True)
@click.option("--exclude-neutral", is_flag=True, help="Do not count neutral among the best classes.")
@saving_options("compound")
@showing_options
def compound(
    checkpoints: tuple[str, ...],
    data: str,
    out: Path,
    device: str,
    view: "View",
    told: dict[str, Any],
    *,
    exclude_neutral: bool,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Measure how well networks recognise compound emotions.

    Networks of the basic emotions are asked for both halves of each compound one.

    \b
    Example:
      kdprobe compound --checkpoint runs/mobilenet --data rafdb-compound:/data/RAF-DB
    """
    from analyses.evaluation.compound import compound_result, compound_summary, compound_table
    from analyses.evaluation.predictions import judge
    from kdprobe.cli.saving import Saving

    path = out / "compound.npz"
    saving = Saving({path: "compound"}, overwrite=overwrite, quiet=quiet)
    judged = judge(checkpoints, data, device=device, quiet=quiet, same_classes=False, view=view, told=told)
    result = compound_result(judged, exclude_neutral=exclude_neutral)
    saving.save(path, result, compound_table(result))
    echo(compound_summary(result))
    saving.draw()
