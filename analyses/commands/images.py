"""`kdprobe images` and `kdprobe table`; torch and the rest are imported when they run."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kdprobe.cli.options import (
    FILE,
    PATH,
    Whole,
    data_option,
    names_option,
    out_option,
    overwrite_option,
    quiet_option,
    saving_options,
    seed_option,
    showing_options,
    student_option,
    teacher_option,
)
from kdprobe.errors import ConfigError
from kdprobe.terminal import echo

if TYPE_CHECKING:
    from kdprobe.data import View


@click.command()
@teacher_option()
@student_option("Student, given like the teacher; repeatable.", multiple=True, required=True)
@data_option(show_default="that of the teacher's checkpoint")
@click.option(
    "--thumbnails",
    type=Whole(min=1),
    default=2000,
    show_default=True,
    help="Of how many images small pictures are kept for the report; drawn at random where there are more.",
)
@click.option("--side", type=Whole(min=8, max=256), default=64, show_default=True, help="Of the pictures, in pixels.")
@click.option(
    "--projection",
    type=click.Choice(["pca", "umap"]),
    default="pca",
    show_default=True,
    help="How pooled features become places on a plane; umap needs umap-learn.",
)
@seed_option("Seed of the draw, and of umap.", default=0, show_default=True)
@saving_options("images")
@showing_options
def images(
    teacher: str | None,
    students: tuple[str, ...],
    data: str | None,
    thumbnails: int,
    side: int,
    projection: Any,
    seed: int,
    out: Path,
    device: str,
    view: "View",
    told: dict[str, Any],
    *,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Keep what networks make of each test image.

    Answers, margins, and where each image lies among the others; with small pictures of the images, which a report
    shows behind its numbers.

    \b
    Example:
      kdprobe images --teacher runs/vit --student runs/resnet8-kd --student runs/resnet8 --out results
    """
    from analyses.images.gathering import images_result
    from analyses.images.table import image_table
    from kdprobe.cli.saving import Saving

    if teacher is None:
        raise ConfigError("images needs a teacher; give it with --teacher")
    path = out / "images.npz"
    saving = Saving({path: "images"}, overwrite=overwrite, quiet=quiet)
    options: dict[str, Any] = {"device": device, "quiet": quiet, "view": view, "told": told}
    options |= {"thumbnails": thumbnails, "side": side, "projection": projection, "seed": seed}
    result = images_result(teacher, students, data, **options)
    saving.save(path, result, image_table([result]))
    n_shown, n_images = len(result.arrays["shown"]), result.facts["n_images"]
    echo(f"{n_images} images of {result.facts['data']}, {n_shown} of them with a picture")
    saving.draw()


@click.command()
@click.argument("results", metavar="RESULT|FOLDER...", nargs=-1, required=True, type=PATH)
@out_option("File of the table; the end of its name says how it is written.", of=FILE, default="images.csv")
@names_option()
@overwrite_option()
@quiet_option()
def table(results: tuple[Path, ...], out: Path, names: Path | None, *, overwrite: bool, quiet: bool) -> None:
    """Write a table, with a row for each image or method.

    Of an image its label and, as far as the results know them, of each network the answer, its probability, the margin,
    and the place among the others; and of each decomposed pair of layers its general and specific share: as .parquet or
    .csv. A FOLDER is searched for results.

    Of a single comparison of methods (`kdprobe runs compare`, `kdprobe compare`) a table for a paper, as .tex, .md or
    .csv: means and differences with their intervals, the best in bold where its tests bear that.

    \b
    Example:
      kdprobe table results --out images.parquet
      kdprobe table comparison.npz --out methods.tex
    """
    from analyses.images.table import PER_IMAGE, image_table
    from analyses.images.writing import write_image_table, write_method_table
    from kdprobe.formats.renaming import names_for, renamed
    from kdprobe.results import load_result, results_below
    from kdprobe.runs.method_table import COMPARISONS, method_table

    paths = [path for place in results for path in (results_below(place) if place.is_dir() else [place])]
    loaded = [load_result(path) for path in paths]
    if names is not None:
        loaded = renamed(loaded, names_for(names, loaded))
    if len(loaded) == 1 and loaded[0].kind in COMPARISONS:
        methods = method_table(loaded[0])
        write_method_table(methods, out, overwrite=overwrite)
        if not quiet:
            echo(f"{out}: {len(methods.methods)} methods, {len(methods.columns)} columns")
        return
    if out.suffix.lower() in (".tex", ".md"):
        kinds = ", ".join(dict.fromkeys(result.kind for result in loaded))
        raise ConfigError(
            f"a {out.suffix} table is made of one comparison of methods, but {kinds or 'nothing'} is given"
        )
    made = image_table([result for result in loaded if result.kind in PER_IMAGE])
    write_image_table(made, out, overwrite=overwrite)
    if not quiet:
        echo(f"{out}: {len(made)} images, {made.shape[1]} columns")
