"""Directions of vectors, where a vector of zeros has none."""

import torch
from torch import Tensor


def unit(vectors: Tensor, dim: int) -> Tensor:
    """Vectors of length one; zero stays zero and passes no gradient on."""
    lengths = torch.linalg.vector_norm(vectors, dim=dim, keepdim=True)
    return torch.where(lengths > 0, vectors / torch.where(lengths > 0, lengths, 1), 0)
