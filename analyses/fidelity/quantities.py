"""What is measured of a network beside its teacher: how often, and where, it answers as the teacher does.

Each quantity follows from the means of a few numbers of each image, the *columns*. So the same few lines give the
quantities of a network, of several at once, and of thousands of random swaps of two networks' answers.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float64, Int64
from numpy import ndarray
from torch import Tensor

from analyses.evaluation.divergence import MOST, jensen_shannon


class Quantity(NamedTuple):
    """A quantity: its name in words, the factor of the numbers that are shown (100 for percent), and its range."""

    label: str
    scale: float = 100.0
    lowest: float = 0.0
    highest: float = 1.0


FIDELITIES = {
    "accuracy": Quantity("accuracy"),
    "agreement": Quantity("agreement"),
    "agreement_right": Quantity("agreement if teacher right"),
    "agreement_wrong": Quantity("agreement if teacher wrong"),
    "same_error": Quantity("same error if both wrong"),
    "kappa": Quantity("Cohen's kappa", 1.0, -1.0),
    "error_consistency": Quantity("error consistency", 1.0, -1.0),
    "jensen_shannon": Quantity("Jensen-Shannon divergence", 1.0, highest=MOST),
}
#: lowest and highest possible value of each [q, 2]
LIMITS = np.array([(quantity.lowest, quantity.highest) for quantity in FIDELITIES.values()])
ROUNDING = 1e-12  # by which shares that add up to 1 may miss it
N_COLUMNS = 7
RIGHT, SAME, SAME_RIGHT, SAME_WRONG, BOTH_WRONG, BY_CHANCE, DIVERGENCE = range(N_COLUMNS)


class Answers:
    """The answers of a network and its teacher to the same images.

    Args:
        logits: of the network, [n, C].
        teacher: of its teacher, [n, C].
        targets: true classes [n].
        temperature: of the Jensen-Shannon divergence.

    Attributes:
        columns: [n, 7]: whether the network is right; whether both give the same answer; the same where the teacher is
            right, and where it is wrong; whether both are wrong; how often the teacher gives the network's answer
            anywhere; and the divergence.
        others: how often the network gives the teacher's answer of each image anywhere [n].
        right: whether the teacher is right [n].
    """

    def __init__(
        self,
        logits: Float[Tensor, "n C"],
        teacher: Float[Tensor, "n C"],
        targets: Int64[Tensor, " n"],
        *,
        temperature: float,
    ) -> None:
        own, taught, true = logits.argmax(1).numpy(), teacher.argmax(1).numpy(), targets.numpy()
        n_images, n_classes = logits.shape
        shares = [np.bincount(answers, minlength=n_classes) / n_images for answers in (own, taught)]
        self.right = taught == true
        same, wrong = own == taught, (own != true) & ~self.right
        divergence = jensen_shannon(logits, teacher, temperature=temperature).numpy()
        columns = [own == true, same, same & self.right, same & ~self.right, wrong, shares[1][own], divergence]
        self.columns: Float64[ndarray, "n 7"] = np.stack(columns, axis=1).astype(float)
        self.others: Float64[ndarray, " n"] = shares[0][taught]

    @property
    def values(self) -> Float64[ndarray, " q"]:
        """Each quantity; NaN where it is not defined."""
        return quantities(self.columns.mean(0), float(self.right.mean()))


def quantities(means: Float64[ndarray, "*k 7"], teacher: float) -> Float64[ndarray, "*k q"]:
    """The quantities, in the order of `FIDELITIES`, from the means of the columns.

    Args:
        means: of the columns.
        teacher: share of the images that the teacher gets right.

    Returns:
        shares from 0 to 1, kappas up to 1, and nats; NaN where a quantity is not defined.
    """
    own, same, same_right, same_wrong, both_wrong, chance, divergence = np.moveaxis(means, -1, 0)
    expected = teacher * own + (1 - teacher) * (1 - own)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = [
            own,
            same,
            same_right / teacher if teacher > 0 else np.full_like(own, np.nan),
            same_wrong / (1 - teacher) if teacher < 1 else np.full_like(own, np.nan),
            np.where(both_wrong > 0, same_wrong / both_wrong, np.nan),
            _kappa(same, chance),
            _kappa(same_right + both_wrong, expected),
            divergence,
        ]
    return np.stack(found, axis=-1)


def _kappa(observed: ndarray | float, expected: ndarray | float) -> ndarray:
    return np.where(expected < 1 - ROUNDING, (observed - expected) / (1 - expected), np.nan)
