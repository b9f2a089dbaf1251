"""The projection space of DropKD: encoder, decoder and classifier of one network, and dropout masks.

All layers are reconstructed: the publication shows that each network has these three parts, of the same
architecture and unshared, but their drawing is not readable.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool
from torch import Tensor, nn


def keep_masks(
    reference: Tensor, *, rates: tuple[float, float], nested: bool, shape: Sequence[int] | None = None
) -> tuple[Bool[Tensor, "..."], Bool[Tensor, "..."]]:
    """Which elements the teacher and the student keep.

    Args:
        reference: tensor whose device the masks are made on, and whose shape they have if none is given.
        rates: probabilities of being dropped (teacher, student), each in [0, 1).
        nested: one uniform draw for both networks, so that the higher rate keeps a subset of what the lower keeps.
        shape: shape of the masks; it must broadcast against the reference.

    Returns:
        two boolean masks (teacher, student), True where kept.
    """
    size = tuple(reference.shape if shape is None else shape)
    teacher = torch.rand(size, device=reference.device)
    student = teacher if nested else torch.rand(size, device=reference.device)
    return teacher >= rates[0], student >= rates[1]


def drop(x: Tensor, keep: Tensor, rate: float) -> Tensor:
    """Zero what is not kept and scale the rest by 1 / (1 - rate), so that the expectation stays."""
    return x * (keep.to(x.dtype) / (1 - rate))


class TokenEncoder(nn.Module):
    """Layer norm, linear, GELU, linear, layer norm at each position: [B, c, h, w] -> [B, d, h, w]."""

    def __init__(self, channels: int, dim: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.LayerNorm(channels),
            nn.Linear(channels, dim),
            nn.GELU(),
            nn.Linear(dim, dim),
            nn.LayerNorm(dim),
        )

    def forward(self, x: Tensor) -> Tensor:
        """[B, c, h, w] -> [B, d, h, w]."""
        encoded: Tensor = self.layers(x.permute(0, 2, 3, 1))
        return encoded.permute(0, 3, 1, 2)


class Projection(nn.Module):
    """Encoder, decoder and classifier of one network at one stage (reconstructed).

    Args:
        channels: c, of the network's map.
        dim: d, of the projection space.
        n_classes: C; 0 for no classifier.
        encoder: `conv` or `token`.
    """

    def __init__(self, channels: int, dim: int, n_classes: int, *, encoder: str) -> None:
        super().__init__()
        self.encoder = TokenEncoder(channels, dim) if encoder == "token" else _conv_encoder(channels, dim)
        self.decoder = nn.Sequential(
            nn.Conv2d(dim, dim, 3, padding=1, bias=False),
            nn.BatchNorm2d(dim),
            nn.ReLU(inplace=True),
            nn.Conv2d(dim, channels, 1),
        )
        self.classifier = nn.Linear(dim, n_classes) if n_classes else None
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def classify(self, vectors: Tensor) -> Tensor:
        """Vectors [B, d] of the projection space -> logits [B, C]."""
        assert self.classifier is not None
        logits: Tensor = self.classifier(vectors)
        return logits


def _conv_encoder(channels: int, dim: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, dim, 1, bias=False),
        nn.BatchNorm2d(dim),
        nn.ReLU(inplace=True),
        nn.Conv2d(dim, dim, 3, padding=1, bias=False),
        nn.BatchNorm2d(dim),
    )
