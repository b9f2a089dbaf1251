"""`kdprobe dropout`; torch and the rest are imported when it runs."""

from pathlib import Path

import click

from kdprobe.cli.options import PATH, out_option, overwrite_option, quiet_option
from kdprobe.terminal import echo


@click.command()
@click.argument("sweep", type=PATH)
@out_option("Folder of the results.", show_default="the sweep's")
@overwrite_option()
@quiet_option()
def dropout(sweep: Path, out: Path | None, *, overwrite: bool, quiet: bool) -> None:
    """Tabulate and draw what the rates of a dropout sweep do.

    The sweep may still be running. Two questions are answered: does the equal rate win in each row and column, and can
    the best cell be told from its neighbours?

    \b
    Example:
      kdprobe dropout sweeps/dropout
    """
    from analyses.dropout import answers_table, dropout_results, dropout_summary, dropout_table
    from kdprobe.cli.saving import Saving

    results = {(out or sweep) / f"dropout-{found.facts['kind']}.npz": found for found in dropout_results(sweep)}
    kinds = {path: result.kind for path, result in results.items()}
    saving = Saving(kinds, tables=(".csv", "-answers.csv"), overwrite=overwrite, quiet=quiet)
    for path, result in results.items():
        saving.save(path, result, dropout_table(result), answers=answers_table(result))
        echo(dropout_summary(result))
    saving.draw()
