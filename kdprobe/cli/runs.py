"""The commands that look at run folders; everything heavy is imported when a command runs."""

from pathlib import Path
from typing import Any

import click

from kdprobe.cli.options import FILE, PATH, out_option, overwrite_option, quiet_option, trust_option
from kdprobe.errors import KdprobeError, RunError
from kdprobe.terminal import echo, worded_count


@click.group()
def runs() -> None:
    """List, show, compare, verify and draw run folders.

    \b
    Example:
      kdprobe runs ls runs
      kdprobe runs compare runs --out comparison.npz
    """


def _table(rows: list[dict[str, Any]]) -> str:
    """Rows as text, with `-` where a run or an epoch has no accuracy."""
    import pandas as pd

    table = pd.DataFrame(rows)
    return table.assign(accuracy=table["accuracy"].astype(float)).to_string(index=False, na_rep="-")


@runs.command("ls")
@click.argument("folder", default="runs", type=PATH)
def list_runs(folder: Path) -> None:
    """List the runs in and below FOLDER.

    Folders that cannot be read as a run are named on standard error and left out.

    \b
    Example:
      kdprobe runs ls runs
    """
    from kdprobe.runs.folder import find_runs

    rows = []
    for run in find_runs(folder):
        try:
            rows.append(run.summary())
        except KdprobeError as error:
            echo(f"left out: {error}", err=True)
    echo(_listed(rows) if rows else f"no runs below {folder}")


def _listed(rows: list[dict[str, Any]]) -> str:
    """The same text as `_table`'s, without waiting for pandas."""
    columns = [_column(name, [row[name] for row in rows]) for name in rows[0]]
    widths = [max(map(len, column)) for column in columns]
    return "\n".join(" ".join(map(str.rjust, line, widths)) for line in zip(*columns, strict=True))


def _column(name: str, values: list[Any]) -> list[str]:
    """Its name and its values; of shares with 6 decimal places, without those that are 0 in all of them."""
    if all(isinstance(value, str) for value in values):
        return [name, *values]
    if all(isinstance(value, int) for value in values):
        return [f" {name}", *map(str, values)]
    places = [len(f"{value:.6f}".rstrip("0").partition(".")[2]) for value in values if value is not None]
    return [f" {name}", *("-" if value is None else f"{value:.{max(1, *places)}f}" for value in values)]


@runs.command("show")
@click.argument("run", type=PATH)
def show_run(run: Path) -> None:
    """Show one run, which may still be training.

    It shows the configuration, the last epochs and the state.

    \b
    Example:
      kdprobe runs show runs/digits-resnet8-seed0
    """
    from kdprobe.config import write_yaml
    from kdprobe.distillers import option_types
    from kdprobe.runs.folder import RunFolder

    folder = RunFolder(run)
    config = folder.config(option_types())
    echo(write_yaml(config))
    if (facts := config.teacher_facts) is not None and facts.store is not None:
        echo(f"taught by outputs kept in {facts.store_dtype or 'float32'} in {facts.store}")
    epochs = [{key: value for key, value in record.items() if key != "terms"} for record in folder.metrics()]
    echo(_table(epochs[-10:]) if epochs else "no finished epoch yet")
    if folder.state == "failed":
        echo(f"failed: {folder.failure_path.read_text(encoding='utf-8', errors='replace').strip()}")
    else:
        echo(folder.state if folder.finished else "not finished")


@runs.command("compare")
@click.argument("runs", metavar="RUN|FOLDER...", nargs=-1, required=True, type=PATH)
@click.option("--best", is_flag=True, help="Show the accuracy after each run's best epoch too.")
@click.option(
    "--baseline",
    metavar="ROW",
    show_default="plain training; without any, each is tested with each",
    help="Row that the others are tested against.",
)
@out_option("File to save the comparison in, FILE.npz, which `kdprobe figures` draws.", of=FILE)
@overwrite_option()
@quiet_option("Print only what is wrong with the comparison.")
def compare_runs(
    runs: tuple[Path, ...], baseline: str | None, out: Path | None, *, best: bool, overwrite: bool, quiet: bool
) -> None:
    """Put finished runs side by side.

    The table has means and 95 % intervals over seeds. Runs that differ in the seed alone are one row. Accuracies are
    those after the last epoch. Below it stands how the rows differ, paired by seed: the difference with its 95 %
    interval, and Holm's p value, which counts all differences that are shown.

    \b
    Example:
      kdprobe runs compare runs --out comparison.npz
    """
    from kdprobe.cli.saving import Saving
    from kdprobe.formats.tables import aligned
    from kdprobe.runs.compare import (
        accuracy_differences,
        budget_differences,
        gather,
        group,
        shared,
        table,
        teacher_remark,
        to_result,
        unknown_inputs,
    )
    from kdprobe.runs.differences import lines

    kinds = {} if out is None else {out: "comparison"}
    saving = Saving(kinds, drawn=False, overwrite=overwrite, quiet=quiet)
    found = gather(runs)
    groups = group(found)
    compared = accuracy_differences(groups, baseline=baseline)
    if not quiet:
        echo(shared(groups))
        echo(aligned(table(groups, best=best).to_dict("list")))
        if any(len(entry.seeds) > 1 for entry in groups):
            echo(lines(compared))
    unfinished = [str(run.path) for run in found if not run.finished]
    if unfinished:
        echo(f"left out, not finished: {', '.join(unfinished)}")
    for run in found:
        if run.finished and (damage := run.damage()):
            echo(f"{run.path} counts by its result.json, but {damage}", err=True)
    if differences := budget_differences(groups):
        echo(differences)
    if unknown := unknown_inputs(groups):
        echo(unknown)
    if weak := teacher_remark(groups):
        echo(f"note: {weak}")
    if out is not None:
        saving.save(out, *to_result(groups, baseline=baseline))


@runs.command("verify")
@click.argument("runs", metavar="RUN|FOLDER...", nargs=-1, required=True, type=PATH)
@quiet_option()
@trust_option
def verify_runs(runs: tuple[Path, ...], *, quiet: bool) -> None:
    """Check that run folders are whole.

    Configuration, metrics, networks, states and result are read. It prints one line for each problem, and its exit
    status is 2 if there is any.

    \b
    Example:
      kdprobe runs verify runs
    """
    from kdprobe.runs.compare import gather
    from kdprobe.training.verify import problems

    found = gather(runs)
    wrong = [problem for run in found for problem in problems(run)]
    for problem in wrong:
        echo(problem)
    if wrong:
        raise RunError(f"{worded_count(wrong, 'problem')} in {worded_count(found, 'run')}")
    if not quiet:
        echo(f"nothing is wrong with {worded_count(found, 'run')}")


@runs.command("curves")
@click.argument("runs", metavar="RUN|FOLDER...", nargs=-1, required=True, type=PATH)
@out_option("File to save the curves in, FILE.npz; their picture is drawn beside it.", of=FILE, required=True)
@overwrite_option()
@quiet_option()
def draw_curves(runs: tuple[Path, ...], out: Path, *, overwrite: bool, quiet: bool) -> None:
    """Draw loss and accuracy over the epochs of runs.

    The runs need not be finished; the curves are saved too.

    \b
    Example:
      kdprobe runs curves runs --out curves.npz
    """
    from kdprobe.cli.saving import Saving
    from kdprobe.runs.compare import gather
    from kdprobe.runs.curves import training_curves

    saving = Saving({out: "training"}, overwrite=overwrite, quiet=quiet)
    saving.save(out, *training_curves(gather(runs)))
    saving.draw()
