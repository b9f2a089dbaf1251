"""`kdprobe dropout`; torch and the rest are imported when it runs."""

from pathlib import Path

import click

from kdprobe.cli.options import (
    flags,
    overwrite_option,
)
from kdprobe.terminal import echo


@click.command()
@click.argument("sweep", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="The sweep's folder, if not given.")
@overwrite_option
@click.option("--quiet", is_flag=True, help="No list of files.")
def dropout(sweep: Path, out: Path | None, *, overwrite: bool, quiet: bool) -> None:
    """What the rates of a dropout sweep do, as far as it has come: a table, a picture and two answers.

    Does the equal rate win in each row and column? Can the best cell be told from its neighbours?

    \b
    Example:
      kdprobe dropout sweeps/dropout
    """
    from analyses.dropout import answers_table, dropout_results, dropout_summary, dropout_table
    from kdprobe.cli.group import run
    from kdprobe.results import permit_result, save_result

    folder = out or sweep
    results = {folder / f"dropout-{result.facts['kind']}.npz": result for result in dropout_results(sweep)}
    for path, result in results.items():
        permit_result(path, result.kind, tables=(".csv", "-answers.csv"), pictures=folder, overwrite=overwrite)
    for path, result in results.items():
        answers = {"-answers.csv": answers_table(result).to_csv(index=False)}
        table = dropout_table(result).to_csv(index=False)
        save_result(result, path, table=table, tables=answers, overwrite=overwrite)
        echo(dropout_summary(result))
    run("figures", *results, "--out", folder, *flags(overwrite=overwrite, quiet=quiet))
