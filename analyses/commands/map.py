"""`kdprobe map`; torch and the rest are imported when it runs."""

from pathlib import Path
from typing import Any

import click

from analyses.commands.options import calibration_options, sample_groups_option
from kdprobe.cli.options import (
    batch_size_option,
    data_option,
    engine_options,
    facts_options,
    measure_option,
    saving_options,
    teacher_option,
    trust_option,
    view_options,
)
from kdprobe.errors import ConfigError
from kdprobe.terminal import echo


@click.command("map")
@click.argument("models", metavar="RUN|DUMP...", nargs=-1, required=True)
@teacher_option("Network that taught the runs, in place of the one that they name.")
@click.option("--no-teacher", "without_teacher", is_flag=True, help="Leave out the teachers that runs name.")
@data_option(show_default="that of the first network that names one")
@measure_option(default="cka", show_default=True)
@click.option(
    "--rule",
    type=click.Choice(["last", "pooled", "depth"]),
    default="last",
    show_default=True,
    help="Layers that are compared: the last stage, the classifier's input, or all stages by their relative depth.",
)
@batch_size_option("Number of images in a minibatch.", least=4, default=64, show_default=True)
@sample_groups_option
@calibration_options("They imply --calibrate.", of="the images, for each network")
@saving_options("map")
@engine_options
@view_options
@facts_options
@trust_option
def map_networks(
    models: tuple[str, ...],
    out: Path,
    *,
    teacher: str | None,
    without_teacher: bool,
    calibrate: bool,
    permutations: int,
    overwrite: bool,
    quiet: bool,
    **chosen: Any,
) -> None:
    """Measure how alike all pairs of networks are.

    RUN is a folder of runs, such as a sweep's, or whatever else names a network; DUMP is a file of kdprobe dump. The
    teachers of the runs are shown beside them. Drawn are the matrix, an average-linkage tree, and a map on which
    networks are the nearer the more alike they are. Whether methods lie apart, or seeds, is tested by permutation.
    Interrupted or extended, the same command goes on.

    \b
    Example:
      kdprobe map sweeps/methods --out map
      kdprobe map runs/a runs/b features.h5 --measure procrustes --rule depth
    """
    from analyses.map.members import find_members
    from analyses.map.result import map_summary, map_table
    from analyses.map.study import measure_map
    from analyses.similarity.null import enough_permutations
    from kdprobe.cli.saving import Saving

    if teacher and without_teacher:
        raise ConfigError("--teacher and --no-teacher exclude each other; give one of them")
    path = out / "map.npz"
    saving = Saving({path: "map"}, overwrite=overwrite, quiet=quiet)
    chosen["permutations"] = enough_permutations(permutations, calibrated=calibrate or permutations > 0)
    members = find_members(models, teacher=teacher, teachers=not without_teacher)
    result = measure_map(members, out / "cells", quiet=quiet, **chosen)
    saving.save(path, result, map_table(result))
    echo(map_summary(result))
    saving.draw()
