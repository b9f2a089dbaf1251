"""Features of two networks with known shared and private parts."""

import torch
from torch import Tensor


def planted(
    n: int, teacher_width: int, student_width: int, *, shared: float, noise: float, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """10 shared and 10 private dimensions in each network, mixed at random.

    Args:
        n: samples.
        teacher_width: d_t.
        student_width: d_s.
        shared: fraction of the signal's variance that comes from the shared dimensions.
        noise: standard deviation of the noise over that of the signal.
        seed: of everything.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    latent = normal(n, 10)

    def network(width: int) -> Tensor:
        general, specific, error = latent @ normal(10, width), normal(n, 10) @ normal(10, width), normal(n, width)
        signal = shared**0.5 * general / general.norm() + (1 - shared) ** 0.5 * specific / specific.norm()
        return signal + noise * error / error.norm()

    return network(teacher_width), network(student_width)


def rotation(width: int, *, seed: int = 0) -> Tensor:
    """A random orthogonal matrix."""
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(width, width, generator=generator, dtype=torch.float64))[0]


def independent(n: int, width: int, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Gaussian features without any relation."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, width, generator=generator), torch.randn(n, width, generator=generator)
