"""`kdprobe compound`; torch and the rest are imported when it runs."""

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
@click.option("--data", required=True, metavar="SPEC", help="rafdb-compound:DIR")
@click.option("--exclude-neutral", is_flag=True, help="Neutral does not count among the best classes.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default="compound", show_default=True)
@view_options
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:N, mps.")
@overwrite_option
@click.option("--quiet", is_flag=True, help="No progress and no list of files.")
@facts_options
@trust_option
def compound(
    checkpoints: tuple[str, ...],
    data: str,
    out: Path,
    device: str,
    view: dict[str, Any],
    told: dict[str, Any],
    *,
    exclude_neutral: bool,
    overwrite: bool,
    quiet: bool,
) -> None:
    """How well networks of the seven basic emotions see both halves of compound ones.

    \b
    Example:
      kdprobe compound --checkpoint runs/mobilenet --data rafdb-compound:/data/RAF-DB
    """
    import pandas as pd

    from analyses.evaluation.accuracy import worded_share
    from analyses.evaluation.compound import READINGS, compound_result, compound_table
    from analyses.evaluation.predictions import judge
    from kdprobe.cli.group import run
    from kdprobe.data import View
    from kdprobe.devices import pick_device
    from kdprobe.results import permit_result, save_result

    permit_result(out / "compound.npz", "compound", pictures=out, overwrite=overwrite)
    judged = judge(
        checkpoints, data, device=pick_device(device), quiet=quiet, same_classes=False, view=View(**view), told=told
    )
    result = compound_result(judged, exclude_neutral=exclude_neutral)
    table = compound_table(result).to_csv(index=False)
    save_result(result, out / "compound.npz", table=table, overwrite=overwrite)
    columns = {reading: [worded_share(interval) for interval in result.arrays[reading]] for reading in READINGS}
    echo(pd.DataFrame({"model": result.facts["names"]} | columns).to_string(index=False))
    run("figures", out / "compound.npz", "--out", out, *flags(overwrite=overwrite, quiet=quiet))
