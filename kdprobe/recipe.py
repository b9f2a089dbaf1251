"""Recipes: configurations by name, shipped with the package or in a file of the user's."""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from kdprobe.config import RunConfig, Section, override, parse, quoted
from kdprobe.errors import ConfigError, near_matches
from kdprobe.files import read_text
from kdprobe.formats.yamls import read_yaml

SWEEP_KEYS = {"kind", "rates", "max_gap", "seeds"}


def read_recipe(name: str, *, method: str | None = None) -> dict[str, Any]:
    """The mapping in a YAML file, or in a shipped recipe such as `digits/resnet8-kd`.

    A recipe's section `methods` holds the options of other methods in the same setting, and its section `sweep` holds
    what `read_sweep` returns; neither is part of the returned mapping.

    Args:
        name: a file ending in .yaml, or the name of a shipped recipe.
        method: a method other than the recipe's own.

    Raises:
        ConfigError: if there is no such file or recipe, it is not a mapping, or its section `methods` holds no options.
    """
    data = _read(name)
    data.pop("sweep", None)
    return _with_method(name, data, method)


def read_sweep(name: str) -> dict[str, Any]:
    """A recipe's section `sweep`: kind, rates, max_gap and seeds of its grid of dropout rates, as far as it has them.

    Raises:
        ConfigError: as `read_recipe`, or if the section has other keys, or seeds or max_gap are not numbers.
    """
    section = _read(name).get("sweep") or {}
    if not isinstance(section, dict) or not section.keys() <= SWEEP_KEYS:
        raise ConfigError(
            f"{name}: the section sweep may have the keys {', '.join(sorted(SWEEP_KEYS))}, but is {section}"
        )
    seeds, gap = section.get("seeds", 1), section.get("max_gap")
    if type(seeds) is not int or seeds < 1:
        raise ConfigError(f"{name}: sweep.seeds must be a whole number of at least 1, but is {seeds!r}")
    if gap is not None and (type(gap) not in (int, float) or not gap >= 0):
        raise ConfigError(f"{name}: sweep.max_gap must be a number of at least 0, but is {gap!r}")
    if section.get("kind", "feature") not in ("feature", "logit", "both"):
        raise ConfigError(f"{name}: sweep.kind must be feature, logit or both, but is {section['kind']!r}")
    return section


def recipe_text(name: str) -> str:
    """A YAML file, or a shipped recipe, as it is written.

    Raises:
        ConfigError: if there is no such file or recipe, or the file is no UTF-8 text.
    """
    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise ConfigError(f"there is no configuration file {name}")
        try:
            return read_text(path)
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{name} cannot be read as UTF-8 text ({type(error).__name__})") from error
    known = recipes()
    if name not in known:
        raise ConfigError(f"no recipe {name!r}{near_matches(name, known)}; a file's name ends in .yaml")
    return known[name].read_text(encoding="utf-8")


def _read(name: str) -> dict[str, Any]:
    data = read_yaml(recipe_text(name), source=name)
    if not isinstance(data, dict):
        raise ConfigError(f"{name} must be a mapping of sections, but is {type(data).__name__}")
    return data


def _with_method(name: str, data: dict[str, Any], method: str | None) -> dict[str, Any]:
    options = data.pop("methods", None) or {}
    if not isinstance(options, dict) or not all(isinstance(of, dict | None) for of in options.values()):
        raise ConfigError(f"{name}: the section methods must hold the options of each method, but is {options}")
    own = data.get("method", {})
    if method is None or (isinstance(own, dict) and own.get("name") == method):
        return data
    return data | {"method": {"name": method, **(options.get(method) or {})}}


def configure(
    values: dict[str, Any],
    methods: Mapping[str, type[Section]],
    *,
    source: str,
    assignments: Sequence[str] = (),
    data: str | None = None,
    skip_bad: bool = False,
    **given: Any,
) -> RunConfig:
    """A configuration of what a recipe says and what is given beside it.

    Args:
        values: a mapping from `read_recipe`, or of a run's configuration.
        methods: type of the options of each method, by name.
        source: file or recipe, for messages.
        assignments: `KEY.KEY=VALUE`, which win over everything else.
        data: a data SPEC.
        skip_bad: leave out images that cannot be decoded.
        given: values of keys at the top, such as `teacher` and `seed`; None or empty leaves the recipe's.

    Raises:
        ConfigError: as `override` and `parse`.
    """
    said = [] if data is None else [f"data.spec={quoted(data)}"]
    said += ["data.skip_bad=true"] if skip_bad else []
    top = {key: value for key, value in given.items() if value not in (None, {})}
    if "teacher" in top and isinstance(values.get("teacher"), dict):
        top["teacher"] = values["teacher"] | {"path": top["teacher"]}
    source += "".join(f" with --set {assignment}" for assignment in assignments)
    return parse(override(override(values | top, said), assignments), methods, source=source)


def folder_name(recipe: str) -> str:
    """What the folders of a recipe's runs and sweeps are called."""
    return Path(recipe).stem if recipe.endswith((".yaml", ".yml")) else recipe.replace("/", "-")


def recipes() -> dict[str, Traversable]:
    """All shipped recipes: name -> file."""
    root = files("kdprobe") / "recipes"
    found = {}
    for folder in sorted(root.iterdir(), key=lambda entry: entry.name):
        if folder.is_dir():
            for file in sorted(folder.iterdir(), key=lambda entry: entry.name):
                if file.name.endswith(".yaml"):
                    found[f"{folder.name}/{file.name.removesuffix('.yaml')}"] = file
    return found
