"""How a layer's output is laid out, and what can be taken of it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from kdprobe.errors import CaptureError
from kdprobe.gram import centred_gram

Kind = Literal["NCHW", "NHWC", "tokens", "vector", "other"]


@dataclass(frozen=True)
class Layout:
    """What the dimensions of a layer's output mean.

    Attributes:
        kind: NCHW [B, c, h, w]; NHWC [B, h, w, c]; tokens [B, n_prefix + n, d]; vector [B, d]; or other.
        n_prefix: class, distillation and register tokens in front of the patch tokens.
    """

    kind: Kind
    n_prefix: int = 0

    def __str__(self) -> str:
        return f"tokens with {self.n_prefix} prefix" if self.kind == "tokens" else self.kind


def layout_of(model: nn.Module, module: nn.Module, output: Tensor, *, parent: nn.Module | None = None) -> Layout:
    """Recognise the layout of one module's output.

    Args:
        model: the whole network; its `output_fmt`, `num_prefix_tokens` and `patch_embed.num_patches` count.
        module: whose output it is: linear and norm layers over the last dimension have channels last, and so has
            what is made of them alone or stands between them alone.
        output: [B, ...].
        parent: the module that it is a child of.
    """
    if output.ndim == 2:
        return Layout("vector")
    if output.ndim == 3:
        return Layout("tokens", _n_prefix(model, output.shape[1]))
    if output.ndim == 4:
        return Layout("NHWC" if _channels_last(model, module, parent, output.shape[-1]) else "NCHW")
    return Layout("other")


def _n_prefix(model: nn.Module, n_tokens: int) -> int:
    n_prefix = int(getattr(model, "num_prefix_tokens", 0) or 0)
    n_patches = getattr(getattr(model, "patch_embed", None), "num_patches", None)
    without = n_tokens == n_patches or n_tokens <= n_prefix  # before the prefix joins, or without it
    return 0 if without else n_prefix


def _channels_last(model: nn.Module, module: nn.Module, parent: nn.Module | None, width: int) -> bool:
    if _is_channels_first(module):
        return False
    if isinstance(module, nn.Linear | nn.LayerNorm) or getattr(model, "output_fmt", "NCHW") == "NHWC":
        return True
    surrounding = module if parent is None or any(module.children()) else parent
    return width in _last_widths(surrounding)


def _last_widths(module: nn.Module) -> set[int]:
    """Of the outputs of linear and norm layers over the last dimension, where no layer of maps is among them."""
    widths = set()
    for part in module.modules():
        if _is_channels_first(part):
            return set()
        if isinstance(part, nn.Linear):
            widths.add(part.out_features)
        elif isinstance(part, nn.LayerNorm):
            widths.add(part.normalized_shape[-1])
    return widths


def _is_channels_first(module: nn.Module) -> bool:
    return isinstance(module, nn.modules.conv._ConvNd | nn.modules.batchnorm._BatchNorm) or _is_2d(module)


def _is_2d(module: nn.Module) -> bool:
    return type(module).__name__.endswith("2d")  # timm's LayerNorm2d is an nn.LayerNorm over dimension 1


def whole(output: Tensor, layout: Layout) -> Tensor:
    """The output as it is, copied."""
    return output.contiguous() if not output.is_contiguous() else output.clone()


def flatten(output: Tensor, layout: Layout) -> Tensor:
    """[B, ...] -> [B, d], every value."""
    return whole(output, layout).flatten(1)


def gap(output: Tensor, layout: Layout) -> Tensor:
    """Mean over positions, without prefix tokens: [B, c]."""
    if output.ndim == 2:
        return output.clone()
    return tokens(output, layout).mean(1)


def cls(output: Tensor, layout: Layout) -> Tensor:
    """The class token: [B, d]."""
    if layout.kind != "tokens" or layout.n_prefix == 0:
        raise CaptureError(f"there is no class token in {layout} of shape {list(output.shape)}; use gap or flatten")
    return output[:, 0].clone()


def tokens(output: Tensor, layout: Layout) -> Tensor:
    """Patch tokens, or the positions of a map, without prefix: [B, n, d]."""
    if layout.kind == "tokens":
        return output[:, layout.n_prefix :].clone()
    if layout.kind == "NCHW":
        return output.flatten(2).transpose(1, 2).clone()
    if layout.kind == "NHWC":
        return output.flatten(1, 2).clone()
    raise CaptureError(f"there are no positions in {layout} of shape {list(output.shape)}; use flatten")


def gram(output: Tensor, layout: Layout) -> Tensor:
    """Gram matrix of the centred flattened features: float64 [B, B]."""
    return centred_gram(output)


REDUCERS: dict[str, Callable[[Tensor, Layout], Tensor]] = {
    "whole": whole,
    "flatten": flatten,
    "gap": gap,
    "mean": gap,
    "cls": cls,
    "tokens": tokens,
    "gram": gram,
}
