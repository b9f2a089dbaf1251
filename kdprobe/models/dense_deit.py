"""A distilled vision transformer in which class token, distillation token and patch tokens vote together."""

from typing import Any

from timm.models.deit import VisionTransformerDistilled
from torch import Tensor


class DenseDeiT(VisionTransformerDistilled):
    """Logits are the mean of three: the class token's, the distillation token's, and the patches' own mean.

    The patch tokens share the distillation token's classifier.

    Reference: Zhao, Song, Liang (2023), Cumulative spatial knowledge distillation for vision transformers.
    """

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Normalised tokens [B, 2 + n, d] -> logits [B, C]."""
        x = self.head_drop(x)
        if pre_logits:
            return (x[:, 0] + x[:, 1]) / 2
        by_class, by_token = self.head(x[:, 0]), self.head_dist(x[:, 1])
        by_patches = self.head_dist(x[:, 2:]).mean(dim=1)
        votes: Tensor = by_class + by_token + by_patches
        return votes / 3


def dense_deit(
    *,
    num_classes: int,
    image_size: int,
    patch_size: int = 16,
    embed_dim: int = 192,
    depth: int = 12,
    num_heads: int = 3,
    **args: Any,
) -> DenseDeiT:
    """A `DenseDeiT`; by default of the size of DeiT-Ti (DeiT-S: width 384, 6 heads; DeiT-B: 768, 12)."""
    return DenseDeiT(  # type: ignore[no-untyped-call]
        img_size=image_size,
        num_classes=num_classes,
        patch_size=patch_size,
        embed_dim=embed_dim,
        depth=depth,
        num_heads=num_heads,
        **args,
    )
