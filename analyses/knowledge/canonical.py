"""How many directions two networks share, tested on samples that the directions were not chosen by.

Pairs of variates (one direction in each network) are correlated over each held-out fold. Pairs count, from the most
correlated one in the training folds on, until one has a mean correlation over folds that some pair reaches after the
samples of one network were permuted.
The permutations are cyclic shifts: the samples of a fold are in random order, and one Fourier transform gives
the correlations of all shifts.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from analyses.knowledge.fold_sums import Training

N_PERMUTATIONS = 999
FULL_RANK, N_LEADING = 1024, 256


class Shared(NamedTuple):
    """What a method found general in two networks' coordinates.

    Attributes:
        teacher: general part of each sample, as deviation from the mean, from a model that did not see the sample;
            float64 [n, r_t].
        student: the same, [n, r_s].
        dimension: pairs of directions that the networks share; None where the method knows of none.
        correlations: of each pair of canonical directions, mean over held-out folds.
        penalties: of teacher and student as predictors in each fold, as multiples of their largest eigenvalue.
    """

    teacher: Tensor
    student: Tensor
    dimension: int | None
    correlations: Tensor
    penalties: list[tuple[float, float]]


def canonical(fold: Training) -> tuple[Float64[Tensor, "p c"], Float64[Tensor, "q c"]]:
    """Canonical directions of teacher and student along their axes, most correlated pair first.

    Both networks are whitened with the penalties of the regressions on each other.

    Reference:
        Vinod (1976), Canonical ridge and econometrics of joint production, section 2.
    """
    scales = [(squares + penalty).rsqrt() for squares, penalty in zip(fold.squares, fold.penalties, strict=True)]
    left, right = leading_directions(scales[0][:, None] * fold.products * scales[1])
    return scales[0][:, None] * left, scales[1][:, None] * right


def shared_pairs(
    variates: list[tuple[Tensor, Tensor]], *, seed: int = 0
) -> tuple[Bool[Tensor, " c"], Float64[Tensor, " c"]]:
    """Which leading pairs of variates are correlated.

    Args:
        variates: for each fold the teacher's and the student's [n, c] of its held-out samples.
        seed: of the permutations.

    Returns:
        the leading pairs that beat the largest of all c in each of 999 permutations, up to the first that does
        not, and mean correlations over folds. Later pairs are not looked at: folds share training samples, so
        an occasional pair among hundreds exceeds what permutations allow for.
    """
    generator = torch.Generator().manual_seed(seed)
    n_pairs = min(one.shape[1] for one, _ in variates)
    observed, chance = [], []
    for one, other in variates:
        shifted = _correlations(one[:, :n_pairs], other[:, :n_pairs])  # [n, c]
        shifts = torch.randint(1, len(shifted), (N_PERMUTATIONS,), generator=generator)
        observed.append(shifted[0])
        chance.append(shifted[shifts.to(shifted.device)])
    correlations = torch.stack(observed).mean(0)
    beats = correlations > torch.stack(chance).mean(0).max()
    return beats.long().cumprod(0).bool(), correlations


def leading_directions(matrix: Float64[Tensor, "p q"]) -> tuple[Float64[Tensor, "p c"], Float64[Tensor, "q c"]]:
    """Left and right singular vectors: all of matrices up to rank 1,024, the leading 256 of larger ones.

    Reference:
        Halko, Martinsson, Tropp (2011), Finding structure with randomness, algorithm 4.4.
    """
    if min(matrix.shape) <= FULL_RANK:
        left, _, right = torch.linalg.svd(matrix, full_matrices=False)
        return left, right.mT
    generator = torch.Generator().manual_seed(0)
    probes = torch.randn(matrix.shape[1], N_LEADING + 16, generator=generator, dtype=torch.float64).to(matrix.device)
    basis = torch.linalg.qr(matrix @ probes)[0]
    for _ in range(2):
        basis = torch.linalg.qr(matrix @ torch.linalg.qr(matrix.mT @ basis)[0])[0]
    left, _, right = torch.linalg.svd(basis.mT @ matrix, full_matrices=False)
    return basis @ left[:, :N_LEADING], right[:N_LEADING].mT


def _correlations(one: Tensor, other: Tensor) -> Tensor:
    """Correlation of each pair of columns after 0, 1, ... cyclic shifts of one of them: [n, c]."""
    first, second = (torch.fft.rfft(_standardised(x), dim=0) for x in (one, other))
    correlations: Tensor = torch.fft.irfft(first * second.conj(), n=len(one), dim=0)
    return correlations


def _standardised(x: Tensor) -> Tensor:
    """Columns of mean 0 and length 1; those that do not vary, and so correlate with nothing, become 0."""
    centred = x - x.mean(0)
    length = centred.norm(dim=0)
    return centred / torch.where(length > 0, length, 1.0)
