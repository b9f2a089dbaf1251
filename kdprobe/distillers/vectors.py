"""Directions of vectors, and their deviations from their mean, either of which may be zero."""

import torch
from torch import Tensor


def centred(vectors: Tensor, dim: int) -> Tensor:
    """Vectors minus the mean of their elements; a vector of equal elements becomes exactly zero and passes no gradient.

    The mean of equal numbers is often off by a rounding error, which a division by the length would blow up.
    """
    deviations = vectors - vectors.mean(dim, keepdim=True)
    lengths = [torch.linalg.vector_norm(values, dim=dim, keepdim=True) for values in (deviations, vectors)]
    return torch.where(lengths[0] > 4 * torch.finfo(vectors.dtype).eps * lengths[1], deviations, 0)


def unit(vectors: Tensor, dim: int) -> Tensor:
    """Vectors of length one; zero stays zero and passes no gradient on."""
    lengths = torch.linalg.vector_norm(vectors, dim=dim, keepdim=True)
    return torch.where(lengths > 0, vectors / torch.where(lengths > 0, lengths, 1), 0)
