"""The user's own code, named as `module:callable`, and who may ask for it to run.

A name that the person at the keyboard gives (on the command line, in the recipe given there, as an argument in Python)
is imported. A name in a file, which may come from anyone, is data: its module is imported only if the person has named
it too, with `--trust MODULE`, `trust=`, or the environment variable KDPROBE_TRUST.
"""

import inspect
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from kdprobe.errors import ConfigError, TrustError

VARIABLE = "KDPROBE_TRUST"
_GROUPS = ("kdprobe.models", "kdprobe.data")

#: what a function says of an argument that it does not take
UNEXPECTED = re.compile(r"unexpected keyword argument '(\w+)'")

_NAMED: ContextVar[frozenset[str]] = ContextVar("named", default=frozenset())


@contextmanager
def trusting(modules: Iterable[str]) -> Iterator[None]:
    """Inside the block, files may name code of these modules.

    Args:
        modules: full names; the name of a package does not include its submodules.

    Raises:
        ConfigError: for a text that cannot be the name of a module.
    """
    token = _NAMED.set(_NAMED.get() | {_module(name, "--trust") for name in modules})
    try:
        yield
    finally:
        _NAMED.reset(token)


def trusted_modules() -> frozenset[str]:
    """The modules that files may name: those of `trusting` and of KDPROBE_TRUST (separated by commas or spaces)."""
    words = re.split(r"[,\s]+", os.environ.get(VARIABLE, ""))
    return _NAMED.get() | {_module(word, VARIABLE) for word in words if word}


def _installed() -> set[str]:
    """Modules whose networks or data sets an installed package offers by entry point, and kdprobe's own."""
    offered = {entry.module for group in _GROUPS for entry in entry_points(group=group)}
    return {"kdprobe.models.dense_deit", *offered}


def module_of(spec: str) -> str | None:
    """The module in `module:callable` or `module:callable@FILE`; None for a text of another form."""
    module, colon, function = spec.partition("@")[0].partition(":")
    return module if colon and is_name(module) and function.isidentifier() else None


def own_object(name: str, *, named_by: str | Path | None = None) -> Any:
    """What `module:name` names, imported; None if the module has nothing of that name.

    Args:
        name: in the form `module:name`.
        named_by: the file that holds the name; None if the person at the keyboard gave it.

    Raises:
        TrustError: if a file names code that is not trusted.
        ModuleNotFoundError: if there is no such module.
    """
    module, _, attribute = name.partition(":")
    if named_by is None:
        return getattr(import_own(module), attribute, None)
    if module_of(name) is None:
        raise ModuleNotFoundError(f"{module!r} cannot be the name of a module", name=module)
    _check_trusted(module, name, named_by)
    found = getattr(import_own(module), attribute, None)
    home = found.__module__ if inspect.isroutine(found) or inspect.isclass(found) else module
    if home and not f"{home}.".startswith(f"{module}."):  # as in `from torch.hub import load`
        _check_trusted(home, name, named_by)
    return found


def import_own(module: str) -> ModuleType:
    """Import a module by name, also from the working folder, as `python -m` does.

    Args:
        module: its full name.

    Raises:
        ModuleNotFoundError: if there is none of that name.
        ConfigError: if it ends the program.
    """
    if not is_name(module):
        raise ModuleNotFoundError(f"{module!r} cannot be the name of a module", name=module)
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    with not_ending(f"module {module!r}, when it is imported,"):
        return import_module(module)


@contextmanager
def not_ending(what: str) -> Iterator[None]:
    """Run the user's code inside, which may raise, but not end the program without a word.

    Args:
        what: what it is called.

    Raises:
        ConfigError: if it would.
    """
    try:
        yield
    except SystemExit as error:
        raise ConfigError(
            f"{what} ends the program with status {error.code!r}; code that others call must raise an error instead"
        ) from error


def call_own(function: Callable[..., Any], *, num_classes: int, image_size: int, **args: Any) -> Any:
    """Call a constructor of the user's with its arguments, and with classes and size if its signature names them.

    One that takes any argument (`**kwargs`) gets both, unless what it calls refuses them.
    """
    with not_ending(f"{getattr(function, '__name__', 'a constructor')}()"):
        return _called_own(function, {"num_classes": num_classes, "image_size": image_size}, args)


def _called_own(function: Callable[..., Any], decided: dict[str, int], args: dict[str, Any]) -> Any:
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):  # built-in ones do not tell
        return function(**decided, **args)
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return function(**{name: value for name, value in decided.items() if name in parameters}, **args)
    while True:
        try:
            return function(**decided, **args)
        except TypeError as error:
            unknown = UNEXPECTED.search(str(error))
            if unknown is None or decided.pop(unknown[1], None) is None:
                raise


def place_in(function: Callable[..., Any], error: Exception) -> str:
    """FILE:LINE at which the user's code raised: the innermost in the file of a function, else the innermost of all."""
    import traceback  # not at the top: helps and lists meet no error

    frames = traceback.extract_tb(error.__traceback__)
    own = inspect.unwrap(function).__code__.co_filename if hasattr(inspect.unwrap(function), "__code__") else None
    frame = ([one for one in frames if one.filename == own] or frames)[-1]
    return f"{frame.filename}:{frame.lineno}"


def child_command(module: str) -> list[str]:
    """The words that run a module of ours in another process, as `python -m` does, with this one's path for imports.

    `python -m` puts the working folder first, where a file of the user's may bear the name of a module that we need.
    """
    program = f"import runpy, sys; sys.path[:] = {sys.path!r}; runpy.run_module({module!r}, run_name='__main__')"
    return [sys.executable, "-P", "-c", program]


def is_missing(module: str, error: ModuleNotFoundError) -> bool:
    """Whether this module itself was not found, rather than one that it imports."""
    return f"{module}.".startswith(f"{error.name}.")


def is_name(module: str) -> bool:
    """Whether a text can be the full name of a module."""
    return all(part.isidentifier() for part in module.split("."))


def _check_trusted(module: str, name: str, named_by: str | Path) -> None:
    if module not in trusted_modules() and module not in _installed():
        raise TrustError(
            f"{named_by} names code, {name!r}, which runs only if you trust its module: add --trust {module} "
            f"(in Python trust=[{module!r}])"
        )


def _module(text: str, where: str) -> str:
    """The name of a module; a callable in it may be named as well."""
    module = module_of(text) or text
    if not is_name(module):
        raise ConfigError(f"{where} takes the name of a module, such as my_nets, but got {text!r}")
    return module
