"""`kdprobe cka`; torch and the rest are imported when it runs."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from analyses.commands.options import calibration_options, check_source
from kdprobe.cli.options import (
    PATH,
    Whole,
    batch_size_option,
    data_option,
    features_option,
    layers_options,
    out_option,
    overwrite_option,
    quiet_option,
    reduce_option,
    showing_both_options,
    student_option,
    teacher_option,
)
from kdprobe.errors import ConfigError
from kdprobe.terminal import echo

if TYPE_CHECKING:
    from kdprobe.data import View


@click.command()
@teacher_option()
@student_option()
@data_option(show_default="that of the student's checkpoint")
@features_option()
@click.option("--run", type=PATH, help="Run whose snapshots are compared with its teacher, or with --teacher.")
@click.option("--every", type=Whole(min=1), metavar="K", help="Take only the snapshots of every K-th epoch.")
@layers_options("stages")
@reduce_option("flatten", "gap", "cls", "mean", "tokens", "spatial:N", default="flatten", show_default=True)
@click.option(
    "--kernel", type=click.Choice(["linear", "rbf"]), default="linear", show_default=True, help="Kernel of CKA."
)
@click.option(
    "--estimator",
    type=click.Choice(["unbiased", "biased"]),
    default="unbiased",
    show_default=True,
    help="Estimator of HSIC in each minibatch.",
)
@batch_size_option("Number of samples compared at a time.", least=4, show_default="64, or that of the dump")
@calibration_options("Without --calibrate, they give p values of no similarity; with --run, they imply it.")
@out_option("Folder of the results.", show_default="cka, or the run")
@overwrite_option()
@quiet_option()
@showing_both_options
def cka(
    teacher: str | None,
    student: str | None,
    data: str | None,
    features: tuple[Path, ...],
    run: Path | None,
    every: int | None,
    reduce: str,
    permutations: int,
    calibrate: bool,
    out: Path | None,
    device: str,
    view: "View",
    told: dict[str, Any],
    *,
    overwrite: bool,
    quiet: bool,
    **chosen: Any,
) -> None:
    """Measure how alike the layers of two networks are, by CKA.

    Every teacher layer (row) is compared with every student layer (column), each with a 95 % interval. With --run,
    paired layers are compared epoch by epoch.

    \b
    Example:
      kdprobe cka --teacher runs/vit --student runs/resnet8 --out cka
      kdprobe cka --run runs/resnet8 --every 5 --calibrate
      kdprobe cka --features features.h5 --calibrate
    """
    from analyses.cka.epochs import cka_over_time, over_time_summary, over_time_table
    from analyses.cka.networks import views_cka
    from analyses.cka.stored import files_cka
    from kdprobe.cli.saving import Saving
    from kdprobe.data import AS_IT_IS
    from kdprobe.features.shared_images import open_views
    from kdprobe.runtime.distributed import ranks

    reduced, viewed = reduce != "flatten", view != AS_IT_IS
    null: dict[str, Any] = {"permutations": permutations, "calibrate": calibrate}
    if run and (student or features or reduced):
        raise ConfigError("--run takes no --student, --features or --reduce")
    if every and not run:
        raise ConfigError("--every chooses snapshots of a run; give the run with --run")
    if not run:
        networks = {"teacher": teacher, "student": student}
        check_source(features, networks, data=data, reduce=reduced, crop_pct=viewed, classes=told)
    path = (out or run or Path("cka")) / ("cka-over-time.npz" if run else "cka.npz")
    saving = Saving({path: path.stem}, overwrite=overwrite, quiet=quiet)
    with ranks(device) as processes:
        here: dict[str, Any] = {"shard": processes.shard, "device": processes.device, "quiet": quiet}
        if run:
            given: dict[str, Any] = {"teacher": teacher, "data": data, "every": every, "view": view, "told": told}
            over_time = cka_over_time(run, **given, **null, **here, **chosen)
        elif features:
            result = files_cka(features, shard=processes.shard, **null, **chosen)
        else:
            views = open_views({"teacher": str(teacher), "student": str(student)}, data=data, view=view, told=told)
            result = views_cka(views, reduce=reduce, **null, **here, **chosen)
    if not processes.main:
        return
    if run:
        saving.save(path, over_time, over_time_table(over_time))
    else:
        saving.save(path, result.to_result(), result.to_frame())
    echo(over_time_summary(over_time) if run else result.summary())
    saving.draw()
