"""The commands of the figures; matplotlib and the rest are imported when a command runs."""

from pathlib import Path

import click

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
    default=("pdf", "png"),
    show_default=True,
    type=click.Choice(["pdf", "png", "svg"]),
    help="May be given several times.",
)
@click.option("--quiet", is_flag=True, help="Do not list the files written.")
def figures(results: tuple[Path, ...], out: Path | None, formats: tuple[str, ...], quiet: bool) -> None:
    r"""Draw one picture per saved RESULT, named after its file.

    \b
    Example:
      kdprobe figures cka.npz evaluation.npz --out figures --format pdf --format svg
    """
    from figures.pictures import draw_files

    for path in draw_files(results, formats, out=out):
        if not quiet:
            click.echo(path)
