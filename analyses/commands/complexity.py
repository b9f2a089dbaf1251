"""`kdprobe complexity`; torch and the rest are imported when it runs."""

from pathlib import Path
from typing import Any

import click

from kdprobe.cli.options import (
    Whole,
    batch_size_option,
    device_option,
    facts_options,
    saving_options,
    tf32_option,
    trust_option,
)
from kdprobe.errors import ConfigError
from kdprobe.terminal import echo


@click.command()
@click.argument("models", metavar="MODEL...", nargs=-1, required=True)
@click.option("--stages", is_flag=True, help="Show the parts of each network too.")
@click.option("--latency", is_flag=True, help="Measure how long a forward pass of 1 and of N images takes as well.")
@batch_size_option("N, where --latency is given.", least=2, metavar="N", show_default="32")
@click.option(
    "--threads",
    type=Whole(min=1),
    metavar="N",
    show_default="torch's own number",
    help="Threads that --latency computes with.",
)
@device_option()
@tf32_option()
@saving_options("complexity")
@facts_options
@trust_option
def complexity(
    models: tuple[str, ...],
    out: Path,
    device: str,
    told: dict[str, Any],
    *,
    stages: bool,
    latency: bool,
    batch_size: int | None,
    threads: int | None,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Count parameters, MACs and FLOPs of networks.

    Each is counted by a convention that is named. MODEL is a run folder, a checkpoint file, NAME@FILE, timm:NAME, or
    the name of a network. A latency holds for the machine that it was measured on, while nothing else runs there.

    \b
    Example:
      kdprobe complexity resnet18 mobilenetv2_100 runs/resnet8 --classes 7
      kdprobe complexity runs/teacher runs/resnet8-kd --latency --device cpu --threads 1
    """
    from analyses.complexity import complexity as count
    from analyses.complexity import complexity_result, complexity_summary, complexity_table
    from analyses.latency import latencies
    from kdprobe.cli.saving import Saving
    from kdprobe.devices import float32_settings
    from kdprobe.models.named import models_of

    if not latency and (batch_size or threads or "tf32" in float32_settings().values()):
        raise ConfigError("--batch-size, --threads and --tf32 are for --latency; add it")
    path, networks = out / "complexity.npz", models_of(models, told)
    saving = Saving({path: "complexity"}, drawn=False, overwrite=overwrite, quiet=quiet)
    counted = [count(network) for network in networks]
    place: dict[str, Any] = {"device": device, "threads": threads, "quiet": quiet}
    measured = latencies(networks, (1, batch_size or 32), **place) if latency else None
    result = complexity_result(models, counted, measured)
    saving.save(path, result, complexity_table(result))
    echo(complexity_summary(result))
    if stages:
        echo("\n" + complexity_table(result, parts=True).to_string(index=False))
    if not quiet:
        for key, meaning in result.facts["conventions"].items():
            echo(f"{key}: {meaning}", err=True)
