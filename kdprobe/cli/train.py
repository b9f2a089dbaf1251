"""`kdprobe train`; everything heavy is imported when it runs."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kdprobe.cli.named_modules import modules_in
from kdprobe.cli.options import (
    PATH,
    data_option,
    device_option,
    facts_options,
    flags,
    method_option,
    out_option,
    quiet_option,
    recipe_argument,
    resume_option,
    seed_option,
    set_option,
    teacher_option,
    trust_option,
)
from kdprobe.cli.shells.words import method_words
from kdprobe.errors import ConfigError, near_matches
from kdprobe.formats.counts import counted
from kdprobe.terminal import echo

if TYPE_CHECKING:
    from kdprobe.config import RunConfig


@click.command()
@recipe_argument(required=False)
@set_option()
@teacher_option()
@method_option(
    "Method instead of the recipe's, with the recipe's options for it.", metavar="NAME", shell_complete=method_words
)
@data_option(show_default="the recipe's")
@seed_option("Seed of initialisation, shuffling and augmentation.")
@out_option("Run folder.", of=PATH, show_default="runs/RECIPE[-METHOD]-seedN")
@resume_option("Continue the run in --out.")
@click.option("--download", is_flag=True, help="Fetch the data set if it is missing.")
@click.option("--skip-bad", is_flag=True, help="Count images that cannot be decoded, and leave them out.")
@click.option("--logger", "loggers", multiple=True, metavar="NAME", help="Give metrics to this logger too; repeatable.")
@click.option("--tensorboard", is_flag=True, help="The same as --logger tensorboard: write its event files too.")
@device_option()
@quiet_option()
@facts_options
@trust_option
def train(
    recipe: str | None,
    assignments: tuple[str, ...],
    method: str | None,
    seed: int | None,
    out: Path | None,
    *,
    resume: bool,
    download: bool,
    loggers: tuple[str, ...],
    tensorboard: bool,
    device: str,
    told: dict[str, Any],
    quiet: bool,
    **given: Any,
) -> None:
    """Train a teacher, or a student with a method.

    RECIPE is a YAML file or the name of a shipped recipe. The line of each epoch has the terms of the loss with their
    weights, so that they sum to the loss.

    \b
    Example:
      kdprobe train digits/resnet8-dropkd --teacher runs/digits-vit-teacher-seed0
    """
    from kdprobe.config import override
    from kdprobe.distillers import option_types
    from kdprobe.recipe import configure, folder_name, read_recipe, recipes
    from kdprobe.runs.folder import RunFolder
    from kdprobe.user_code import trusting

    received: Path | None = None
    if recipe is not None:
        values = read_recipe(recipe, method=method)
    elif resume and out is not None:
        received = RunFolder(out).config_path
        values = RunFolder(out).config(option_types()).model_dump(mode="json")
    else:
        raise ConfigError(f"give a recipe, or --resume with --out RUN{near_matches('', recipes())}")
    options: dict[str, Any] = {"assignments": assignments, "seed": seed, "teacher_facts": told}
    config = configure(values, option_types(), source=recipe or str(out), **options, **given)
    if out is None:
        parts = [folder_name(str(recipe)), *([method] if method else []), f"seed{config.seed}"]
        out = Path("runs") / "-".join(parts)
    named = [*modules_in(override({}, assignments)), *(modules_in(values) if received is None else ())]
    with trusting(named):
        _train(
            config, out, device=device, quiet=quiet, resume=resume, download=download, named_by=received,
            loggers=[*loggers, *(["tensorboard"] if tensorboard else [])],
        )  # fmt: skip


def _train(config: "RunConfig", out: Path, *, device: str, quiet: bool, **options: Any) -> None:
    """Train, print what came out, and compare the student with its teacher where that is configured."""
    from kdprobe.training import train as run_training

    result = run_training(config, out, device=device, quiet=quiet, **options)
    if int(os.environ.get("RANK", "0")) > 0:
        return  # of several processes the first one prints
    share, epochs = result["accuracy"], f"{counted(result['epochs'], 'epoch')} in {result['seconds']:.1f} s"
    if share is None:
        echo(f"{out}: trained without labels, {epochs}")
    else:
        echo(f"{out}: accuracy {share:.4f} on {result['evaluated_on']} after {epochs}")
    if config.probe is not None and not (out / "cka-over-time.npz").exists():
        _probe(out, every=config.probe.every, device=device, quiet=quiet)


def _probe(out: Path, *, every: int, device: str, quiet: bool) -> None:
    """CKA over time of a finished run, by the command that is installed for it."""
    from kdprobe.cli.group import run

    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        echo(f"{out}: get CKA over epochs with kdprobe cka --run {out} --every {every}")
        return
    run("cka", "--run", out, "--every", every, "--device", device, *flags(quiet=quiet))
