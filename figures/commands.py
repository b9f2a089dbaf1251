"""The commands of the figures; matplotlib and the rest are imported when a command runs."""

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kdprobe.cli.options import flags, overwrite_option
from kdprobe.formats.outputs import PICTURES
from kdprobe.terminal import echo

if TYPE_CHECKING:
    from kdprobe.results import Result

_RESULT = click.Path(path_type=Path)


@click.command()
@click.argument("results", metavar="RESULT...", nargs=-1, required=True, type=_RESULT)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the pictures; beside each result if not given.",
)
@click.option(
    "--format",
    "formats",
    multiple=True,
    default=PICTURES,
    show_default=True,
    type=click.Choice(["pdf", "png", "svg"]),
    help="May be given several times.",
)
@overwrite_option
@click.option("--quiet", is_flag=True, help="Do not list the files written.")
def figures(
    results: tuple[Path, ...], out: Path | None, formats: tuple[str, ...], *, overwrite: bool, quiet: bool
) -> None:
    """Draw one picture per saved RESULT, named after its file.

    \b
    Example:
      kdprobe figures cka.npz evaluation.npz --out figures --format pdf --format svg
    """
    from figures.pictures import draw_files

    for path in draw_files(results, formats, out=out, overwrite=overwrite):
        if not quiet:
            echo(path)


@click.command()
@click.argument("results", metavar="RESULT|FOLDER...", nargs=-1, required=True, type=_RESULT)
@click.option(
    "--out",
    default=Path("report.html"),
    show_default=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="The page's file.",
)
@click.option("--title", default="Teacher and students compared", show_default=True, help="Heading of the page.")
@overwrite_option
@click.option("--quiet", is_flag=True, help="Do not say where the page is.")
def report(results: tuple[Path, ...], out: Path, title: str, *, overwrite: bool, quiet: bool) -> None:
    """Put saved results into one page that opens without a network.

    A FOLDER is searched through for results.

    \b
    Example:
      kdprobe report runs results/cka.npz --out report.html --title "ViT to ResNet8"
    """
    from figures.report import write_report

    write_report(results, out, title=title, overwrite=overwrite)
    if not quiet:
        echo(out)


@click.command()
@click.option(
    "--out",
    default=Path("paper"),
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of tables and figures.",
)
@click.option(
    "--format",
    "formats",
    multiple=True,
    default=PICTURES,
    show_default=True,
    type=click.Choice(["pdf", "png", "svg"]),
    help="Of the figures; may be given several times.",
)
@click.option(
    "--runs",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Own runs and results in and below DIR come next to the numbers that they repeat.",
)
@overwrite_option
@click.option("--quiet", is_flag=True, help="Do not list the files written.")
def paper(out: Path, formats: tuple[str, ...], runs: Path | None, *, overwrite: bool, quiet: bool) -> None:
    """Write the publication's tables and figures from the published numbers, alone or beside own ones.

    Tables come as LaTeX, Markdown and CSV; sources and misprints are footnoted. A run repeats a number if its networks,
    method and kind of data are the published ones.

    \b
    Example:
      kdprobe paper --out paper --format svg
      kdprobe paper --runs runs --out paper
    """
    from figures.paper.write import NOT_DRAWN, permit_tables, write_paper

    permit_tables(out, overwrite=overwrite)
    own = None if runs is None else _own(runs, out, overwrite=overwrite)
    written, unused = write_paper(out, formats, own=own, overwrite=overwrite)
    if not quiet:
        echo("\n".join(map(str, written)))
        if not any(path.stem.startswith("figure4") for path in written):
            echo(NOT_DRAWN, err=True)
    if unused:
        echo(unused, err=True)


def _own(runs: Path, out: Path, *, overwrite: bool) -> "list[Result]":
    """Own runs as a comparison, which stays beside the tables, and the other results in their folder."""
    from kdprobe.cli.group import run
    from kdprobe.results import load_result, results_below

    others = [load_result(path) for path in results_below(runs)]
    comparison = out / "runs.npz"
    with redirect_stdout(sys.stderr):
        run("runs", "compare", runs, "--out", comparison, "--quiet", *flags(overwrite=overwrite))
    return [load_result(comparison, kind="comparison"), *others]
