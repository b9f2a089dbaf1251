"""What installed packages add to kdprobe, by entry points.

    # setup.cfg of a package of one's own
    [options.entry_points]
    kdprobe.methods =
        mykd = mykd.methods:MyKD            # a kdprobe.distillers.Method
    kdprobe.models =
        mynet = mykd.networks:make          # called with num_classes, image_size and the arguments of the configuration
    kdprobe.data =
        faces = mykd.data:faces             # returns a dataset; called with path, for faces:PATH, and image_size
    kdprobe.loggers =
        mylog = mykd.loggers:Log            # a kdprobe.training.loggers.Logger, for `kdprobe train --logger mylog`

`kdprobe.kinds`, `kdprobe.figures` and `kdprobe.sections` are results, their pictures and their sections in the report
(see `kdprobe.kinds`), `kdprobe.commands` the commands. A name of kdprobe's own cannot be taken.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

from kdprobe.errors import KdprobeError
from kdprobe.user_code import not_ending

Found = TypeVar("Found")
Value = TypeVar("Value")


def offered(group: str) -> set[str]:
    """The names under which installed packages offer something in an entry-point group.

    Example:
        >>> from kdprobe.kinds import offered
        >>> "cka" in offered("kdprobe.kinds")  # kdprobe's own are not among them
        False
    """
    return {entry.name for entry in _entries(group)}


def offered_by(group: str) -> dict[str, str]:
    """By each of these names, what offers it, in words: the package with its version, and the object."""
    return {entry.name: f"{_package(entry)}, {entry.value}" for entry in _entries(group)}


def _entries(group: str) -> tuple[EntryPoint, ...]:
    return found(entry_points, group, tuple(sys.path))


@cache
def found(look: Callable[..., Iterable[EntryPoint]], group: str, _path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    """Entry points of a group, looked for once as long as the path for imports stays the same."""
    return tuple(look(group=group))


def _package(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist is not None else "a package"


def installed(group: str, name: str, error: type[KdprobeError]) -> Any:
    """What an installed package offers under a name of an entry-point group; None if none does.

    Args:
        group: the group.
        name: in the group.
        error: what is raised.

    Raises:
        KdprobeError: if it cannot be imported, or several packages offer different things.

    Example:
        >>> from kdprobe import KdprobeError
        >>> from kdprobe.kinds import installed
        >>> installed("kdprobe.kinds", "rhyme", KdprobeError) is None
        True
    """
    targets = sorted({entry.value: entry for entry in _entries(group) if entry.name == name}.items())
    if len(targets) > 1:
        raise error(f"{name!r} of {group} is registered as {targets[0][0]} and as {targets[1][0]}; uninstall one")
    for target, entry in targets:
        try:
            with not_ending(f"{entry.module}, when it is imported,"):
                return entry.load()
        except Exception as reason:
            raise error(f"{name!r} of {group} cannot be imported from {target}: {reason}") from reason
    return None


class Choices(Mapping[str, Value]):
    """What there is by name: kdprobe's own, then what installed packages offer, which is imported when asked for.

    Args:
        own: kdprobe's, which come first.
        group: entry-point group.
        fits: whether something registered can be used.
        must_be: what it must be, in words.
        error: what is raised where it cannot be imported or used.
    """

    def __init__(
        self,
        own: Mapping[str, Value],
        group: str,
        *,
        fits: Callable[[object], bool] = callable,
        must_be: str = "callable",
        error: type[KdprobeError],
    ) -> None:
        self.own, self.group, self.fits, self.must_be, self.error = own, group, fits, must_be, error

    def __getitem__(self, name: str) -> Value:
        if name in self.own:
            return self.own[name]
        found: Value | None = installed(self.group, name, self.error)
        if found is None:
            raise KeyError(name)
        if not self.fits(found):
            raise self.error(
                f"{name!r} of {self.group} must be {self.must_be}, but what is registered is a {type(found).__name__}"
            )
        return found

    def __contains__(self, name: object) -> bool:
        return name in self.own or name in offered(self.group)

    def __iter__(self) -> Iterator[str]:
        yield from self.own
        yield from sorted(offered(self.group) - self.own.keys())

    def __len__(self) -> int:
        return len(self.own.keys() | offered(self.group))


class OfEach(Mapping[str, Found]):
    """Something of each choice, looked up when it is asked for."""

    def __init__(self, choices: Mapping[str, Value], part: Callable[[Value], Found]) -> None:
        self._choices: Mapping[str, Any] = choices
        self._part: Callable[[Any], Found] = part

    def __getitem__(self, name: str) -> Found:
        return self._part(self._choices[name])

    def __contains__(self, name: object) -> bool:
        return name in self._choices

    def __iter__(self) -> Iterator[str]:
        return iter(self._choices)

    def __len__(self) -> int:
        return len(self._choices)
