"""`kdprobe cka`; torch and the rest are imported when it runs."""

from pathlib import Path
from typing import Any

import click

from kdprobe.cli.options import (
    facts_of_both_options,
    flags,
    overwrite_option,
    trust_option,
    view_options,
)
from kdprobe.errors import ConfigError
from kdprobe.terminal import echo


@click.command()
@click.option("--teacher", metavar="CKPT", help="Gives the rows.")
@click.option("--student", metavar="CKPT", help="Gives the columns.")
@click.option("--data", metavar="SPEC", help="The data set that the student's checkpoint names, if not given.")
@click.option(
    "--features",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE.h5",
    help="A dump instead of networks; two for teacher and student dumped separately.",
)
@click.option(
    "--run",
    type=click.Path(path_type=Path),
    help="Compare each snapshot of this run with its teacher (or --teacher): CKA over epochs.",
)
@click.option("--every", type=click.IntRange(min=1), metavar="K", help="With --run: only every K epochs.")
@click.option("--teacher-layers", multiple=True, default=("stages",), show_default=True, metavar="GLOB")
@click.option("--student-layers", multiple=True, default=("stages",), show_default=True, metavar="GLOB")
@click.option(
    "--reduce", type=click.Choice(["flatten", "gap", "cls", "mean", "tokens"]), default="flatten", show_default=True
)
@click.option("--kernel", type=click.Choice(["linear", "rbf"]), default="linear", show_default=True)
@click.option("--estimator", type=click.Choice(["unbiased", "biased"]), default="unbiased", show_default=True)
@click.option("--batch-size", type=click.IntRange(min=4), help="Samples compared at a time.  [default: 64]")
@click.option("--permutations", type=click.IntRange(min=0), default=0, show_default=True, help="For p values.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Folder.  [default: cka, or the run]")
@view_options
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:N, mps.")
@overwrite_option
@click.option("--quiet", is_flag=True, help="No progress and no list of files.")
@facts_of_both_options
@trust_option
def cka(
    teacher: str | None,
    student: str | None,
    data: str | None,
    features: tuple[Path, ...],
    run: Path | None,
    every: int | None,
    teacher_layers: tuple[str, ...],
    student_layers: tuple[str, ...],
    reduce: str,
    kernel: str,
    estimator: str,
    batch_size: int | None,
    permutations: int,
    out: Path | None,
    device: str,
    view: dict[str, Any],
    told: dict[str, Any],
    *,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Similarity (CKA) of every teacher layer to every student layer, with 95 % intervals.

    \b
    Example:
      kdprobe cka --teacher runs/vit --student runs/resnet8 --out cka
      kdprobe cka --run runs/resnet8 --every 5
    """
    from analyses.cka.epochs import cka_over_time, over_time_summary, save_over_time
    from analyses.cka.networks import views_cka
    from analyses.cka.stored import files_cka
    from kdprobe.cli import group as cli
    from kdprobe.data import View
    from kdprobe.features.shared_images import open_views
    from kdprobe.results import permit_result
    from kdprobe.training.distributed import ranks

    if run and (student or features or reduce != "flatten" or permutations):
        raise ConfigError("--run takes no --student, --features, --reduce or --permutations")
    if every and not run:
        raise ConfigError("--every chooses snapshots of a run; give the run with --run")
    out = out or run or Path("cka")
    path = out / ("cka-over-time.npz" if run else "cka.npz")
    permit_result(path, path.stem, pictures=out, overwrite=overwrite)

    chosen: dict[str, Any] = {
        "teacher_layers": teacher_layers,
        "student_layers": student_layers,
        "batch_size": batch_size,
        "kernel": kernel,
        "estimator": estimator,
    }
    with ranks(device) as processes:
        shard, where = processes.shard, processes.device
        if run:
            over_time = cka_over_time(
                run,
                teacher=teacher,
                data=data,
                every=every,
                shard=shard,
                device=where,
                quiet=quiet,
                view=View(**view),
                told=told,
                **chosen,
            )
        elif features and not (teacher or student or data or any(view.values()) or told or reduce != "flatten"):
            result = files_cka(features, shard=shard, permutations=permutations, **chosen)
        elif teacher and student and not features:
            views = open_views({"teacher": teacher, "student": student}, data=data, view=View(**view), told=told)
            further: dict[str, Any] = {"reduce": reduce, "permutations": permutations, "device": where, "quiet": quiet}
            result = views_cka(views, shard=shard, **chosen, **further)
        else:
            raise ConfigError("give --teacher and --student with --data, --reduce, or --features alone")
    if not processes.main:
        return
    if run:
        save_over_time(over_time, path, overwrite=overwrite)
    else:
        result.save(path, overwrite=overwrite)
    echo(over_time_summary(over_time) if run else result.summary())
    cli.run("figures", path, "--out", out, *flags(overwrite=overwrite, quiet=quiet))
