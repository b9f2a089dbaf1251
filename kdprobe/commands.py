"""The core's own commands, thin; everything heavy is imported when a command runs."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kdprobe.errors import ConfigError, DataError, near_matches
from kdprobe.options import (
    facts_of_both_options,
    facts_options,
    modules_in,
    overwrite_option,
    trust_option,
    view_options,
)
from kdprobe.terminal import echo

if TYPE_CHECKING:
    from kdprobe.config import RunConfig


@click.command()
@click.argument("recipe", required=False)
@click.option("--set", "assignments", multiple=True, metavar="KEY.KEY=VALUE", help="Override one value; repeatable.")
@click.option("--teacher", metavar="CKPT", help="Run folder, checkpoint file or timm:NAME.")
@click.option("--method", metavar="NAME", help="Instead of the recipe's, with the recipe's options for it.")
@click.option("--data", metavar="SPEC", help="digits, cifar10:DIR, folder:DIR, ...")
@click.option("--seed", type=int, help="Of initialisation, shuffling and augmentation.")
@click.option("--out", type=click.Path(path_type=Path), help="Run folder; runs/RECIPE[-METHOD]-seedN if not given.")
@click.option("--resume", is_flag=True, help="Continue the run in --out.")
@click.option("--download", is_flag=True, help="Fetch the data set if it is missing.")
@click.option("--skip-bad", is_flag=True, help="Count and leave out images that cannot be decoded.")
@click.option("--tensorboard", is_flag=True, help="Write event files for TensorBoard too.")
@click.option("--device", default="auto", show_default=True)
@click.option("--quiet", is_flag=True, help="No progress.")
@facts_options
@trust_option
def train(
    recipe: str | None,
    assignments: tuple[str, ...],
    teacher: str | None,
    method: str | None,
    data: str | None,
    seed: int | None,
    out: Path | None,
    *,
    resume: bool,
    download: bool,
    skip_bad: bool,
    tensorboard: bool,
    device: str,
    told: dict[str, Any],
    quiet: bool,
) -> None:
    """Train a teacher, or a student with a method.

    RECIPE is a YAML file or the name of a shipped recipe.

    Example: kdprobe train digits/resnet8-dropkd --teacher runs/digits-vit-teacher-seed0
    """
    from kdprobe.config import override, parse, quoted
    from kdprobe.distillers import option_types
    from kdprobe.recipe import read_recipe, recipes
    from kdprobe.runs import RunFolder
    from kdprobe.user_code import trusting

    received: Path | None = None
    if recipe is None:
        if not resume or out is None:
            raise ConfigError(f"give a recipe{near_matches('', recipes())}; or --resume with --out RUN")
        received = RunFolder(out).config_path
        values: dict[str, Any] = RunFolder(out).config(option_types()).model_dump(mode="json")
    else:
        values = read_recipe(recipe, method=method)
    chosen = {"teacher": teacher, "teacher_facts": told or None, "seed": seed}
    values |= {key: value for key, value in chosen.items() if value is not None}
    if data is not None:
        values = override(values, [f"data.spec={quoted(data)}"])
    if skip_bad:
        values = override(values, ["data.skip_bad=true"])
    config = parse(override(values, assignments), option_types(), source=recipe or str(out))
    if out is None:
        name = Path(str(recipe)).stem if str(recipe).endswith((".yaml", ".yml")) else str(recipe).replace("/", "-")
        out = Path("runs") / "-".join([name, *([method] if method else []), f"seed{config.seed}"])
    named = [*modules_in(override({}, assignments)), *(modules_in(values) if received is None else ())]
    options = {"download": download, "tensorboard": tensorboard, "named_by": received}
    with trusting(named):
        _train(config, out, resume=resume, device=device, quiet=quiet, **options)


def _train(config: "RunConfig", out: Path, *, device: str, quiet: bool, **options: Any) -> None:
    """Train, say what came out, and compare the student with its teacher where that is configured."""
    from kdprobe.training.loop import train as run_training

    result = run_training(config, out, device=device, quiet=quiet, **options)
    if int(os.environ.get("RANK", "0")) > 0:
        return  # one of several processes: the first one speaks
    echo(
        f"{out}: accuracy {result['accuracy']:.4f} on {result['evaluated_on']} after {result['epochs']} epochs "
        f"in {result['seconds']:.1f} s"
    )
    if config.probe is not None and not (out / "cka-over-time.npz").exists():
        _probe(out, every=config.probe.every, device=device, quiet=quiet)


def _probe(out: Path, *, every: int, device: str, quiet: bool) -> None:
    """CKA over time of a finished run, by the command that is installed for it."""
    from kdprobe.cli import run

    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        echo(f"{out}: get CKA over epochs with kdprobe cka --run {out} --every {every}")
        return
    run("cka", "--run", out, "--every", every, "--device", device, *(["--quiet"] if quiet else []))


@click.command()
@click.option("--teacher", metavar="CKPT", help="Network whose features go to /teacher.")
@click.option("--student", metavar="CKPT", help="Network whose features go to /student.")
@click.option("--checkpoint", metavar="CKPT", help="The same as --student, for a single network.")
@click.option("--data", metavar="SPEC", help="The data set that the (student's) checkpoint names, if not given.")
@click.option(
    "--layers", multiple=True, default=("stages",), show_default=True, metavar="GLOB", help="Of both; repeatable."
)
@click.option("--teacher-layers", multiple=True, metavar="GLOB", help="Of the teacher instead of --layers.")
@click.option("--student-layers", multiple=True, metavar="GLOB", help="Of the student instead of --layers.")
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="The new FILE.h5.")
@click.option("--grams", is_flag=True, help="Gram matrices of each minibatch instead of features.")
@click.option("--dtype", type=click.Choice(["float32", "float16"]), default="float32", show_default=True)
@click.option("--compression", type=click.Choice(["gzip", "none"]), default="gzip", show_default=True)
@click.option("--batch-size", type=click.IntRange(min=1), default=64, show_default=True)
@click.option("--shard-size", "part_size", type=click.IntRange(min=1), help="At most so many samples per file.")
@click.option("--resume", is_flag=True, help="Continue an interrupted dump.")
@overwrite_option
@view_options
@click.option("--device", default="auto", show_default=True)
@click.option("--quiet", is_flag=True, help="No progress.")
@facts_of_both_options
@trust_option
def dump(
    teacher: str | None,
    student: str | None,
    checkpoint: str | None,
    data: str | None,
    layers: tuple[str, ...],
    teacher_layers: tuple[str, ...],
    student_layers: tuple[str, ...],
    out: Path,
    *,
    grams: bool,
    dtype: str,
    compression: str,
    batch_size: int,
    part_size: int | None,
    resume: bool,
    overwrite: bool,
    device: str,
    view: dict[str, Any],
    told: dict[str, Any],
    quiet: bool,
) -> None:
    """Stream the features of one or two networks on the test images into an HDF5 file.

    Example: kdprobe dump --teacher runs/vit --student runs/resnet8 --layers stages --out features.h5
    """
    from functools import partial

    from kdprobe.data import View
    from kdprobe.dump import Dump, write
    from kdprobe.files import require_writable
    from kdprobe.progress import say
    from kdprobe.training.distributed import ranks
    from kdprobe.views import open_views

    if student and checkpoint:
        raise ConfigError("--checkpoint and --student mean the same network; give one of them")
    given = {"teacher": teacher, "student": student or checkpoint}
    checkpoints = {role: spec for role, spec in given.items() if spec}
    if not checkpoints:
        raise ConfigError("give at least one network with --teacher, --student or --checkpoint")
    with ranks(device) as processes:
        if processes.main:
            require_writable(out)
        views = open_views(checkpoints, data=data, view=View(**view), told=told, shown=True)
        silent = quiet or not processes.main
        wanted = Dump(
            views.models,
            partial(views.minibatches, batch_size=batch_size, device=processes.device, label="dump", quiet=silent),
            n_samples=views.n_samples,
            batch_size=batch_size,
            layers={"teacher": teacher_layers or layers, "student": student_layers or layers},
            data=views.data,
            shown=views.shown,
            content="grams" if grams else "features",
            dtype=dtype,
            compression="gzip" if compression == "gzip" else "none",
            device=processes.device,
        )
        tell = (lambda _: None) if quiet else say
        write(wanted, out, part_size=part_size, resume=resume, overwrite=overwrite, shard=processes.shard, say=tell)
    if processes.main:
        echo(f"{out}: {views.n_samples} samples of {views.data}")


@click.group()
def data() -> None:
    """Look at data sets."""


@data.command("check")
@click.argument("spec")
@click.option("--quiet", is_flag=True, help="No progress.")
@trust_option
def check_data(spec: str, *, quiet: bool) -> None:
    """Count the images of each class, decode every file, and compare with the published counts.

    Example: kdprobe data check rafdb:/data/RAF-DB
    """
    from kdprobe.data.check import check

    found = check(spec, quiet=quiet)
    echo(found.counts.to_string(index=False))
    for complaint in found.complaints:
        echo(complaint)
    for line in found.left_out:
        echo(line)
    if found.complaints:
        raise DataError(f"{spec} is not as it should be: {len(found.complaints)} complaints")
    others = f"{found.n_left_out} other {'file or folder was' if found.n_left_out == 1 else 'files or folders were'}"
    rest = f"{others} left out" if found.n_left_out else "nothing to complain of"
    echo(f"{spec}: {found.counts.train.sum()} training and {found.counts.test.sum()} test images, {rest}")
