"""The commands of sweeps; everything heavy is imported when a command runs."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kdprobe.cli.options import facts_options, modules_in, trust_option
from kdprobe.errors import ConfigError, Stopped, SweepError
from kdprobe.terminal import echo
from kdprobe.terminal.progress import say, worded_time

if TYPE_CHECKING:
    from kdprobe.config import RunConfig
    from kdprobe.sweeps.engine import Engine
    from kdprobe.sweeps.ledger import Ledger, State

_OPTIONS = (
    click.option("--set", "assignments", multiple=True, metavar="KEY.KEY=VALUE", help="Override a value; repeatable."),
    click.option("--teacher", metavar="CKPT", help="Run folder, checkpoint file or timm:NAME."),
    click.option("--data", metavar="SPEC", help="digits, cifar10:DIR, folder:DIR, ..."),
    click.option("--seeds", type=click.IntRange(min=1), metavar="N", help="Trainings of each cell: seeds 0 to N - 1."),
    click.option("--out", type=click.Path(path_type=Path), help="Folder of the sweep; sweeps/RECIPE if not given."),
    click.option("--engine", type=click.Choice(["local", "ray", "slurm"]), default="local", show_default=True),
    click.option("--slots", type=int, help="Cells at a time on this machine."),
    click.option("--address", help="Of a running Ray cluster: auto or HOST:PORT; one is started here if not given."),
    click.option("--processors", type=click.FloatRange(min=0), help="Per cell, for ray.  [default: 1]"),
    click.option(
        "--gpus", type=click.FloatRange(min=0), help="Per cell, for ray; a fraction shares one.  [default: 1 if any]"
    ),
    click.option("--slurm", multiple=True, metavar="KEY=VALUE", help="A parameter of submitit; repeatable."),
    click.option("--retries", type=click.IntRange(min=0), default=2, show_default=True, help="Of a cell that fails."),
    click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda."),
    click.option("--quiet", is_flag=True, help="No line per cell."),
)


def _sweep_options(command: Callable[..., Any]) -> Callable[..., Any]:
    command = facts_options(trust_option(command))
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


class _Sweep(click.Group):
    """`kdprobe sweep RECIPE ...` means `kdprobe sweep run RECIPE ...`: no recipe is called like a subcommand."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put `run` in front of what is neither a subcommand nor a plea for help."""
        if args and args[0] not in (*self.commands, "-h", "--help"):
            args = ["run", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_Sweep)
def sweep() -> None:
    """Train every cell of a grid over configuration keys, or see how far a sweep is.

    \b
    Example:
      kdprobe sweep digits/resnet8 --grid training.optimizer.lr=0.05,0.1,0.2 --seeds 3 --out sweeps/lr
      kdprobe sweep status sweeps/lr
    """


@sweep.command("run")
@click.argument("recipe")
@click.option(
    "--grid", "grids", multiple=True, required=True, metavar="KEY.KEY=V1,V2,...", help="One axis; repeatable."
)
@_sweep_options
def run_sweep(recipe: str, grids: tuple[str, ...], seeds: int | None, **options: Any) -> None:
    """Train every combination of the values; interrupted or extended, the same command goes on.

    Example: kdprobe sweep digits/resnet8 --grid training.epochs=4,8 --seeds 3 --out sweeps/epochs
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
@click.argument("folder", type=click.Path(path_type=Path))
def status(folder: Path) -> None:
    """Show what is done, running, failed and left, and the time to go; works while the sweep runs.

    Example: kdprobe sweep status sweeps/lr
    """
    from kdprobe.sweeps.ledger import open_ledger, seconds_to_go

    ledger = open_ledger(folder)
    states = ledger.states()
    counts = {name: sum(state.name == name for state in states.values()) for name in _STATES}
    echo(f"{len(states)} cells: " + ", ".join(f"{count} {name}" for name, count in counts.items()))
    for cell in ledger.distinct():
        if line := _status_line(ledger, states[cell.id]):
            echo(f"  {cell.id}  {cell.label}: {line}")
    if counts["done"] < len(states):
        seconds = seconds_to_go(ledger, states.values())
        echo("time to go: " + ("unknown" if seconds is None else worded_time(seconds)))


@click.command("sweep-dropout")
@click.argument("recipe")
@click.option(
    "--kind", type=click.Choice(["feature", "logit", "both"]), help="Which pair of rates.  [default: feature]"
)
@click.option("--rates", metavar="R1,R2,...", help="Of both networks, in [0, 1).  [default: 0.3,0.4,0.5,0.6,0.7]")
@click.option("--max-gap", type=click.FloatRange(min=0), help="Leave out cells whose two rates differ by more.")
@_sweep_options
def sweep_dropout(
    recipe: str, kind: str | None, rates: str | None, max_gap: float | None, seeds: int | None, **options: Any
) -> None:
    """Train DropKD students over a grid of teacher and student dropout rates, and draw it.

    The two rates that do not vary stay as configured. Interrupted or extended, the same command goes on.

    \b
    Example:
      kdprobe sweep-dropout digits/dropout-sweep --teacher runs/digits-vit-teacher-seed0 --out sweeps/dropout
    """
    from kdprobe.cli.group import run
    from kdprobe.recipe import read_sweep
    from kdprobe.sweeps.cells import dropout_grid, read_rates

    given = {"kind": kind, "rates": rates, "max_gap": max_gap, "seeds": seeds}
    chosen = _SWEEP | read_sweep(recipe) | {key: value for key, value in given.items() if value is not None}
    grid = {
        "rates": read_rates(str(chosen["rates"])),
        "seeds": range(int(chosen["seeds"])),
        "max_gap": chosen["max_gap"],
    }
    kinds = ["feature", "logit"] if chosen["kind"] == "both" else [chosen["kind"]]

    def combinations(config: "RunConfig") -> list[dict[str, Any]]:
        if config.method["name"] != "dropkd":
            raise ConfigError(
                f"sweep-dropout varies the rates of method 'dropkd', but {recipe} has method {config.method['name']!r}"
            )
        return [values for name in kinds for values in dropout_grid(name, **grid)]

    ledger = _train_cells(recipe, combinations, **options)
    run("dropout", ledger.path, *(["--quiet"] if options["quiet"] else []))


_SWEEP = {"kind": "feature", "rates": "0.3,0.4,0.5,0.6,0.7", "max_gap": None, "seeds": 3}
_STATES = ("done", "running", "failed", "left")


def _train_cells(
    recipe: str,
    combinations: "Callable[[RunConfig], list[dict[str, Any]]]",
    *,
    assignments: Sequence[str],
    teacher: str | None,
    told: dict[str, Any],
    data: str | None,
    out: Path | None,
    retries: int,
    quiet: bool,
    **engine: Any,
) -> "Ledger":
    """Bring all cells to their end.

    Raises:
        Stopped: when told to stop, after the cells that ran saved their states.
        SweepError: if cells failed in the end, and what `begin` and the engines raise.
    """
    from kdprobe.config import override, parse, quoted
    from kdprobe.distillers import option_types
    from kdprobe.recipe import read_recipe
    from kdprobe.sweeps.cells import Cell, make_cells
    from kdprobe.sweeps.driver import Driver
    from kdprobe.sweeps.ledger import begin, check_folder
    from kdprobe.sweeps.places import as_begun, under_old_names
    from kdprobe.sweeps.trial import try_cells
    from kdprobe.training.places import require_inputs
    from kdprobe.training.signals import stop_requests
    from kdprobe.user_code import trusting

    _check_engine(**engine)
    values = read_recipe(recipe)
    values |= {} if teacher is None else {"teacher": teacher}
    values |= {"teacher_facts": told} if told else {}
    values = override(values, [*([] if data is None else [f"data.spec={quoted(data)}"]), *assignments])
    config = parse(values, option_types(), source=recipe)
    name = Path(recipe).stem if recipe.endswith((".yaml", ".yml")) else recipe.replace("/", "-")
    folder = out or Path("sweeps") / name
    base, grid = config.model_dump(mode="json"), combinations(config)
    begun, places = as_begun(folder, base, grid)
    cells = make_cells(begun, grid, option_types())
    now = [Cell(cell.id, cell.values, base) for cell in cells]
    named = {module for cell in now for module in modules_in(cell.config)}
    with trusting(named):
        check_folder(folder, cells, {})
        if folder.exists():
            require_inputs(config, folder)
        inputs = try_cells(now, option_types())
        before = under_old_names(inputs, cells, now) if places else {}
        inputs |= before
        check_folder(folder, cells, inputs, moved=before)
    tell = (lambda _: None) if quiet else say
    with stop_requests() as stop:
        with trusting(named):
            runner = _engine(folder.resolve(), **engine)  # one that cannot be had leaves no folder
        try:
            ledger = begin(folder, cells, inputs=inputs, places=places)
            tally = Driver(ledger, runner, retries=retries, say=tell, stop=stop, quiet=quiet).run()
        finally:
            runner.close()
    if stop.reason is not None:
        raise Stopped(f"stopped by {stop.reason}; the same command goes on, kdprobe sweep status {ledger.path} looks")
    if tally.failed:
        cell, reason = next(iter(tally.failed.items()))
        raise SweepError(
            f"{len(tally.failed)} of {len(ledger.distinct())} cells failed, the first one, {cell}, with: {reason}; "
            f"see {ledger.path / 'logs'}; the same command tries again"
        )
    return ledger


def _check_engine(*, engine: str, device: str, **given: Any) -> None:
    """Refuse options of another engine."""
    for name, of in {"slots": "local", "address": "ray", "processors": "ray", "gpus": "ray", "slurm": "slurm"}.items():
        if of != engine and given[name] not in (None, ()):
            raise ConfigError(f"--{name} is for --engine {of}, not for {engine}")


def _engine(
    folder: Path,
    *,
    engine: str,
    device: str,
    slots: int | None,
    address: str | None,
    processors: float | None,
    gpus: float | None,
    slurm: Sequence[str],
) -> "Engine":
    from kdprobe.config import override
    from kdprobe.devices import pick_device, usable_processors
    from kdprobe.sweeps.local import LocalEngine, make_slots
    from kdprobe.sweeps.work import Order
    from kdprobe.user_code import trusted_modules

    order = Order(folder, device=device, trust=tuple(sorted(trusted_modules())))
    if engine == "ray":
        from kdprobe.sweeps.ray import RayEngine

        return RayEngine(order, address=address, processors=1 if processors is None else processors, gpus=gpus)
    if engine == "slurm":
        from kdprobe.sweeps.slurm import SlurmEngine

        options = override({}, slurm)
        return SlurmEngine(order, cluster=str(options.pop("cluster", "slurm")), options=options)
    n_gpus = 0
    if pick_device(device).type == "cuda":
        import torch

        n_gpus = torch.cuda.device_count()
    return LocalEngine(order, make_slots(slots, processors=usable_processors(), n_gpus=n_gpus))


def _status_line(ledger: "Ledger", state: "State") -> str | None:
    """What there is to say of a cell that runs, failed, or has a damaged result or damaged weights."""
    damaged = f"{state.damaged}, so it is not done; " if state.damaged else ""
    attempt = state.attempt
    if state.name == "running" and attempt is not None:
        epochs = len(ledger.run(attempt.path.name.partition(".")[0]).metrics())
        age = ledger.heartbeat_age(attempt)
        return f"{damaged}running on {attempt.host}, {epochs} epochs done, heartbeat {age:.0f} s ago"
    if state.name == "failed" and attempt is not None:
        return f"{damaged}failed in attempt {attempt.number}: {attempt.error}"
    return damaged.removesuffix("; ") or None
