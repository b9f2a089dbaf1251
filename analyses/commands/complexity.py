"""`kdprobe complexity`; torch and the rest are imported when it runs."""

from pathlib import Path
from typing import Any

import click

from kdprobe.cli.options import facts_options, saving_options, trust_option
from kdprobe.terminal import echo


@click.command()
@click.argument("models", metavar="MODEL...", nargs=-1, required=True)
@click.option("--stages", is_flag=True, help="Show the parts of each network too.")
@saving_options("complexity")
@facts_options
@trust_option
def complexity(
    models: tuple[str, ...], out: Path, told: dict[str, Any], *, stages: bool, overwrite: bool, quiet: bool
) -> None:
    """Count parameters, MACs and FLOPs of networks.

    Each is counted by a convention that is named. MODEL is a run folder, a checkpoint file, NAME@FILE, timm:NAME, or
    the name of a network.

    \b
    Example:
      kdprobe complexity resnet18 mobilenetv2_100 runs/resnet8 --classes 7
    """
    from analyses.complexity import CONVENTIONS, complexity_result, complexity_summary, complexity_table
    from analyses.complexity import complexity as count
    from kdprobe.cli.saving import Saving
    from kdprobe.models.named import models_of

    path = out / "complexity.npz"
    saving = Saving({path: "complexity"}, drawn=False, overwrite=overwrite, quiet=quiet)
    result = complexity_result(models, [count(model) for model in models_of(models, told)])
    saving.save(path, result, complexity_table(result))
    echo(complexity_summary(result))
    if stages:
        echo("\n" + complexity_table(result, parts=True).to_string(index=False))
    if not quiet:
        for key, meaning in CONVENTIONS.items():
            echo(f"{key}: {meaning}", err=True)
