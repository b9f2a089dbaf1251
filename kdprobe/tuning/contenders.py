"""The methods that take part in a comparison, as a recipe has them."""

from collections.abc import Sequence
from typing import Any

from kdprobe.config import RunConfig
from kdprobe.distillers import KNOWN_METHODS, option_types
from kdprobe.distillers.search import LogUniform
from kdprobe.errors import ConfigError
from kdprobe.recipe import configure, read_recipe
from kdprobe.tuning.plan import Contender

#: keys of the configuration that a comparison sets itself, and what to do instead
_OWN = {
    "method": "give it in the recipe's section methods",
    "seed": "give --seeds",
    "data.holdout": "give --holdout",
    "training.evaluate": "every training is judged once, at its end",
    "probe": "give the finished runs to kdprobe cka",
}


def contender(recipe: str, name: str) -> Contender:
    """A method by its name, or a variant of one by its name in the recipe's section `methods`.

    An entry of that section whose `name` is a method's is a variant: what it says is fixed and not tuned. Under the
    method's own name stand the published options of this setting, which are tuned as far as the method has a range
    for them; a weight of 0 switches a term off, and stays. Options that make no difference beside these
    (`Method.idle`) are not tuned.

    Args:
        recipe: a file or a shipped recipe.
        name: what was asked for.

    Raises:
        ConfigError: if there is no such method, or its options are wrong.
    """
    values = read_recipe(recipe, method=name)
    values["method"] = {"name": values["method"]} if isinstance(values["method"], str) else values["method"]
    method = configure(values, option_types(), source=f"{recipe} with method {name}").method
    kind, said = KNOWN_METHODS[method["name"]], values["method"].keys() - {"name"}
    off = {key for key in said if isinstance(kind.search.get(key), LogUniform) and not method[key]}
    fixed = said if name != method["name"] else said - (kind.search.keys() - off)
    left = fixed.union(kind.idle(method))
    return Contender(
        name,
        method["name"],
        fixed={option: method[option] for option in method if option in fixed},
        published={option: method[option] for option in kind.search if option not in left},
        search={option: None if option in left else span for option, span in kind.search.items()},
        uses_teacher=kind.uses_teacher,
        source=kind.source,
    )


def contenders(recipe: str, names: Sequence[str]) -> list[Contender]:
    """Several of them.

    Raises:
        ConfigError: as `contender`, or if a name comes twice.
    """
    if "" in names:
        raise ConfigError("--methods takes names separated by commas, such as plain,kd")
    if again := [name for place, name in enumerate(names) if name in names[:place]]:
        raise ConfigError(f"--methods names {again[0]!r} twice")
    return [contender(recipe, name) for name in names]


def shared_config(recipe: str, assignments: Sequence[str], **given: Any) -> RunConfig:
    """What all trainings of a comparison share: the recipe without a method.

    Args:
        recipe: a file or a shipped recipe.
        assignments: `KEY.KEY=VALUE`.
        given: what `configure` takes besides.

    Raises:
        ConfigError: if it is no configuration, or an assignment is to a key that a comparison sets itself.
    """
    for assignment in assignments:
        key = assignment.partition("=")[0].strip()
        for own, where in _OWN.items():
            if f"{key}.".startswith(f"{own}."):
                raise ConfigError(f"--set {assignment}: a comparison sets {own} itself; {where}")
    values = read_recipe(recipe) | {"method": {"name": "plain"}, "probe": None}
    return configure(values, option_types(), source=recipe, assignments=assignments, **given)
