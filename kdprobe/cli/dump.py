"""`kdprobe dump`; everything heavy is imported when it runs."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kdprobe.cli.options import (
    FILE,
    Whole,
    batch_size_option,
    checkpoint_option,
    data_option,
    layers_option,
    layers_options,
    out_option,
    overwrite_option,
    quiet_option,
    reduce_option,
    resume_option,
    showing_both_options,
    student_option,
    teacher_option,
)
from kdprobe.errors import ConfigError
from kdprobe.terminal import echo

if TYPE_CHECKING:
    from kdprobe.data import View


@click.command()
@teacher_option()
@student_option()
@checkpoint_option("The same as --student, for a single network.")
@data_option(show_default="that of the student's, or only, checkpoint")
@layers_option(
    "Layer of each network: a name, a glob, stages, leaves or all; repeatable.",
    "GLOB",
    default=("stages",),
    show_default=True,
)
@layers_options(instead=" instead of --layers")
@out_option("File of the dump, FILE.h5.", of=FILE, required=True)
@reduce_option("whole", "flatten", "gap", "tokens", "cls", "spatial:N", default="whole", show_default=True)
@click.option("--grams", is_flag=True, help="Write the Gram matrices of each minibatch instead of the features.")
@click.option(
    "--dtype",
    type=click.Choice(["float32", "float16"]),
    default="float32",
    show_default=True,
    help="Type of the stored features.",
)
@click.option(
    "--compression",
    type=click.Choice(["gzip", "none"]),
    default="gzip",
    show_default=True,
    help="Compression of the stored features.",
)
@batch_size_option("Number of images per minibatch.", least=1, default=64, show_default=True)
@click.option(
    "--part-size",
    type=Whole(min=1),
    show_default="one file per process",
    help="Largest number of samples in one file of the dump.",
)
@resume_option("Continue an interrupted dump.")
@overwrite_option()
@quiet_option()
@showing_both_options
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
    reduce: str,
    grams: bool,
    dtype: str,
    compression: str,
    batch_size: int,
    part_size: int | None,
    resume: bool,
    overwrite: bool,
    device: str,
    view: "View",
    told: dict[str, Any],
    quiet: bool,
) -> None:
    """Write the features of one or two networks to an HDF5 file.

    They are those of the test images, in their order, minibatch by minibatch. The size is reported before anything is
    written, and a dump that does not fit on the disk is refused.

    --reduce stores less of each layer:

    \b
    whole      the output as it is
    flatten    the same as one row per image
    gap        its mean over positions, without prefix tokens
    tokens     one row per position, without prefix tokens
    cls        its class token
    spatial:N  its means over N x N areas

    \b
    Example:
      kdprobe dump --teacher runs/vit --student runs/resnet8 --layers stages --out features.h5
      kdprobe dump --checkpoint timm:vit_large_patch16_224 --data folder:DIR --reduce gap --out pooled.h5
    """
    from kdprobe.features.dump import Dump, write_dump
    from kdprobe.features.shared_images import open_views
    from kdprobe.files import require_writable
    from kdprobe.runtime.distributed import ranks
    from kdprobe.terminal.progress import say

    if student and checkpoint:
        raise ConfigError("--checkpoint and --student mean the same network; give one of them")
    given = {"teacher": teacher, "student": student or checkpoint}
    checkpoints = {role: spec for role, spec in given.items() if spec}
    if not checkpoints:
        raise ConfigError("give at least one network with --teacher, --student or --checkpoint")
    with ranks(device) as processes:
        if processes.main:
            require_writable(out)
        views = open_views(checkpoints, data=data, view=view, told=told, shown=True)
        wanted = Dump.of(
            views,
            layers={"teacher": teacher_layers or layers, "student": student_layers or layers},
            batch_size=batch_size,
            content="grams" if grams else "features",
            dtype=dtype,
            reduce=reduce,
            compression="gzip" if compression == "gzip" else "none",
            device=processes.device,
            quiet=quiet or not processes.main,
        )
        tell = (lambda _: None) if quiet else say
        write_dump(
            wanted, out, part_size=part_size, resume=resume, overwrite=overwrite, shard=processes.shard, say=tell
        )
    if processes.main:
        echo(f"{out}: {views.n_samples} samples of {views.data}")
