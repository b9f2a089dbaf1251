"""The answers of a method's networks beside their teacher's: of several seeds as one, or of a single network.

Every quantity varies with the images that are shown and with the seeds of the training. How much each image and each
seed moves it is found to first order, so that one interval can hold both.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from analyses.fidelity.quantities import (
    BOTH_WRONG,
    BY_CHANCE,
    DIVERGENCE,
    RIGHT,
    SAME,
    SAME_RIGHT,
    SAME_WRONG,
    Answers,
    quantities,
)


class Together:
    """The answers of k networks that differ in the seed alone, and of their teacher, to the same n images.

    Args:
        of_seeds: those of each network.

    Attributes:
        columns: as `Answers` has them [k, n, 7].
        right: whether the teacher is right [n].
        values: each quantity of all networks at once [q]: shares are of the answers of all of them.
    """

    def __init__(self, of_seeds: Sequence[Answers]) -> None:
        self.columns: Float64[ndarray, "k n 7"] = np.stack([one.columns for one in of_seeds])
        self.right = of_seeds[0].right
        self._others = np.stack([one.others for one in of_seeds])
        self._teacher = float(self.right.mean())
        self.values: Float64[ndarray, " q"] = quantities(self.columns.mean((0, 1)), self._teacher)

    def counts(self) -> Float64[ndarray, " q"]:
        """The number of images behind each quantity; where it depends on the network, its mean."""
        n_images, right = len(self.right), int(self.right.sum())
        both_wrong = self.columns[:, :, BOTH_WRONG].sum() / len(self.columns)
        return np.array([n_images, n_images, right, n_images - right, both_wrong, *[n_images] * 3], dtype=float)

    def by_image(self) -> Float64[ndarray, "k n q"]:
        """What each answer adds to each quantity, up to a factor; the mean of all is 0."""
        columns, right = self.columns, self.right.astype(float)
        own = columns[:, :, RIGHT].mean(1, keepdims=True)
        chance_of_right = np.where(columns[:, :, RIGHT] > 0, self._teacher, 1 - self._teacher)
        chance_of_right = chance_of_right + np.where(right > 0, own, 1 - own)
        return self._moved(columns, right, (columns[:, :, BY_CHANCE] + self._others, chance_of_right))

    def by_seed(self) -> Float64[ndarray, "k q"]:
        """How far each network lies from all of them, in each quantity."""
        means = self.columns.mean(1)
        chance_of_right = self._teacher * means[:, RIGHT] + (1 - self._teacher) * (1 - means[:, RIGHT])
        return self._moved(means, np.array(self._teacher), (means[:, BY_CHANCE], chance_of_right))

    def _moved(self, columns: ndarray, right: ndarray, chances: tuple[ndarray, ndarray]) -> ndarray:
        """The quantities' differentials, where these are the columns, the teacher's right answers and the chances."""
        values, teacher = self.values, self._teacher
        same_right, same_wrong, both_wrong = (columns[..., which] for which in (SAME_RIGHT, SAME_WRONG, BOTH_WRONG))
        with np.errstate(divide="ignore", invalid="ignore"):
            found = [
                columns[..., RIGHT] - values[0],
                columns[..., SAME] - values[1],
                (same_right - right * values[2]) / teacher,
                (same_wrong - (1 - right) * values[3]) / (1 - teacher),
                (same_wrong - both_wrong * values[4]) / self.columns[:, :, BOTH_WRONG].mean(),
                _of_kappa(columns[..., SAME], chances[0], self.columns[:, :, BY_CHANCE].mean()),
                _of_kappa(same_right + both_wrong, chances[1], self._chance_of_right()),
                columns[..., DIVERGENCE] - values[7],
            ]
        return np.stack(found, axis=-1)

    def _chance_of_right(self) -> float:
        """How often teacher and networks were both right or both wrong if they erred independently."""
        own = float(self.columns[:, :, RIGHT].mean())
        return self._teacher * own + (1 - self._teacher) * (1 - own)


def _of_kappa(agrees: ndarray, chance: ndarray, expected: float) -> ndarray:
    """The differential of Cohen's kappa (Fleiss, Cohen, Everitt 1969, equation 13).

    Args:
        agrees: whether both say the same, or how often.
        chance: how often each says elsewhere what the other says of it, or how often chance makes them agree.
        expected: how often chance makes all agree.
    """
    observed = agrees.mean()
    far = (1 - observed) * (chance - chance.mean()) / (1 - expected)
    return np.asarray((agrees - observed - far) / (1 - expected))
