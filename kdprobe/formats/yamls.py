"""Reading YAML, in one place."""

import re
from typing import Any, ClassVar

import yaml

from kdprobe.errors import ConfigError

_DEEPEST = 100  # levels
_LARGEST = 1_000_000  # values, each counted as often as it is referred to


class _Rules:
    """YAML 1.2 numbers and booleans: `1e-3` is a number, `no` and `2024-01-01` are words, `0012` is twelve.

    Each key appears once.
    """

    yaml_implicit_resolvers: ClassVar[dict[str, list[tuple[str, re.Pattern[str]]]]] = {
        first: [
            (tag, pattern) for tag, pattern in resolvers if not tag.endswith((":float", ":bool", ":int", ":timestamp"))
        ]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        """As PyYAML does, but refuse keys that appear twice."""
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if again := [name for name in names if names.count(name) > 1]:
            raise yaml.constructor.ConstructorError(None, None, f"the key {again[0]!r} appears twice", node.start_mark)
        return super().construct_mapping(node, deep)  # type: ignore[misc]


class _Loader(_Rules, yaml.SafeLoader):
    """Slow, but says best what is wrong."""


class _FastLoader(_Rules, getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """LibYAML's, where PyYAML was built with it."""


for _loader in (_Loader, _FastLoader):
    _loader.add_implicit_resolver(
        "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
    )
    _loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?[0-9]+$"), list("-+0123456789"))
    _loader.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(
            r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$|^[-+]?\.(?:inf|Inf|INF)$|^\.(?:nan|NaN|NAN)$"
        ),
        list("-+0123456789."),
    )
    _loader.add_constructor("tag:yaml.org,2002:int", lambda _loader, node: int(str(node.value)))


def read_yaml(text: str, *, source: str) -> Any:
    """Read YAML with the numbers and booleans of YAML 1.2.

    Args:
        text: a document.
        source: file or option, for messages.

    Raises:
        ConfigError: if the text is not YAML, naming the line, or if it is nested too deeply.

    Example:
        >>> from kdprobe.formats import read_yaml
        >>> read_yaml("{lr: 1e-3, spec: no}", source="a recipe")
        {'lr': 0.001, 'spec': 'no'}
    """
    try:
        value = _loaded(text)
        _count(value, {}, _DEEPEST)
    except RecursionError as error:
        raise ConfigError(f"{source} is not YAML: it is nested too deeply") from error
    except Exception as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark else ""
        reason = " ".join(str(getattr(error, "problem", None) or error or type(error).__name__)[:200].split())
        raise ConfigError(f"{source} is not YAML{where}: {reason}") from error
    return value


def _loaded(text: str) -> Any:
    try:
        return yaml.load(text, Loader=_FastLoader)
    except Exception:
        return yaml.load(text, Loader=_Loader)  # which fails too


def _count(value: Any, known: dict[int, int], left: int) -> int:
    """How many values there are in one, with references followed."""
    if not isinstance(value, dict | list):
        return 1
    if not left:
        raise RecursionError
    if id(value) not in known:
        items = [*value.keys(), *value.values()] if isinstance(value, dict) else value
        known[id(value)] = 1 + sum(_count(item, known, left - 1) for item in items)
    if known[id(value)] > _LARGEST:
        raise ValueError(f"it has more than {_LARGEST} values")
    return known[id(value)]
