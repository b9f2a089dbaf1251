"""The commands of the figures; matplotlib and the rest are imported when a command runs."""

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

import click

from figures.options import look_options
from kdprobe.cli.options import (
    FILE,
    PATH,
    flags,
    format_option,
    names_option,
    out_option,
    overwrite_option,
    quiet_option,
    saving_options,
)
from kdprobe.terminal import echo

if TYPE_CHECKING:
    from kdprobe.results import Result


@click.command()
@click.argument("results", metavar="RESULT...", nargs=-1, required=True, type=PATH)
@out_option("Folder of the pictures.", show_default="beside each result")
@format_option()
@names_option()
@look_options
@overwrite_option()
@quiet_option()
def figures(
    results: tuple[Path, ...],
    out: Path | None,
    formats: tuple[str, ...],
    names: Path | None,
    style: str,
    width: str | None,
    *,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Draw one picture of each saved RESULT.

    A picture is named after the result's file.

    \b
    Example:
      kdprobe figures cka/cka.npz comparison.npz --out figures --format pdf --format svg
      kdprobe figures cka/cka.npz --names names.yaml --width column
      kdprobe figures cka/cka.npz --style slides --out slides
    """
    from figures.pictures import draw_files
    from kdprobe.formats.renaming import names_for
    from kdprobe.results import load_result

    called = {} if names is None else names_for(names, [load_result(path) for path in results])
    for path in draw_files(results, formats, out=out, names=called, style=style, width=width, overwrite=overwrite):
        if not quiet:
            echo(path)


@click.command()
@click.argument("results", metavar="RESULT|FOLDER...", nargs=-1, required=True, type=PATH)
@out_option("File of the page.", of=FILE, default="report.html")
@click.option("--title", default="Teacher and students compared", show_default=True, help="Heading of the page.")
@names_option()
@overwrite_option()
@quiet_option()
def report(
    results: tuple[Path, ...], out: Path, title: str, names: Path | None, *, overwrite: bool, quiet: bool
) -> None:
    """Put saved results into one page.

    The page is a single file that opens without a network. A FOLDER is searched for results, and so are the folders in
    it; `kdprobe runs compare` and `kdprobe runs curves` make results of runs.

    \b
    Example:
      kdprobe report cka evaluation comparison.npz --out report.html --title "ViT to ResNet8"
    """
    from figures.report import write_report
    from figures.report.write import result_files
    from kdprobe.formats.renaming import names_for
    from kdprobe.results import load_result

    called = {} if names is None else names_for(names, [load_result(path) for path in result_files(results)])
    write_report(results, out, title=title, names=called, overwrite=overwrite)
    if not quiet:
        echo(out)


@click.command()
@saving_options("paper")
@format_option()
@click.option(
    "--runs",
    type=PATH,
    metavar="DIR",
    help="Folder of runs and results of your own, which are shown next to the published numbers that they repeat.",
)
@look_options
def paper(
    out: Path,
    formats: tuple[str, ...],
    runs: Path | None,
    style: str,
    width: str | None,
    *,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Write the tables and figures of the publication.

    They hold the published numbers, alone or beside your own. Tables are written as LaTeX, Markdown and CSV, with
    footnotes on sources and misprints. A run repeats a number if its networks, method and kind of data are the
    published ones.

    \b
    Example:
      kdprobe paper --out paper --format svg
      kdprobe paper --runs runs --width column --out paper
    """
    from figures.paper.write import NOT_DRAWN, permit_tables, write_paper

    permit_tables(out, overwrite=overwrite)
    own = None if runs is None else _own(runs, out, overwrite=overwrite)
    written, unused = write_paper(out, formats, own=own, style=style, width=width, overwrite=overwrite)
    if not quiet:
        echo("\n".join(map(str, written)))
        if not any(path.stem.startswith("figure4") for path in written):
            echo(NOT_DRAWN, err=True)
    if unused:
        echo(unused, err=True)


def _own(runs: Path, out: Path, *, overwrite: bool) -> "list[Result]":
    """Compare the user's runs, save that beside the tables, and add the other results in their folder."""
    from kdprobe.cli.group import run
    from kdprobe.results import load_result, results_below

    others = [load_result(path) for path in results_below(runs)]
    comparison = out / "runs.npz"
    with redirect_stdout(sys.stderr):
        run("runs", "compare", runs, "--out", comparison, "--quiet", *flags(overwrite=overwrite))
    return [load_result(comparison, kind="comparison"), *others]
