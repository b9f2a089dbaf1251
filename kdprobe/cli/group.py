"""The `kdprobe` command: a group of kdprobe's own subcommands, and of those that other packages add.

Any installed package can add a command by naming it under the entry-point group `kdprobe.commands`. kdprobe's own are
listed here: they do not depend on what was written down when it was installed.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import click

from kdprobe import __version__
from kdprobe.cli.hidden import check_not_hidden, hidden_module
from kdprobe.errors import ConfigError, KdprobeError, near_matches
from kdprobe.packages import found
from kdprobe.provenance import running
from kdprobe.terminal import echo
from kdprobe.terminal.progress import phase

GROUP = "kdprobe.commands"

#: where each of kdprobe's own commands is
OWN = {
    "train": "kdprobe.cli.train:train",
    "dump": "kdprobe.cli.dump:dump",
    "runs": "kdprobe.cli.runs:runs",
    "list": "kdprobe.cli.lists.group:lists",
    "data": "kdprobe.cli.data:data",
    "demo": "kdprobe.cli.demo:demo",
    "export": "kdprobe.cli.export:export",
    "completion": "kdprobe.cli.shells.completion:completion",
    "sweep": "kdprobe.cli.sweep:sweep",
    "compare": "kdprobe.cli.tuning.compare:compare",
    "sweep-dropout": "kdprobe.cli.sweep:sweep_dropout",
    "dropout": "analyses.commands.dropout:dropout",
    "cka": "analyses.commands.cka:cka",
    "similarity": "analyses.commands.similarity:similarity",
    "map": "analyses.commands.map:map_networks",
    "decompose": "analyses.commands.decompose:decompose",
    "diagnose": "analyses.commands.diagnose:diagnose",
    "evaluate": "analyses.commands.evaluate:evaluate",
    "compound": "analyses.commands.compound:compound",
    "fidelity": "analyses.commands.fidelity:fidelity",
    "images": "analyses.commands.images:images",
    "table": "analyses.commands.images:table",
    "complexity": "analyses.commands.complexity:complexity",
    "figures": "figures.commands:figures",
    "report": "figures.commands:report",
    "paper": "figures.commands:paper",
}


class Commands(click.Group):
    """A group whose members are imported when asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all installed commands, sorted."""
        return sorted(_entry_points())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command; None where there is no such name."""
        entry = _entry_points().get(cmd_name)
        if entry is None:
            return None
        try:
            return _load(entry)
        except KdprobeError as error:
            return _broken(entry, error)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, with near matches for a mistyped name."""
        if args and not args[0].startswith("-") and args[0] not in _entry_points():
            raise click.UsageError(f"no command {args[0]!r}{near_matches(args[0], _entry_points())}", ctx)
        return super().resolve_command(ctx, args)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="kdprobe")
def cli() -> None:
    """Train students by knowledge distillation, look inside, measure and draw."""


def run_line(words: Sequence[str]) -> int:
    """Run a whole command line.

    Returns:
        0, or 2 where there was no command and its help is shown.

    Raises:
        KdprobeError: as the command raises it, or for a line that no command takes.
        KeyboardInterrupt: if it is stopped.
    """
    with running(words), phase(words[0] if words else "kdprobe", quiet="--quiet" in words), _usage_errors():
        try:
            cli.main(list(words), prog_name="kdprobe", standalone_mode=False)
        except click.exceptions.NoArgsIsHelpError as error:
            echo(error.ctx.get_help() if error.ctx else str(error))
            return 2
    return 0


def run(name: str, *arguments: object) -> Any:
    """Run an installed command in this process, as if typed, and let its errors through.

    Args:
        name: the command.
        arguments: its arguments, each turned into text.

    Raises:
        KdprobeError: as the command raises it, or if there is no such command, or it takes no such arguments.

    Example:
        >>> from kdprobe.cli import run
        >>> run("evaluat")
        Traceback (most recent call last):
        kdprobe.errors.KdprobeError: no command 'evaluat' is installed; did you mean 'evaluate'?
    """
    entry = _entry_points().get(name)
    if entry is None:
        raise KdprobeError(f"no command {name!r} is installed{near_matches(name, _entry_points())}")
    command, words = _load(entry), [str(argument) for argument in arguments]
    with running([name, *words]), phase(name, quiet="--quiet" in words), _usage_errors():
        return command.main(words, prog_name=f"kdprobe {name}", standalone_mode=False)


@contextmanager
def _usage_errors() -> Iterator[None]:
    """Turn click's errors into ours."""
    try:
        yield
    except click.Abort as error:
        raise KeyboardInterrupt from error
    except click.ClickException as error:
        raise ConfigError(error.format_message()) from error


def _load(entry: EntryPoint) -> click.Command:
    """Import a command.

    Raises:
        KdprobeError: if it cannot be imported, naming a file of the user's where that is the reason.
    """
    others = sorted({one.value for one in _installed() if one.name == entry.name} - {entry.value})
    if others and entry.name not in OWN:
        raise KdprobeError(
            f"command {entry.name!r} is registered as {entry.value} and as {others[0]}; uninstall one of the packages"
        )
    try:
        check_not_hidden(entry.module)
        found = entry.load()
    except (ImportError, AttributeError) as error:
        reason = hidden_module(error) or f"command {entry.name!r} cannot be imported from {entry.value}: {error}"
        raise KdprobeError(reason) from error
    if not isinstance(found, click.Command):
        raise KdprobeError(
            f"command {entry.name!r} cannot be run: {entry.value} is not a click command, but a {type(found).__name__}"
        )
    return found


def _broken(entry: EntryPoint, error: KdprobeError) -> click.Command:
    """A command that says why it cannot be had, so that the others can."""

    def fail() -> None:
        raise error

    anything = {"ignore_unknown_options": True, "allow_extra_args": True}
    return click.Command(
        entry.name,
        callback=fail,
        short_help=f"(cannot be imported from {entry.value})",
        context_settings=anything,
        add_help_option=False,
    )


def _installed() -> tuple[EntryPoint, ...]:
    return found(entry_points, GROUP, tuple(sys.path))


def _entry_points() -> dict[str, EntryPoint]:
    """What kdprobe has and what other packages add; a name of kdprobe's own is kdprobe's.

    What the installed metadata say of kdprobe itself may be older than the code, and does not count.
    """
    own = {name: EntryPoint(name, value, GROUP) for name, value in OWN.items()}
    packages = {value.partition(".")[0] for value in OWN.values()}
    added = {entry.name: entry for entry in _installed() if entry.module.partition(".")[0] not in packages}
    return added | own
