"""What to call runs of several configurations: the method, and what else tells them apart."""

import json
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from kdprobe.files import shortest_names
from kdprobe.runs.folder import differing_keys

PARTS = ("method", "model", "teacher", "data")


def parts_of(config: Mapping[str, Any]) -> dict[str, str | None]:
    """The method, model, teacher and data of a configuration."""
    return {
        "method": config["method"]["name"] + " (shuffled)" * bool((config.get("teacher_facts") or {}).get("shuffle")),
        "model": config["model"]["name"],
        "teacher": config["teacher"],
        "data": config["data"]["spec"],
    }


def short_names(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """The shortest names that differ: the method, then what else it takes, then the options that do.

    Paths of teachers and data are cut to the ends that tell them apart.
    """
    every: list[dict[str, Any]] = [parts_of(config) for config in configs]
    for part in ("teacher", "data"):
        ends = _ends({found[part] for found in every} - {None})
        every = [{**found, part: ends.get(found[part])} for found in every]
    names = []
    for found, config in zip(every, configs, strict=True):
        choices = [("method", *more) for count in range(len(PARTS)) for more in combinations(PARTS[1:], count)]
        alike = [other for other, its in zip(configs, every, strict=True) if its == found]
        enough = next(c for c in choices if sum(all(its[k] == found[k] for k in c) for its in every) == len(alike))
        names.append(", ".join(part for key in enough if (part := found[key])) + _options(config, alike))
    return names


def _ends(texts: set[Any]) -> dict[Any, str]:
    """By each path its shortest end, behind what says how its data are read."""
    ordered = sorted(texts)
    ends = shortest_names([Path(text) for text in ordered])
    heads = [text.partition(":")[0] for text in ordered]  # as in `folder:DIR`
    kinds = [
        f"{head}:" if head.isidentifier() and head != text else "" for head, text in zip(heads, ordered, strict=True)
    ]
    return {
        text: end if end.startswith(kind) else kind + end for text, end, kind in zip(ordered, ends, kinds, strict=True)
    }


def _options(config: Mapping[str, Any], alike: Sequence[Mapping[str, Any]]) -> str:
    """What tells runs from others of the same method, model, teacher and data: the method's options, if they do."""
    keys = list(dict.fromkeys(key for other in alike for key in differing_keys(alike[0], other)))
    of_method = [key for key in keys if key.startswith("method.")]
    told = {tuple(worded_value(value_at(other, key)) for key in of_method) for other in alike}
    chosen = of_method if len(told) == len(alike) else keys
    return "".join(f", {key.removeprefix('method.')}={worded_value(value_at(config, key))}" for key in chosen)


def worded_value(value: Any) -> str:
    """A value of a configuration as text."""
    return value if isinstance(value, str) else json.dumps(value)


def value_at(config: Any, path: str) -> Any:
    """What stands under a dotted path; None if nothing does."""
    for key in path.split("."):
        config = config.get(key) if isinstance(config, dict) else None
    return config
