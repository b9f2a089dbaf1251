"""`kdprobe complexity`; torch and the rest are imported when it runs."""

from pathlib import Path
from typing import Any

import click

from kdprobe.cli.options import (
    facts_options,
    overwrite_option,
    trust_option,
)
from kdprobe.terminal import echo


@click.command()
@click.argument("models", metavar="MODEL...", nargs=-1, required=True)
@click.option("--stages", is_flag=True, help="Also show the parts of each network.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default="complexity", show_default=True)
@overwrite_option
@click.option("--quiet", is_flag=True, help="Do not explain the columns.")
@facts_options
@trust_option
def complexity(
    models: tuple[str, ...],
    out: Path,
    told: dict[str, Any],
    *,
    stages: bool,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Parameters, MACs and FLOPs of networks, each by a convention that is named.

    MODEL is a run folder, a checkpoint, timm:NAME, or a network's name.

    \b
    Example:
      kdprobe complexity resnet18 mobilenetv2_100 runs/resnet8 --classes 7
    """
    from analyses.complexity import CONVENTIONS, complexity_result, complexity_summary, complexity_table, models_of
    from analyses.complexity import complexity as count
    from kdprobe.results import permit_result, save_result

    permit_result(out / "complexity.npz", "complexity", overwrite=overwrite)
    counted = [count(model) for model in models_of(models, told)]
    result = complexity_result(models, counted)
    table = complexity_table(result).to_csv(index=False)
    save_result(result, out / "complexity.npz", table=table, overwrite=overwrite)
    echo(complexity_summary(result))
    if stages:
        echo("\n" + complexity_table(result, parts=True).to_string(index=False))
    if not quiet:
        for key, meaning in CONVENTIONS.items():
            echo(f"{key}: {meaning}", err=True)
