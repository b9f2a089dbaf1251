"""The test suite; its run-time type checker takes ints where floats are asked for, as Python does."""

import inspect
from collections.abc import Callable
from dataclasses import is_dataclass
from functools import partial
from typing import Any

import jaxtyping
from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True, violation_type=jaxtyping.TypeCheckError))
_with_shapes = jaxtyping.jaxtyped


def _quickly(made: Any, *, typechecker: Callable[..., Any]) -> Any:
    """Check what a function is given and gives; only where shapes are annotated need all arguments of a call be bound.

    Binding them takes longer than most functions do, and so does making the checks of one that is defined in another.
    """
    if inspect.isclass(made):
        if is_dataclass(made) and "__init__" in vars(made):
            made.__init__ = _quickly(made.__init__, typechecker=typechecker)
        return made
    annotations = getattr(made, "__annotations__", {})
    plain = not any(isinstance(one, str) for one in annotations.values()) and "jaxtyping" not in repr(annotations)
    if plain and not inspect.isgeneratorfunction(made):
        return typechecker(made)
    return _with_shapes(made, typechecker=typechecker)


jaxtyping.jaxtyped = lambda *, typechecker: partial(_quickly, typechecker=typechecker)
