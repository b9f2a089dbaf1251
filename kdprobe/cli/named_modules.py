"""Modules of the user's that a command line or a configuration names, whose code may run because of that."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from kdprobe.user_code import module_of

#: parameters of commands that hold a CKPT, a data SPEC or a network's name
_SPECS = ("data", "spec", "teacher", "student", "students", "checkpoint", "checkpoints", "against", "models")


def modules_named(*specs: object) -> Iterator[str]:
    """The modules in those of the texts that are `module:callable` or `module:callable@FILE`."""
    for spec in specs:
        module = module_of(spec) if isinstance(spec, str) else None
        if module is not None and not _is_ours(module):
            yield module


def modules_in(config: Any) -> Iterator[str]:
    """The modules that a configuration, which may lack sections, names: of its network, data set and teacher."""
    if isinstance(config, dict):
        sections = [(config.get(section), key) for section, key in (("model", "name"), ("data", "spec"))]
        yield from modules_named(
            config.get("teacher"), *(section.get(key) for section, key in sections if isinstance(section, dict))
        )


def modules_given(parameters: Mapping[str, object]) -> Iterator[str]:
    """The modules that the parameters of a command name."""
    yield from modules_named(*(word for name in _SPECS for word in _words(parameters.get(name))))


def _words(value: object) -> Iterable[str]:
    if isinstance(value, str):
        return (value,)
    return [word for word in value if isinstance(word, str)] if isinstance(value, tuple) else ()


def _is_ours(word: str) -> bool:
    """Whether it begins SPECs and CKPTs of kdprobe's own, such as `folder:faces`."""
    from kdprobe.data import DATASETS

    return word == "timm" or word in DATASETS
