"""`kdprobe dump`; everything heavy is imported when it runs."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kdprobe.cli.options import (
    facts_of_both_options,
    overwrite_option,
    trust_option,
    view_options,
)
from kdprobe.errors import ConfigError
from kdprobe.terminal import echo

if TYPE_CHECKING:
    pass


@click.command()
@click.option("--teacher", metavar="CKPT", help="Network whose features go to /teacher.")
@click.option("--student", metavar="CKPT", help="Network whose features go to /student.")
@click.option("--checkpoint", metavar="CKPT", help="The same as --student, for a single network.")
@click.option("--data", metavar="SPEC", help="The data set that the (student's) checkpoint names, if not given.")
@click.option(
    "--layers", multiple=True, default=("stages",), show_default=True, metavar="GLOB", help="Of both; repeatable."
)
@click.option("--teacher-layers", multiple=True, metavar="GLOB", help="Of the teacher instead of --layers.")
@click.option("--student-layers", multiple=True, metavar="GLOB", help="Of the student instead of --layers.")
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="The new FILE.h5.")
@click.option("--grams", is_flag=True, help="Gram matrices of each minibatch instead of features.")
@click.option("--dtype", type=click.Choice(["float32", "float16"]), default="float32", show_default=True)
@click.option("--compression", type=click.Choice(["gzip", "none"]), default="gzip", show_default=True)
@click.option("--batch-size", type=click.IntRange(min=1), default=64, show_default=True)
@click.option("--shard-size", "part_size", type=click.IntRange(min=1), help="At most so many samples per file.")
@click.option("--resume", is_flag=True, help="Continue an interrupted dump.")
@overwrite_option
@view_options
@click.option("--device", default="auto", show_default=True)
@click.option("--quiet", is_flag=True, help="No progress.")
@facts_of_both_options
@trust_option
def dump(
    teacher: str | None,
    student: str | None,
    checkpoint: str | None,
    data: str | None,
    layers: tuple[str, ...],
    teacher_layers: tuple[str, ...],
    student_layers: tuple[str, ...],
    out: Path,
    *,
    grams: bool,
    dtype: str,
    compression: str,
    batch_size: int,
    part_size: int | None,
    resume: bool,
    overwrite: bool,
    device: str,
    view: dict[str, Any],
    told: dict[str, Any],
    quiet: bool,
) -> None:
    """Stream the features of one or two networks on the test images into an HDF5 file.

    Example: kdprobe dump --teacher runs/vit --student runs/resnet8 --layers stages --out features.h5
    """
    from functools import partial

    from kdprobe.data import View
    from kdprobe.features.dump import Dump, write
    from kdprobe.features.shared_images import open_views
    from kdprobe.files import require_writable
    from kdprobe.terminal.progress import say
    from kdprobe.training.distributed import ranks

    if student and checkpoint:
        raise ConfigError("--checkpoint and --student mean the same network; give one of them")
    given = {"teacher": teacher, "student": student or checkpoint}
    checkpoints = {role: spec for role, spec in given.items() if spec}
    if not checkpoints:
        raise ConfigError("give at least one network with --teacher, --student or --checkpoint")
    with ranks(device) as processes:
        if processes.main:
            require_writable(out)
        views = open_views(checkpoints, data=data, view=View(**view), told=told, shown=True)
        silent = quiet or not processes.main
        wanted = Dump(
            views.models,
            partial(views.minibatches, batch_size=batch_size, device=processes.device, label="dump", quiet=silent),
            n_samples=views.n_samples,
            batch_size=batch_size,
            layers={"teacher": teacher_layers or layers, "student": student_layers or layers},
            data=views.data,
            shown=views.shown,
            content="grams" if grams else "features",
            dtype=dtype,
            compression="gzip" if compression == "gzip" else "none",
            device=processes.device,
        )
        tell = (lambda _: None) if quiet else say
        write(wanted, out, part_size=part_size, resume=resume, overwrite=overwrite, shard=processes.shard, say=tell)
    if processes.main:
        echo(f"{out}: {views.n_samples} samples of {views.data}")
