"""How a layer's output is laid out. `kdprobe.models.facts` finds the layout."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["NCHW", "NHWC", "tokens", "vector", "other"]


@dataclass(frozen=True)
class Layout:
    """What the dimensions of a layer's output mean.

    Attributes:
        kind: NCHW [B, c, h, w]; NHWC [B, h, w, c]; tokens [B, n_prefix + n, d]; vector [B, d]; or other.
        n_prefix: class, distillation and register tokens in front of the patch tokens.
        class_token: which of them is the class token; None without one.
    """

    kind: Kind
    n_prefix: int = 0
    class_token: int | None = None

    def __str__(self) -> str:
        return f"tokens with {self.n_prefix} prefix" if self.kind == "tokens" else self.kind
