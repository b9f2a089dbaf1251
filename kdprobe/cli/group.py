"""The `kdprobe` command: finds its subcommands by entry point and tells errors in one line.

Any installed package can add a command by naming it under the entry-point group
`kdprobe.commands`; nothing here knows what the commands are.
"""

import atexit
import gc
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import click

from kdprobe import __version__
from kdprobe.errors import KdprobeError, near_matches
from kdprobe.provenance import running
from kdprobe.terminal import echo
from kdprobe.terminal.progress import phase

GROUP = "kdprobe.commands"


class Commands(click.Group):
    """A group whose members are the entry points of `kdprobe.commands`, imported when asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all installed commands, sorted."""
        return sorted(_entry_points())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command; None where there is no such name."""
        entry = _entry_points().get(cmd_name)
        if entry is None:
            return None
        try:
            command: click.Command = entry.load()
        except (ImportError, AttributeError) as error:
            return _broken(cmd_name, entry.value, error)
        return command

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


def run(name: str, *arguments: object) -> Any:
    """Run an installed command in this process, as if typed, and let its errors through.

    Args:
        name: the command.
        arguments: its arguments, each turned into text.

    Raises:
        KdprobeError: as the command raises it, or if there is no such command.
    """
    entry = _entry_points().get(name)
    if entry is None:
        raise KdprobeError(f"no command {name!r} is installed{near_matches(name, _entry_points())}")
    command: click.Command = entry.load()
    words = [str(argument) for argument in arguments]
    with running([name, *words]), phase(name, quiet="--quiet" in words):
        return command.main(words, prog_name=f"kdprobe {name}", standalone_mode=False)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the console script; exit status 2 and one line for a user's error."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    atexit.register(gc.freeze)  # else the interpreter goes through all of torch for a second or more before it ends
    try:
        with _stoppable(), warnings.catch_warnings(), phase(words[0] if words else "kdprobe", quiet="--quiet" in words):
            warnings.showwarning = _warn
            cli.main(words, prog_name="kdprobe", standalone_mode=False)
    except (click.Abort, KeyboardInterrupt):
        _fail("stopped", 130)
    except click.exceptions.NoArgsIsHelpError as error:
        echo(error.ctx.get_help() if error.ctx else str(error))
        sys.exit(2)
    except click.ClickException as error:
        _fail(error.format_message(), 2)
    except KdprobeError as error:
        _fail(str(error), error.status)
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
            _fail("there is not enough memory for this; choose smaller images, batches or fewer layers", 2)
        raise
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            sys.exit(1)  # whoever read the output has had enough
        place = "" if error.filename is None else f"{error.filename}: "
        _fail(f"{place}{error.strerror or error}", 2)


@contextmanager
def _stoppable() -> Iterator[None]:
    """Let SIGTERM end a command as Ctrl-C does: what is half written goes, and one line says that it was stopped."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)  # None where it was not Python's


def _broken(name: str, target: str, error: Exception) -> click.Command:
    def fail() -> None:
        raise KdprobeError(f"command {name!r} cannot be imported from {target}: {error}{_shadow(target)}")

    anything = {"ignore_unknown_options": True, "allow_extra_args": True}
    return click.Command(
        name, callback=fail, short_help=f"(cannot be imported from {target})", context_settings=anything
    )


def _shadow(target: str) -> str:
    """Which file of the user's stands where a package should be, if one does."""
    package = sys.modules.get(target.partition(".")[0])
    path = getattr(package, "__file__", None)
    hidden = path is not None and not hasattr(package, "__path__")
    return f"; {path} is imported instead, rename it or work in another folder" if hidden else ""


def _warn(message: Warning | str, *_: object, **__: object) -> None:
    echo("warning: " + " ".join(str(message).split()), err=True)


def _fail(message: str, status: int) -> None:
    echo("kdprobe: " + " ".join(message.split()), err=True)
    sys.exit(status)


def _entry_points() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP)}
