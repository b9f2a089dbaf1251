"""`kdprobe export`; everything heavy is imported when it runs."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kdprobe.cli.options import (
    FILE,
    FiniteRange,
    Whole,
    data_option,
    facts_options,
    format_option,
    out_option,
    overwrite_option,
    quiet_option,
    trust_option,
    view_options,
)
from kdprobe.terminal import echo

if TYPE_CHECKING:
    from kdprobe.data import View


@click.command()
@click.argument("checkpoint", metavar="CKPT")
@format_option("onnx", "torch", "timm")
@out_option("File to write: FILE.onnx, FILE.pt2 for torch, FILE.safetensors for timm.", of=FILE, required=True)
@click.option(
    "--normalise",
    type=click.Choice(["inside", "outside"]),
    show_default="inside, but outside for timm",
    help="Whether the file takes images in [0, 1] and normalises them, or takes normalised images.",
)
@data_option("Data set whose test images it is checked on.", show_default="that of the checkpoint")
@click.option(
    "--check-on",
    "n_images",
    type=Whole(min=1),
    metavar="N",
    default=64,
    show_default=True,
    help="Number of test images it is checked on, at equal distances.",
)
@click.option(
    "--bound",
    type=FiniteRange(min=0),
    default=1e-4,
    show_default=True,
    help="Largest difference from the network that is allowed, as a fraction of the network's largest output.",
)
@overwrite_option()
@quiet_option()
@view_options
@facts_options
@trust_option
def export(
    checkpoint: str,
    format: Any,
    out: Path,
    normalise: Any,
    data: str | None,
    *,
    n_images: int,
    bound: float,
    overwrite: bool,
    quiet: bool,
    view: "View",
    told: dict[str, Any],
) -> None:
    """Write a network to a file for other programs.

    The file takes batches of any size and gives the logits. It is kept only if it gives what the network gives for
    real images, on this machine's CPU. CKPT is a run folder (of a student, the student alone is exported), a
    checkpoint file, NAME@FILE or timm:NAME.

    \b
    onnx   for ONNX Runtime and everything else that reads ONNX; compared by ONNX Runtime, if that is installed
    torch  torch.export's ExportedProgram: torch.export.load(FILE).module()(images), without the network's code, in
           this version of torch or a later one
    timm   weights: timm.create_model(NAME, checkpoint_path=FILE); kdprobe.load reads them as well

    \b
    Example:
      kdprobe export runs/resnet8-kd --format onnx --out resnet8.onnx
    """
    from kdprobe.exports.images import checking_images
    from kdprobe.exports.writing import export as write
    from kdprobe.exports.writing import permit_export
    from kdprobe.models import load
    from kdprobe.models.checkpoint import facts_for

    permit_export(out, format, overwrite=overwrite)
    (facts,) = facts_for([checkpoint], told)
    model = load(checkpoint, **facts)
    shown = checking_images(model, checkpoint, data, n_images=n_images, view=view)
    done = write(model, out, shown, format=format, normalise=normalise, bound=bound, overwrite=overwrite)
    found = done.difference
    echo(f"{out}: {format}, {out.stat().st_size / 1e6:.2f} MB")
    echo(f"input    {done.input}")
    echo(f"output   {done.output}")
    echo(
        f"checked  on {found.n_images} images, by {done.runner}: at most {found.difference:.2g} away from the network, "
        f"whose largest output is {found.largest:.3g} (allowed: {bound * found.largest:.2g})"
    )
    echo(f"use      {done.use}")
