"""`kdprobe similarity`; torch and the rest are imported when it runs."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from analyses.commands.options import calibration_options, check_source, sample_groups_option
from kdprobe.cli.options import (
    data_option,
    features_option,
    layers_options,
    measure_option,
    neighbours_option,
    reduce_option,
    saving_options,
    showing_both_options,
    student_option,
    teacher_option,
)
from kdprobe.terminal import echo

if TYPE_CHECKING:
    from kdprobe.data import View


@click.command()
@teacher_option()
@student_option()
@data_option(show_default="that of the student's checkpoint")
@features_option()
@measure_option(required=True)
@neighbours_option("Number of neighbours of each sample, for mutual-knn, cycle-knn and cknna.", show_default="10")
@layers_options(instead=", stages of networks or all of a dump if not given")
@reduce_option(
    "gap", "flatten", "cls", "mean", "tokens", "spatial:N", show_default="gap, or what a dump was reduced to"
)
@sample_groups_option
@calibration_options("They imply --calibrate.")
@saving_options("similarity")
@showing_both_options
def similarity(
    teacher: str | None,
    student: str | None,
    data: str | None,
    features: tuple[Path, ...],
    measure: str,
    neighbours: int | None,
    calibrate: bool,
    permutations: int,
    out: Path,
    device: str,
    view: "View",
    told: dict[str, Any],
    *,
    overwrite: bool,
    quiet: bool,
    **chosen: Any,
) -> None:
    """Measure how alike the layers of two networks are.

    Every teacher layer is compared with every student layer, by a measure other than CKA:

    \b
    svcca, pwcca          canonical correlations
    procrustes            correlation after the best rotation
    rsa, rsa-spearman     correlation of the distances between samples
    distance-correlation  its square, without bias: 0 where layers are independent
    mutual-knn            share of nearest neighbours in common
    cycle-knn             share of samples that come back by way of neighbours
    cknna                 CKA over samples that are neighbours in both
    predicts-student      out-of-fold R2 of ridge regression on the teacher's layer
    predicts-teacher      the same on the student's layer
    feature-cka           CKA without the bias of few units

    \b
    Example:
      kdprobe similarity --teacher runs/vit --student runs/resnet8 --measure mutual-knn
      kdprobe similarity --features features.h5 --measure svcca --calibrate
    """
    from analyses.similarity.measures import find_measure
    from analyses.similarity.null import enough_permutations
    from analyses.similarity.result import files_similarity, networks_similarity, similarity_summary, similarity_table
    from kdprobe.cli.saving import Saving
    from kdprobe.data import AS_IT_IS

    networks = {"teacher": teacher, "student": student}
    check_source(features, networks, data=data, crop_pct=view != AS_IT_IS, classes=told)
    found = find_measure(measure, neighbours=neighbours)
    path = out / f"{measure}.npz"
    saving = Saving({path: "similarity"}, overwrite=overwrite, quiet=quiet)
    chosen["permutations"] = enough_permutations(permutations, calibrated=calibrate or permutations > 0)
    for role in networks:
        chosen[f"{role}_layers"] = chosen[f"{role}_layers"] or (("all",) if features else ("stages",))
    if features:
        result = files_similarity(features, found, **chosen)
    else:
        shown: dict[str, Any] = {"data": data, "device": device, "quiet": quiet, "view": view, "told": told}
        result = networks_similarity(str(teacher), str(student), found, **shown, **chosen)
    saving.save(path, result, similarity_table(result))
    echo(similarity_summary(result))
    saving.draw()
