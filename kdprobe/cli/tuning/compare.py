"""`kdprobe compare`; everything heavy is imported when it runs."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kdprobe.cli.named_modules import modules_in
from kdprobe.cli.options import (
    PATH,
    FiniteRange,
    Whole,
    data_option,
    engine_options,
    facts_options,
    out_option,
    overwrite_option,
    quiet_option,
    recipe_argument,
    seeds_option,
    set_option,
    teacher_option,
    trust_option,
)
from kdprobe.cli.shells.words import method_words
from kdprobe.errors import ConfigError
from kdprobe.terminal import echo

if TYPE_CHECKING:
    from kdprobe.sweeps.engine import Engine
    from kdprobe.tuning.plan import Plan


@click.command()
@recipe_argument()
@click.option(
    "--methods",
    required=True,
    metavar="M1,M2,...",
    help="Methods, or variants that the recipe defines.",
    shell_complete=method_words,
)
@click.option(
    "--trials",
    type=Whole(min=1),
    default=8,
    show_default=True,
    metavar="N",
    help="Settings that are tried for each method, the published one among them.",
)
@seeds_option("Trainings of each chosen setting, with the seeds 0 to N - 1.", default=5, show_default=True)
@click.option(
    "--holdout",
    type=FiniteRange(0, 1, min_open=True, max_open=True),
    default=0.2,
    show_default=True,
    metavar="FRACTION",
    help="Training images that trials do not learn from, but are judged on.",
)
@click.option(
    "--trial-epochs",
    type=FiniteRange(0, 1, min_open=True),
    default=1.0,
    show_default=True,
    metavar="FRACTION",
    help="Epochs of a trial, as a fraction of the recipe's.",
)
@click.option("--published", is_flag=True, help="Train and test the published settings too, with the same seeds.")
@click.option("--dry-run", is_flag=True, help="Say what there is to train, how long it takes and how large it is.")
@set_option()
@teacher_option()
@data_option(show_default="the recipe's")
@out_option("Folder of the comparison.", of=PATH, show_default="comparisons/RECIPE")
@engine_options
@overwrite_option()
@quiet_option()
@facts_options
@trust_option
def compare(
    recipe: str,
    methods: str,
    *,
    assignments: tuple[str, ...],
    teacher: str | None,
    data: str | None,
    told: dict[str, Any],
    out: Path | None,
    dry_run: bool,
    **options: Any,
) -> None:
    """Compare methods, all tuned alike and tested once.

    Each method gets the same number of trials: its published setting, and others from its own ranges of options, with
    the same learning rates for all. The best one on the held-out images is trained anew on all training images, with
    several seeds, and only then are the test images read. Interrupted, or given more trials, seeds or methods, the same
    command goes on.

    \b
    Example:
      kdprobe compare digits/resnet8-kd --methods plain,kd,dropkd --teacher runs/digits-vit-teacher-seed0 --dry-run
    """
    from kdprobe.recipe import folder_name
    from kdprobe.tuning.contenders import contenders, shared_config
    from kdprobe.tuning.plan import Plan
    from kdprobe.user_code import trusting

    names = [name.strip() for name in methods.split(",")]
    config = shared_config(recipe, assignments, teacher=teacher, data=data, teacher_facts=told)
    plan = Plan(
        contenders(recipe, names),
        config,
        n_trials=options.pop("trials"),
        n_seeds=options.pop("seeds"),
        **{key: options.pop(key) for key in ("holdout", "trial_epochs", "published")},
    )
    if config.teacher is None and (taught := [one.name for one in plan.contenders if one.uses_teacher]):
        raise ConfigError(
            f"--methods names {', '.join(taught)}, which cannot do without a teacher; give --teacher RUN, "
            "CHECKPOINT or timm:NAME"
        )
    folder = out or Path("comparisons") / folder_name(recipe)
    with trusting(set(modules_in(config.model_dump(mode="json")))):
        if dry_run:
            _announce(plan, folder, device=options["device"])
        else:
            _compare(plan, folder, **options)


def _announce(plan: "Plan", folder: Path, *, device: str) -> None:
    from kdprobe.tuning.budget import budget_lines, estimate

    for line in budget_lines(estimate(plan, device), folder):
        echo(line)


def _compare(
    plan: "Plan",
    folder: Path,
    *,
    engine: str,
    device: str,
    retries: int,
    overwrite: bool,
    quiet: bool,
    **of_engine: Any,
) -> None:
    """Bring a comparison to its end, and save and draw what came out."""
    from kdprobe.cli.saving import Saving
    from kdprobe.formats.outputs import Output, permit, write_sealed
    from kdprobe.sweeps.engines import check_options, make_engine
    from kdprobe.sweeps.work import Order
    from kdprobe.teachers.store import STORE_LASTS
    from kdprobe.terminal.progress import say
    from kdprobe.tuning.comparing import run_comparison
    from kdprobe.tuning.result import comparison_result, tables
    from kdprobe.tuning.words import latex_table, worded_comparison
    from kdprobe.user_code import trusted_modules

    check_options(engine, of_engine)
    path, kind = folder / "comparison.npz", "table of a tuned-comparison result"
    saving = Saving({path: "tuned-comparison"}, tables=_TABLES, overwrite=overwrite, quiet=quiet)
    permit([Output(path.with_suffix(".tex"), kind)], overwrite=overwrite)

    def engine_for(sweep: Path) -> "Callable[[], Engine]":
        order = Order(sweep.resolve(), device=device, trust=tuple(sorted(trusted_modules())))
        return lambda: make_engine(engine, order, **of_engine)

    tell = (lambda _: None) if quiet else say
    if (facts := plan.config.teacher_facts) is not None and facts.store is not None:
        tell(f"teacher.store {facts.store} keeps the teacher's outputs; {STORE_LASTS}")
    result = comparison_result(run_comparison(plan, folder, engine_for, retries=retries, say=tell, quiet=quiet))
    texts = tables(result)
    saving.save(path, result, texts.pop("finals"), **texts)
    write_sealed(path.with_suffix(".tex"), latex_table(result), kind, overwrite=overwrite)
    echo(worded_comparison(result))
    saving.draw()


_TABLES = (".csv", "-trials.csv", "-differences.csv")
