"""Where numbers come from: networks, versions, and the command as a user would type it, also where one runs another."""

import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Protocol, runtime_checkable

PACKAGES = ("kdprobe", "torch", "torchvision", "timm", "numpy", "scipy", "scikit-learn", "h5py")

_WORDS: ContextVar[tuple[str, ...] | None] = ContextVar("words", default=None)


@runtime_checkable
class Described(Protocol):
    """A network's description, as `kdprobe.models.describe` gives it."""

    @property
    def sha256(self) -> str | None:
        """Of the checkpoint's file; None for a network that was not loaded from one."""

    def to_json(self) -> dict[str, Any]:
        """The description without the hash."""


def provenance(**facts: Any) -> dict[str, Any]:
    """What every result says of its origin: the given facts, the versions and the command line."""
    return {**facts, "versions": versions(), "command": command_line()}


def network_origin(info: Described) -> dict[str, Any]:
    """Which network was shown images: its description and the sha256 of its checkpoint."""
    return {**info.to_json(), "sha256": info.sha256}


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
    """`kdprobe` and its arguments."""
    words = _WORDS.get()
    return shlex.join(["kdprobe", *(sys.argv[1:] if words is None else words)])


@contextmanager
def running(words: Sequence[str]) -> Iterator[None]:
    """Inside `with`, `command_line` gives these words."""
    token = _WORDS.set(tuple(words))
    try:
        yield
    finally:
        _WORDS.reset(token)
