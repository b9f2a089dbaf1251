"""Where numbers come from: the command that is running, also where one runs another, what it names, and versions."""

import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import click

PACKAGES = ("kdprobe", "torch", "torchvision", "timm", "numpy", "scipy", "scikit-learn", "h5py")

#: parameters of commands that name networks, data, and files that hold what was seen of them
_NAMED = (
    *("checkpoints", "against", "teacher", "student", "students", "controls", "models"),
    *("data", "features", "run", "runs", "sweep"),
)
_WORDS: ContextVar[tuple[str, ...] | None] = ContextVar("words", default=None)


def provenance(**facts: Any) -> dict[str, Any]:
    """What every result says of its origin: the given facts, the versions and the command line."""
    from kdprobe.devices import float32_settings  # not at the top: helps and lists load no torch

    return {**facts, "float32": float32_settings(), "versions": versions(), "command": command_line()}


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that numbers depend on."""
    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def command_line() -> str:
    """What is running: `kdprobe` or a Python script, with its arguments; empty in a notebook and the like."""
    words = _WORDS.get()
    program = Path(sys.argv[0] if sys.argv else "")
    if words is not None or program.stem == "kdprobe" or program.parts[-2:] == ("kdprobe", "__main__.py"):
        return shlex.join(["kdprobe", *(sys.argv[1:] if words is None else words)])
    main = sys.modules.get("__main__")
    if (spec := getattr(main, "__spec__", None)) is not None:
        return shlex.join(["python", "-m", spec.name.removesuffix(".__main__"), *sys.argv[1:]])
    return shlex.join(["python", *sys.argv]) if Path(getattr(main, "__file__", None) or "").is_file() else ""


@contextmanager
def running(words: Sequence[str]) -> Iterator[None]:
    """Inside `with`, `command_line` gives these words."""
    token = _WORDS.set(tuple(words))
    try:
        yield
    finally:
        _WORDS.reset(token)


def named(given: Mapping[str, Any] | None = None, *, seen_from: str | None = None) -> dict[str, list[str]] | None:
    """The networks and data that the running command names, by its parameters; the order of several does not count.

    Args:
        given: what counts instead of these parameters.
        seen_from: folder from which paths are told; they are absolute without.

    Returns:
        CKPTs, SPECs and paths; None where no command is running.
    """
    context = click.get_current_context(silent=True)
    if context is None:
        return None
    values = {**context.params, **(given or {})}
    listed = {key: _listed(values.get(key)) for key in _NAMED}
    return {key: sorted(_placed(text, seen_from) for text in texts) for key, texts in listed.items() if texts}


def _listed(value: Any) -> list[str]:
    return [str(one) for one in (value if isinstance(value, tuple | list) else (value,)) if one is not None]


def _placed(spec: str, seen_from: str | None) -> str:
    """A CKPT, SPEC or path with the place in it, where it holds one."""
    for before, path in (("", spec), *(split for mark in "@:" if (split := _split(spec, mark)))):
        if os.path.exists(path) or os.path.exists(path.rpartition("#")[0]):
            place = os.path.realpath(path)
            with suppress(ValueError):  # on another drive
                return before + (place if seen_from is None else os.path.relpath(place, os.path.realpath(seen_from)))
    return spec


def _split(spec: str, mark: str) -> tuple[str, str] | None:
    before, found, rest = spec.partition(mark)
    return (before + mark, rest) if found and before != "timm" else None
