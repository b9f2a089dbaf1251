"""The commands that look at run folders; everything heavy is imported when a command runs."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from kdprobe.cli.options import flags, overwrite_option, trust_option
from kdprobe.errors import KdprobeError, RunError
from kdprobe.terminal import echo

if TYPE_CHECKING:
    from collections.abc import Sequence

_PATHS = click.Path(path_type=Path)
_RESULT = click.Path(dir_okay=False, path_type=Path)


def _counted(found: "Sequence[object]") -> str:
    return f"{len(found)} run{'s' if len(found) > 1 else ''}"


@click.group()
def runs() -> None:
    """Look at run folders."""


@runs.command("ls")
@click.argument("folder", default="runs", type=click.Path(path_type=Path))
def list_runs(folder: Path) -> None:
    """List the runs below FOLDER.

    Folders that cannot be read as a run are named on standard error and left out.

    Example: kdprobe runs ls runs
    """
    import pandas as pd

    from kdprobe.runs.folder import find_runs

    rows = []
    for run in find_runs(folder):
        try:
            rows.append(run.summary())
        except KdprobeError as error:
            echo(f"left out: {error}", err=True)
    echo(pd.DataFrame(rows).to_string(index=False) if rows else f"no runs below {folder}")


@runs.command("show")
@click.argument("run", type=click.Path(path_type=Path))
def show_run(run: Path) -> None:
    """Show one run: configuration, last epochs, result; works while it is training.

    Example: kdprobe runs show runs/digits-resnet8-seed0
    """
    import pandas as pd

    from kdprobe.config import write_yaml
    from kdprobe.distillers import option_types
    from kdprobe.runs.folder import RunFolder

    folder = RunFolder(run)
    echo(write_yaml(folder.config(option_types())))
    epochs = [{key: value for key, value in record.items() if key != "terms"} for record in folder.metrics()]
    echo(pd.DataFrame(epochs[-10:]).to_string(index=False) if epochs else "no finished epoch yet")
    if folder.state == "failed":
        echo(f"failed: {folder.failure_path.read_text(encoding='utf-8', errors='replace').strip()}")
    else:
        echo(folder.state if folder.finished else "not finished")


@runs.command("compare")
@click.argument("runs", metavar="RUN|FOLDER...", nargs=-1, required=True, type=_PATHS)
@click.option("--best", is_flag=True, help="Also accuracies after each run's best epoch.")
@click.option("--out", type=_RESULT, help="Save the comparison as FILE.npz, which `kdprobe figures` draws.")
@overwrite_option
@click.option("--quiet", is_flag=True, help="Only what is wrong with the comparison.")
def compare_runs(runs: tuple[Path, ...], out: Path | None, *, best: bool, overwrite: bool, quiet: bool) -> None:
    """Put finished runs side by side: means and 95 % intervals over seeds.

    Runs that differ in the seed alone are one row. Accuracies are those after the last epoch.

    Example: kdprobe runs compare runs --out comparison.npz
    """
    from kdprobe.results import permit_result, save_result
    from kdprobe.runs.compare import budget_differences, gather, group, shared, table, to_result, unknown_inputs

    if out is not None:
        permit_result(out, "comparison", overwrite=overwrite)
    found = gather(runs)
    groups = group(found)
    if not quiet:
        echo(shared(groups))
        echo(table(groups, best=best).to_string(index=False))
    unfinished = [str(run.path) for run in found if not run.finished]
    if unfinished:
        echo(f"left out, not finished: {', '.join(unfinished)}")
    if differences := budget_differences(groups):
        echo(differences)
    if unknown := unknown_inputs(groups):
        echo(unknown)
    if out is not None:
        result, rows = to_result(groups)
        save_result(result, out, table=rows, overwrite=overwrite)


@runs.command("verify")
@click.argument("runs", metavar="RUN|FOLDER...", nargs=-1, required=True, type=_PATHS)
@click.option("--quiet", is_flag=True, help="Only the problems.")
@trust_option
def verify_runs(runs: tuple[Path, ...], *, quiet: bool) -> None:
    """Check that run folders are whole: configuration, metrics, networks, states, result.

    Prints one line for each problem; exit status 2 if there is any.

    Example: kdprobe runs verify runs
    """
    from kdprobe.runs.compare import gather
    from kdprobe.training.verify import problems

    found = gather(runs)
    said = [problem for run in found for problem in problems(run)]
    for problem in said:
        echo(problem)
    if said:
        raise RunError(f"{len(said)} problem{'s' if len(said) > 1 else ''} in {_counted(found)}")
    if not quiet:
        echo(f"nothing is wrong with {_counted(found)}")


@runs.command("curves")
@click.argument("runs", metavar="RUN|FOLDER...", nargs=-1, required=True, type=_PATHS)
@click.option("--out", required=True, type=_RESULT, help="The new FILE.npz; its picture is drawn beside it.")
@overwrite_option
@click.option("--quiet", is_flag=True, help="Do not list the files written.")
def draw_curves(runs: tuple[Path, ...], out: Path, *, overwrite: bool, quiet: bool) -> None:
    """Save and draw loss and accuracy over the epochs of runs, finished or not.

    Example: kdprobe runs curves runs --out curves.npz
    """
    from kdprobe.cli.group import run as run_command
    from kdprobe.results import permit_result, save_result
    from kdprobe.runs.compare import gather
    from kdprobe.runs.curves import training_curves

    permit_result(out, "training", pictures=out.parent, overwrite=overwrite)
    result, rows = training_curves(gather(runs))
    save_result(result, out, table=rows, overwrite=overwrite)
    run_command("figures", out, *flags(overwrite=overwrite, quiet=quiet))
