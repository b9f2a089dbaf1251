"""Names of one's own for layers, networks, methods and classes in pictures."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from kdprobe.errors import ConfigError, ResultError, near_matches
from kdprobe.formats.parsing import parsing
from kdprobe.formats.yamls import read_yaml
from kdprobe.results import Result, check_result


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
    there = {text for result in results for text in _texts(result.facts)}
    for name in names:
        if name not in there:
            raise ResultError(f"no layer, network, method or class is called {name!r} there{near_matches(name, there)}")
    return [replace(result, facts=_changed(result.facts, names)) for result in results]


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
