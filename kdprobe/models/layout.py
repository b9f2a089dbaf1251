"""How a layer's output is laid out.

`kdprobe.models.facts` finds the layout in a watched forward pass; for the stage maps that methods use,
`kdprobe.models.stages` takes it from the channels that the network declares.
"""

from dataclasses import dataclass
from math import isqrt
from typing import Literal

from torch import Tensor

from kdprobe.errors import ModelError

LayoutKind = Literal["NCHW", "NHWC", "tokens", "vector", "other"]


@dataclass(frozen=True)
class Layout:
    """What the dimensions of a layer's output mean.

    Attributes:
        kind: NCHW [B, c, h, w]; NHWC [B, h, w, c]; tokens [B, n_prefix + n, d]; vector [B, d]; or other.
        n_prefix: class, distillation and register tokens in front of the patch tokens.
        class_token: which of them is the class token; None without one.

    Example:
        >>> from kdprobe.features import Layout
        >>> Layout("tokens", n_prefix=1, class_token=0)
        Layout(kind='tokens', n_prefix=1, class_token=0)
    """

    kind: LayoutKind
    n_prefix: int = 0
    class_token: int | None = None

    def __str__(self) -> str:
        return f"tokens with {self.n_prefix} prefix" if self.kind == "tokens" else self.kind


def as_map(output: Tensor, layout: Layout) -> Tensor:
    """A layer's output as a map [B, c, h, w]; of tokens the patches, as a square grid.

    Raises:
        ModelError: if the output has no rows and columns.
    """
    if layout.kind == "NCHW":
        return output
    if layout.kind == "NHWC":
        return output.permute(0, 3, 1, 2)
    if layout.kind == "tokens":
        patches = output[:, layout.n_prefix :]
        side = isqrt(patches.shape[1])
        if side * side == patches.shape[1]:
            return patches.transpose(1, 2).reshape(len(output), output.shape[2], side, side)
    raise ModelError(f"a stage output of shape {tuple(output.shape)} is neither a map nor a square grid of tokens")
