"""Code of the user's that a configuration names as `module:callable`."""

import os
import sys
from importlib import import_module
from types import ModuleType


def import_own(module: str) -> ModuleType:
    """Import a module, also from the working folder, as `python -m` does.

    Args:
        module: its full name.

    Raises:
        ModuleNotFoundError: if there is none of that name.
    """
    if not is_name(module):
        raise ModuleNotFoundError(f"no module can be named {module!r}", name=module)
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    return import_module(module)


def is_missing(module: str, error: ModuleNotFoundError) -> bool:
    """Whether it is this module that was not found, and not one that it imports."""
    return f"{module}.".startswith(f"{error.name}.")


def is_name(module: str) -> bool:
    """Whether a text could be a module's full name."""
    return all(part.isidentifier() for part in module.split("."))
