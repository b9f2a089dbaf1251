"""Parts of a network that are not trained: their parameters stay, and so do the statistics of their batch norms."""

from collections.abc import Collection, Sequence
from fnmatch import fnmatchcase

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from kdprobe.errors import ConfigError, near_matches


def freeze(model: nn.Module, patterns: Sequence[str]) -> frozenset[str]:
    """Stop parts of a network from being trained.

    Args:
        model: the network; its frozen parameters no longer require gradients.
        patterns: names of parameters and modules, where `*` spans dots; a module stands for all that is in it. `!` in
            front leaves out, so that `*` and `!head*` freeze all but the head.

    Returns:
        names of the modules that stay in eval mode (see `frozen_in`): those that were chosen, with all that is in
        them, and batch norms whose own parameters were.

    Raises:
        ConfigError: if a pattern matches nothing, or if nothing is left to be trained.
    """
    if not patterns:
        return frozenset()
    modules = {name for name, _ in model.named_modules() if name}
    parameters = dict(model.named_parameters())
    chosen: set[str] = set()
    for pattern in patterns:
        found = _matching(pattern.removeprefix("!"), [*modules, *parameters], type(model).__name__)
        chosen = chosen - found if pattern.startswith("!") else chosen | found
    for name, parameter in parameters.items():
        parameter.requires_grad_(parameter.requires_grad and name not in chosen)
    if not any(parameter.requires_grad for parameter in parameters.values()):
        last = [*parameters][-1].partition(".")[0]
        raise ConfigError(
            f"training.freeze {', '.join(patterns)} leaves nothing of {type(model).__name__} to be trained; leave out "
            f"what is, as in ['*', '!{last}*']"
        )
    norms = {name for name, module in model.named_modules() if isinstance(module, _BatchNorm)}
    of_norms = {norm for norm in norms if {f"{norm}.weight", f"{norm}.bias"} <= chosen}
    return frozenset((chosen & modules) | of_norms)


def _matching(pattern: str, names: Sequence[str], network: str) -> set[str]:
    """The names that a pattern matches, and those below them."""
    found = [name for name in names if fnmatchcase(name, pattern)]
    if not found:
        raise ConfigError(
            f"training.freeze: no parameter or module of {network} matches {pattern!r}{near_matches(pattern, names)}"
        )
    below = tuple(f"{name}." for name in found)
    return {*found, *(name for name in names if name.startswith(below))}


def frozen_in(model: nn.Module, names: Collection[str]) -> list[nn.Module]:
    """The modules that stay in eval mode, into which they must be put again after each `train()` of the network.

    Args:
        model: the network, or a copy of it.
        names: what `freeze` returned.
    """
    return [module for name, module in model.named_modules() if name in names] if names else []
