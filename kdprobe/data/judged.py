"""The images that a network is judged on: the test images of its data set, or those that its run held out."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from kdprobe.data.dataset import AS_IT_IS, DataSet, Pictures, View
from kdprobe.data.spec import load_data, stored
from kdprobe.errors import DataError, KdprobeError, NoTestImages
from kdprobe.runs.folder import RunFolder


def load_judged(
    spec: str,
    checkpoint: str | Path | None,
    *,
    named_by: str | Path | None = None,
    view: View = AS_IT_IS,
    published: View = AS_IT_IS,
    **options: Any,
) -> DataSet:
    """A data set for judging a run's network, of whose training images no files are decoded, unless `decode` is true.

    Bad training images are no obstacle if the run left them out. Where there are no test images, `test` is the part
    of the training images that the run held out, and `evaluated_on` says so. Without labels `test` is that
    part, or all images where the run held none out. Training images are shown as the others are.

    Args:
        spec: the data SPEC.
        checkpoint: as `kdprobe.load` takes it; only a run folder, or a file in one, knows about images.
        named_by: as `load_data` takes it.
        view: how image files are to be shown; it leaves open what was not asked for.
        published: how they are shown where that leaves it open.
        options: as `load_data` takes them.

    Raises:
        DataError: as `load_data`, and if a view was asked for and the images are in memory already.
    """
    settings = held_out_by(checkpoint, spec)
    skip_bad = bool(settings.get("skip_bad", False))
    held_out = {key: settings[key] for key in ("holdout", "seed")} if settings.get("holdout") else {}
    given = {"skip_bad": skip_bad, "everything": not held_out, "decode": "test", **options}
    given["view"], decode = view.otherwise(published), given["decode"]
    given["decode"] = decode and "test"  # what is learnt from is decoded when it is known how it is shown
    try:
        data = load_data(spec, named_by=named_by, **given)
    except NoTestImages:
        if not held_out:
            raise
        data = load_data(spec, named_by=named_by, **given, **held_out)
    if view != AS_IT_IS and data.shown.view == AS_IT_IS:
        raise DataError(
            f"how image files are cropped, resampled and decoded cannot be chosen for {data.spec}, whose images are "
            "made already; leave --crop-pct, --interpolation and --decode out"
        )
    data = _alike(data)
    return _whole(stored(data, "auto", None) if decode is True else data)


def _alike(data: DataSet) -> DataSet:
    """The same, with training images shown as those that networks are judged on."""
    images = data.train.images
    if not isinstance(images, Pictures) or data.shown.view == AS_IT_IS:
        return data
    return replace(data, train=replace(data.train, images=images.seen(data.shown.view)))


def _whole(data: DataSet) -> DataSet:
    """Bad images are left out now, in memory, or not at all: each prediction has its label."""
    images = data.test.images
    if not isinstance(images, Pictures):
        return data
    return replace(data, test=replace(data.test, images=replace(images, skip_bad=False)))


def check_held_out(spec: str, data: DataSet, first: str, other: str) -> None:
    """Refuse to judge a network on images that another one held out, and that it may have learnt from.

    Raises:
        DataError: if the run of the other checkpoint, of the same data, held out other images.
    """
    if data.evaluated_on != "holdout":
        return
    one, two = held_out_by(first, spec), held_out_by(other, spec) or _of_the_same_content(other, first)
    if two and (one["holdout"], one["seed"]) != (two["holdout"], two["seed"]):
        raise DataError(
            f"{other} held out {two['holdout']:g} of the training images by seed {two['seed']}, but {first} "
            f"{one['holdout']:g} by seed {one['seed']}, so one learnt from images that the other is judged on; "
            "judge them one at a time, or give test images with --data"
        )


def held_out_by(checkpoint: str | Path | None, spec: str) -> dict[str, Any]:
    """`holdout`, `seed` and `skip_bad` of the run that a checkpoint belongs to; empty if it is none of this data."""
    values = _values(_run_of(checkpoint))
    return _held_out(values) if values and values["data"]["spec"] == spec else {}


def _of_the_same_content(checkpoint: str, other: str) -> dict[str, Any]:
    """The same of a run that learnt from another run's data by another name, as their content says."""
    runs = _run_of(checkpoint), _run_of(other)
    try:
        one, two = (run and run.inputs() for run in runs)
    except KdprobeError:
        return {}
    values = _values(runs[0])
    return _held_out(values) if values and one and two and one.data and one.data == two.data else {}


def _run_of(checkpoint: str | Path | None) -> RunFolder | None:
    """The run that a checkpoint belongs to: a run folder, or what it holds, snapshots too; None if there is none."""
    path = Path(str(checkpoint))
    folders = map(RunFolder, (path,) if path.is_dir() else path.parents[:2])
    return None if checkpoint is None else next((run for run in folders if run.config_path.is_file()), None)


def _values(run: RunFolder | None) -> dict[str, Any]:
    """A run's configuration; empty where there is none to be read."""
    try:
        return run.values() if run else {}
    except KdprobeError:
        return {}  # where it matters, reading the checkpoint reports what is wrong with its run


def _held_out(values: dict[str, Any]) -> dict[str, Any]:
    data = values["data"]
    seed = values["seed"] if data["seed"] is None else data["seed"]
    return {"holdout": data["holdout"], "seed": seed, "skip_bad": data["skip_bad"]}
