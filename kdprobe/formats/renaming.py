"""Names of one's own for layers, networks, methods and classes in pictures and tables."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from kdprobe.errors import ConfigError, ResultError, meant
from kdprobe.formats.parsing import parsing
from kdprobe.formats.yamls import read_yaml
from kdprobe.results import Result, check_result
from kdprobe.terminal.progress import say


def read_names(path: Path) -> dict[str, str]:
    """Names from a YAML or JSON file: a line `blocks.11: block 12` for each.

    Raises:
        ConfigError: if it cannot be read, or is no mapping of names to names.
    """
    if not path.is_file():
        raise ConfigError(f"there is no file of names {path}")
    with parsing(path, ConfigError, expected="a mapping of names"):
        found = read_yaml(path.read_text(encoding="utf-8"), source=str(path))
    if not isinstance(found, dict) or not all(isinstance(label, str | int | float) for label in found.values()):
        raise ConfigError(f"{path} must hold a mapping of names to what they are called, such as `blocks.11: block 12`")
    return {str(name): str(label) for name, label in found.items()}


def names_for(path: Path, results: Sequence[Result]) -> dict[str, str]:
    """The names in a file that stand in these results; which do not is said on standard error.

    A file may hold the names of a whole paper, of which a picture has some.

    Raises:
        ConfigError: as `read_names`.
        ResultError: if none of them stands there.
    """
    names, there = read_names(path), _names_in(results)
    found = {name: label for name, label in names.items() if name in there}
    others = [name for name in names if name not in there]
    if others and not found:
        raise ResultError(f"{path} names nothing that is there: {_absent(others, there)}")
    for name in others:
        say(f"{path}: {_absent([name], there)}")
    return found


def with_names(result: Result, names: Mapping[str, str]) -> Result:
    """One result with names replaced.

    Raises:
        ResultError: for a name that stands nowhere in it, or whose place takes no other text.
    """
    if not names:
        return result
    (found,) = renamed([result], names)
    check_result(found, with_provenance=False)
    return found


def renamed(results: Sequence[Result], names: Mapping[str, str]) -> list[Result]:
    """Results in which names are replaced, wherever a fact is such a name.

    Args:
        results: to be drawn.
        names: what a layer, network, method or class is called instead.

    Raises:
        ResultError: for a name that stands in none of them.
    """
    there = _names_in(results)
    if others := [name for name in names if name not in there]:
        raise ResultError(_absent(others, there))
    return [replace(result, facts=_changed(result.facts, names)) for result in results]


def _names_in(results: Sequence[Result]) -> set[str]:
    return {text for result in results for text in _texts(result.facts)}


def _absent(names: Sequence[str], there: Collection[str]) -> str:
    """That names stand nowhere: those that are near others, or, if none is, the first."""
    near = [(name, close) for name in names if (close := meant(name, there))]
    (name, close), *others = near or [(names[0], "")]
    more = "".join(f" Nor is one called {name!r}{close}" for name, close in others)
    return f"no layer, network, method or class is called {name!r} there{close}{more}"


def _texts(value: Any) -> Iterator[str]:
    """All texts in nested lists and mappings."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for one in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(one)


def _changed(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return names.get(value, value)
    if isinstance(value, Mapping):
        return {key: _changed(one, names) for key, one in value.items()}
    return [_changed(one, names) for one in value] if isinstance(value, list | tuple) else value
