"""`kdprobe train`; everything heavy is imported when it runs."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kdprobe.cli.options import (
    facts_options,
    modules_in,
    trust_option,
)
from kdprobe.errors import ConfigError, near_matches
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
    from kdprobe.runs.folder import RunFolder
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
    from kdprobe.training import train as run_training

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
    from kdprobe.cli.group import run

    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        echo(f"{out}: get CKA over epochs with kdprobe cka --run {out} --every {every}")
        return
    run("cka", "--run", out, "--every", every, "--device", device, *(["--quiet"] if quiet else []))
