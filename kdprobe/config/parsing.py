"""From nested mappings to configurations and back: checked as a whole, every mistake named at once.

A distillation method has options of its own (`distillers`), which this package cannot know;
`parse` takes the table of their types and reports their mistakes with all the others.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from kdprobe.config.sections import RunConfig, Section
from kdprobe.errors import ConfigError, near_matches
from kdprobe.formats.yamls import read_yaml


def parse(data: Any, methods: Mapping[str, type[Section]], *, source: str = "configuration") -> RunConfig:
    """Check a nested mapping and fill in the defaults, the method's own included.

    Args:
        data: what YAML gave.
        methods: type of the options of each method, by name.
        source: file or recipe, for messages.

    Raises:
        ConfigError: if there are mistakes, naming every one with its dotted path in one line.

    Example:
        >>> from kdprobe.config import parse
        >>> from kdprobe.distillers import option_types
        >>> data = {"data": {"spec": "digits"}, "model": {"name": "resnet8"}, "teacher": "teacher", "method": "kd"}
        >>> parse(data, option_types()).method["temperature"]
        4.0
        >>> parse({**data, "sed": 1}, option_types())
        Traceback (most recent call last):
        kdprobe.errors.ConfigError: configuration has a mistake: sed: unknown key; did you mean 'seed'?
    """
    if not isinstance(data, Mapping):
        raise ConfigError(f"{source} must be a mapping of sections, but is {type(data).__name__}")
    if isinstance(data.get("method"), str):
        data = {**data, "method": {"name": data["method"]}}
    config, mistakes = None, []
    try:
        config = RunConfig.model_validate(data)
    except ValidationError as error:
        mistakes += _mistakes(error, RunConfig)
    method, method_mistakes = check_method(data.get("method", {"name": "plain"}), methods)
    mistakes += method_mistakes
    if mistakes or config is None:
        count = f"{len(mistakes)} mistakes" if len(mistakes) > 1 else "a mistake"
        raise ConfigError(f"{source} has {count}: " + "; ".join(mistakes))
    return config.model_copy(update={"method": method})


def check_method(data: Any, methods: Mapping[str, type[Section]]) -> tuple[dict[str, Any], list[str]]:
    """A method's name and options with their defaults, and the mistakes in them.

    Args:
        data: what stands under `method:`.
        methods: type of the options of each method, by name.
    """
    if not isinstance(data, Mapping) or not isinstance(data.get("name"), str):
        return {}, ["method.name: a method's name is needed" + near_matches("", methods)]
    name = data["name"]
    if name not in methods:
        return {}, [f"method.name: no method {name!r}{near_matches(name, methods)}"]
    options = {key: value for key, value in data.items() if key != "name"}
    try:
        return {"name": name, **methods[name].model_validate(options).model_dump(mode="json")}, []
    except ValidationError as error:
        return {}, [f"method.{mistake}" for mistake in _mistakes(error, methods[name])]


def _mistakes(error: ValidationError, root: type[Section]) -> list[str]:
    found, errors = [], error.errors()
    for item in errors:
        place = item["loc"]
        if item["type"] == "too_short" and any(other["loc"][:-1] == place for other in errors):
            continue  # what is wrong with the items of a list is said of them
        path = ".".join(map(str, ("teacher", *place[1:]) if place[:1] == ("teacher_facts",) else place))
        if item["type"] == "extra_forbidden":
            known = _keys_at(root, item["loc"][:-1])
            found.append(f"{path}: unknown key{near_matches(str(item['loc'][-1]), known)}")
        elif item["type"] == "missing":
            found.append(f"{path}: is needed")
        elif item["type"] == "tuple_type":
            found.append(f"{path}: must be a list, such as [{item['input']}], but is {item['input']!r}")
        else:
            message = item["msg"].removeprefix("Value error, ")
            found.append(f"{path}: {message[:1].lower()}{message[1:]}, but is {item['input']!r}")
    return found


def _keys_at(root: type[BaseModel], location: Sequence[str | int]) -> list[str]:
    section: Any = root
    for key in location:
        section = section.model_fields[key].annotation
        section = next((kind for kind in get_args(section) if kind is not type(None)), section)  # of one or none
    return list(section.model_fields)


def write_yaml(config: RunConfig) -> str:
    """The configuration as YAML that `read_yaml` and `parse` turn into the same configuration.

    Example:
        >>> from kdprobe.config import RunConfig, write_yaml
        >>> config = RunConfig(data={"spec": "digits"}, model={"name": "resnet8"})
        >>> write_yaml(config).splitlines()[:2]
        ['data:', '  spec: digits']
    """
    text: str = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
    return text


def override(data: dict[str, Any], assignments: Sequence[str]) -> dict[str, Any]:
    """Apply `a.b=value` assignments to a nested mapping; values are YAML.

    Returns:
        a changed copy.

    Raises:
        ConfigError: if an assignment has no `=`, or runs through something that is not a section.

    Example:
        >>> from kdprobe.config import override
        >>> override({"training": {"epochs": 10}}, ["training.epochs=3", "model.name=resnet8"])
        {'training': {'epochs': 3}, 'model': {'name': 'resnet8'}}
    """
    changed: dict[str, Any] = _copy(data)
    for assignment in assignments:
        path, equals, value = assignment.partition("=")
        if not equals or not path:
            raise ConfigError(f"--set takes KEY.KEY=VALUE, but got {assignment!r}")
        *parents, last = path.strip().split(".")
        section = changed
        for place, key in enumerate(parents):
            if (place, key) == (0, "teacher") and isinstance(section.get(key), str):
                section[key] = {"path": section[key]}
            section = section.setdefault(key, {})
            if not isinstance(section, dict):
                raise ConfigError(f"--set {assignment}: {key!r} is a value, not a section")
        section[last] = read_yaml(value, source=f"the value in --set {assignment}")
    return changed


def quoted(text: str) -> str:
    """A text as a YAML value that is this text, whatever is in it.

    Example:
        >>> from kdprobe.config import override, quoted
        >>> override({}, ["data.spec=" + quoted("folder:# 1")])
        {'data': {'spec': 'folder:# 1'}}
    """
    return json.dumps(text, ensure_ascii=False)


def _copy(value: Any) -> Any:
    return {key: _copy(item) for key, item in value.items()} if isinstance(value, dict) else value
