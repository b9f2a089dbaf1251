"""What passes inside a forward pass: values in front of a stage's last activation, queries, keys and values."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.SiLU, nn.GELU, nn.Hardswish)


def final_activation(stage: nn.Module) -> nn.Module | None:
    """The activation that a stage ends with, as the residual networks' do; None where it ends otherwise."""
    if isinstance(stage, ACTIVATIONS):
        return stage
    children = list(stage.children())
    activations = [child for child in children if isinstance(child, ACTIVATIONS)]
    if activations and not isinstance(stage, nn.Sequential):
        return activations[-1]
    return final_activation(children[-1]) if children else None


@contextmanager
def inputs_of(modules: Sequence[nn.Module | None]) -> Iterator[list[Tensor | None]]:
    """Inside `with`, the list is filled with the last input of each module; None stays None."""
    kept: list[Tensor | None] = [None] * len(modules)

    def keep(place: int) -> Any:
        # An activation in place would overwrite what it was given.
        return lambda module, inputs: kept.__setitem__(place, inputs[0].clone() if _in_place(module) else inputs[0])

    handles = [m.register_forward_pre_hook(keep(i)) for i, m in enumerate(modules) if m is not None]
    try:
        yield kept
    finally:
        for handle in handles:
            handle.remove()


def _in_place(module: nn.Module) -> bool:
    return bool(getattr(module, "inplace", False))


def last_attention(model: nn.Module) -> Any:
    """The last attention of a transformer that makes queries, keys and values by one layer `qkv`; else None."""
    found = [m for m in model.modules() if hasattr(m, "num_heads") and isinstance(getattr(m, "qkv", None), nn.Linear)]
    return found[-1] if found else None


@contextmanager
def outputs_of(module: nn.Module | None) -> Iterator[list[Tensor]]:
    """Inside `with`, the list is filled with the outputs of a module."""
    kept: list[Tensor] = []
    if module is None:
        yield kept
        return
    handle = module.register_forward_hook(lambda _module, _inputs, output: kept.append(output))
    try:
        yield kept
    finally:
        handle.remove()


def split_qkv(output: Tensor, n_heads: int) -> Tensor:
    """[B, n, 3 h d] -> [3, B, h, n, d]."""
    batch, n_tokens, width = output.shape
    return output.reshape(batch, n_tokens, 3, n_heads, width // (3 * n_heads)).permute(2, 0, 3, 1, 4)
