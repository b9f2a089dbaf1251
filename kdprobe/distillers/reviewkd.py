"""Knowledge review: fuse the student's stages from deep to shallow, match each with a pyramid.

Reference:
    P. Chen, S. Liu, H. Zhao and J. Jia, "Distilling knowledge via knowledge review", CVPR 2021.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from kdprobe.distillers.widen import widened

Size = tuple[int, int]


@widened
def hcl_loss(
    student_maps: Sequence[Float[Tensor, "batch _c _h _w"]],
    teacher_maps: Sequence[Float[Tensor, "batch _c _h _w"]],
) -> Float[Tensor, ""]:
    """Mean squared difference at full size and averaged down to 4x4, 2x2 and 1x1, summed over the maps.

    The sizes weigh 1, 1/2, 1/4, 1/8 in the order of their use; a size not below the map's is skipped.

    Args:
        student_maps: [B, c, h, w] for each level.
        teacher_maps: the same shapes.
    """
    pairs = zip(student_maps, teacher_maps, strict=True)
    return torch.stack([_pyramid_loss(student, teacher) for student, teacher in pairs]).sum()


def _pyramid_loss(student: Tensor, teacher: Tensor) -> Tensor:
    losses = [F.mse_loss(student, teacher)]
    for size in (4, 2, 1):
        if size < student.shape[2]:
            losses.append(F.mse_loss(F.adaptive_avg_pool2d(student, size), F.adaptive_avg_pool2d(teacher, size)))
    weights = [0.5**level for level in range(len(losses))]
    return torch.stack([w * loss for w, loss in zip(weights, losses, strict=True)]).sum() / sum(weights)


class FusionBlock(nn.Module):
    """Fuses a student's map with what came from the deeper level, and predicts the teacher's map.

    Args:
        in_channels: of the student's map.
        mid_channels: of what is handed from level to level.
        out_channels: of the teacher's map.
        fuse: false for the deepest level, which has nothing to fuse with.
    """

    def __init__(self, in_channels: int, mid_channels: int, out_channels: int, *, fuse: bool) -> None:
        super().__init__()
        self.conv1 = _conv_norm(in_channels, mid_channels, kernel=1)
        self.conv2 = _conv_norm(mid_channels, out_channels, kernel=3)
        self.att_conv = nn.Sequential(nn.Conv2d(2 * mid_channels, 2, 1), nn.Sigmoid()) if fuse else None

    def forward(
        self,
        maps: Float[Tensor, "batch _c _h _w"],
        deeper: Float[Tensor, "batch _mid _hd _wd"] | None = None,
        size: Size | None = None,
    ) -> tuple[Float[Tensor, "batch _out _ho _wo"], Float[Tensor, "batch _mid _ho _wo"]]:
        """Fuse, and resize to the teacher's size.

        Args:
            maps: the student's map.
            deeper: what the deeper block handed on.
            size: (h, w) of the teacher's map; the student's own if not given.

        Returns:
            the prediction of the teacher's map, and what the next shallower level fuses with.
        """
        fused = self.conv1(maps)
        if self.att_conv is not None:
            assert deeper is not None
            deeper = F.interpolate(deeper, fused.shape[2:], mode="nearest")
            gates = self.att_conv(torch.cat([fused, deeper], dim=1))
            fused = fused * gates[:, :1] + deeper * gates[:, 1:]
        if size is not None and size != tuple(fused.shape[2:]):
            fused = F.interpolate(fused, size, mode="nearest")
        return self.conv2(fused), fused


def _conv_norm(in_channels: int, out_channels: int, *, kernel: int) -> nn.Sequential:
    conv = nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, bias=False)
    nn.init.kaiming_uniform_(conv.weight, a=1)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels))


class FusionChain(nn.Module):
    """One fusion block for each level, from deep to shallow.

    Args:
        in_channels: of the student's maps, shallow to deep.
        out_channels: of the teacher's maps, shallow to deep.
    """

    def __init__(self, in_channels: Sequence[int], out_channels: Sequence[int]) -> None:
        super().__init__()
        mid = min(512, in_channels[-1])
        pairs = list(zip(in_channels, out_channels, strict=True))
        self.blocks = nn.ModuleList(
            FusionBlock(ours, mid, theirs, fuse=level + 1 < len(pairs)) for level, (ours, theirs) in enumerate(pairs)
        )

    def forward(self, maps: Sequence[Tensor], sizes: Sequence[Size]) -> list[Tensor]:
        """Predict the teacher's maps of the given sizes; everything shallow to deep."""
        predictions, deeper = [], None
        for block, own, size in reversed(list(zip(self.blocks, maps, sizes, strict=True))):
            prediction, deeper = block(own, deeper, size)
            predictions.append(prediction)
        return predictions[::-1]
