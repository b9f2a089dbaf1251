"""The commands of sweeps; everything heavy is imported when a command runs."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kdprobe.cli.named_modules import modules_in
from kdprobe.cli.options import PATH, FiniteRange, flags, recipe_argument, sweep_options
from kdprobe.errors import ConfigError
from kdprobe.terminal import echo

if TYPE_CHECKING:
    from kdprobe.config import RunConfig
    from kdprobe.sweeps.ledger import Ledger


class _Sweep(click.Group):
    """`kdprobe sweep RECIPE ...` means `kdprobe sweep run RECIPE ...`: no recipe is called like a subcommand."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put `run` in front of what is neither a subcommand nor a plea for help."""
        if args and args[0] not in (*self.commands, "-h", "--help"):
            args = ["run", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_Sweep)
def sweep() -> None:
    """Train every cell of a grid, or show how far a sweep is.

    A grid has an axis for each of some keys of the configuration. `sweep RECIPE` is short for `sweep run RECIPE`.

    \b
    Example:
      kdprobe sweep digits/resnet8 --grid training.optimizer.lr=0.05,0.1,0.2 --seeds 3 --out sweeps/lr
      kdprobe sweep status sweeps/lr
    """


@sweep.command("run")
@recipe_argument()
@click.option(
    "--grid",
    "grids",
    multiple=True,
    required=True,
    metavar="KEY.KEY=V1,V2,...",
    help="Axis of the grid, a key and its values; repeatable.",
)
@sweep_options
def run_sweep(recipe: str, grids: tuple[str, ...], seeds: int | None, **options: Any) -> None:
    """Train every combination of the values.

    RECIPE is a YAML file or the name of a shipped recipe. Interrupted or extended, the same command goes on.

    \b
    Example:
      kdprobe sweep digits/resnet8 --grid training.epochs=4,8 --seeds 3 --out sweeps/epochs
    """
    from kdprobe.sweeps.cells import product, read_axes
    from kdprobe.sweeps.table import rows, worded_rows, write_table

    axes = read_axes(grids)
    if seeds is not None and "seed" in axes:
        raise ConfigError("--seeds and --grid seed=... both choose seeds; give one of them")
    if seeds is not None:
        axes["seed"] = list(range(seeds))
    ledger = _train_cells(recipe, lambda _: product(axes), **options)
    found = rows(ledger)
    write_table(found, ledger.path / "sweep.csv")
    echo(worded_rows(found))


@sweep.command("status")
@click.argument("folder", type=PATH)
def status(folder: Path) -> None:
    """Show how far a sweep is.

    It shows how many cells are done, running, failed and left, and the time to go, also while the sweep runs.

    \b
    Example:
      kdprobe sweep status sweeps/lr
    """
    from kdprobe.sweeps.ledger import open_ledger
    from kdprobe.sweeps.progress import status_lines

    for line in status_lines(open_ledger(folder)):
        echo(line)


@click.command("sweep-dropout")
@recipe_argument()
@click.option(
    "--kind",
    type=click.Choice(["feature", "logit", "both"]),
    show_default="feature, or the recipe's",
    help="Pair of rates that varies; both trains a grid for each.",
)
@click.option(
    "--rates",
    metavar="R1,R2,...",
    show_default="0.3,0.4,0.5,0.6,0.7, or the recipe's",
    help="Dropout rates that each network takes in turn, in [0, 1).",
)
@click.option(
    "--max-gap", type=FiniteRange(min=0), help="Largest difference of a cell's two rates; others are left out."
)
@sweep_options
def sweep_dropout(recipe: str, seeds: int | None, **options: Any) -> None:
    """Train DropKD students over a grid of dropout rates.

    The rates of teacher and student vary, and the grid is drawn; the other pair of rates stays as configured. RECIPE is
    a YAML file or the name of a shipped recipe, whose section `sweep` may set other defaults. Interrupted or extended,
    the same command goes on.

    \b
    Example:
      kdprobe sweep-dropout digits/dropout-sweep --teacher runs/digits-vit-teacher-seed0 --out sweeps/dropout
    """
    from kdprobe.cli.group import run
    from kdprobe.recipe import read_sweep
    from kdprobe.sweeps.cells import dropout_grid, read_rates

    given = {key: options.pop(key) for key in ("kind", "rates", "max_gap")} | {"seeds": seeds}
    chosen = _SWEEP | read_sweep(recipe) | {key: value for key, value in given.items() if value is not None}
    rates, seeds, max_gap = read_rates(str(chosen["rates"])), int(chosen["seeds"]), chosen["max_gap"]
    kinds = ["feature", "logit"] if chosen["kind"] == "both" else [chosen["kind"]]

    def combinations(config: "RunConfig") -> list[dict[str, Any]]:
        if config.method["name"] != "dropkd":
            raise ConfigError(
                f"sweep-dropout varies the rates of method 'dropkd', but {recipe} has method {config.method['name']!r}"
            )
        return [values for name in kinds for values in dropout_grid(name, rates, seeds=range(seeds), max_gap=max_gap)]

    ledger = _train_cells(recipe, combinations, **options)
    run("dropout", ledger.path, *flags(quiet=options["quiet"]))


_SWEEP = {"kind": "feature", "rates": "0.3,0.4,0.5,0.6,0.7", "max_gap": None, "seeds": 3}


def _train_cells(
    recipe: str,
    combinations: "Callable[[RunConfig], list[dict[str, Any]]]",
    *,
    out: Path | None,
    engine: str,
    device: str,
    retries: int,
    told: dict[str, Any],
    quiet: bool,
    assignments: tuple[str, ...],
    teacher: str | None,
    data: str | None,
    **of_engine: Any,
) -> "Ledger":
    """Bring all cells of a grid over a recipe to their end."""
    from kdprobe.distillers import option_types
    from kdprobe.recipe import configure, folder_name, read_recipe
    from kdprobe.sweeps.cells import with_values
    from kdprobe.sweeps.completion import complete
    from kdprobe.sweeps.engines import check_options, make_engine
    from kdprobe.sweeps.work import Order
    from kdprobe.terminal.progress import say
    from kdprobe.user_code import trusted_modules, trusting

    check_options(engine, of_engine)
    given: dict[str, Any] = {"assignments": assignments, "teacher": teacher, "data": data, "teacher_facts": told}
    config = configure(read_recipe(recipe), option_types(), source=recipe, **given)
    base, grid = config.model_dump(mode="json"), combinations(config)
    folder = out or Path("sweeps") / folder_name(recipe)
    with trusting({module for values in grid for module in modules_in(with_values(base, values))}):
        order = Order(folder.resolve(), device=device, trust=tuple(sorted(trusted_modules())))
        tell = (lambda _: None) if quiet else say
        reach: dict[str, Any] = {"retries": retries, "say": tell, "quiet": quiet}
        return complete(folder, config, grid, option_types(), lambda: make_engine(engine, order, **of_engine), **reach)
