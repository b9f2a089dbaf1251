"""Pairs of features whose CKA over all images is known: what the intervals of CKA are held against."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy import ndarray

from analyses.cka.intervals import half_widths, ratio
from kdprobe.features.hsic import u_centre

Draw = Callable[[np.random.Generator, int], tuple[ndarray, ndarray]]

_WIDTH, _SHARED = 24, 12  # features of a network, and how many causes both have in common
_MANY = 2_000_000  # images, where the truth has no closed form


@dataclass(frozen=True)
class Population:
    """Features of both networks for any number of images, and the CKA of all of them.

    Attributes:
        name: for the table.
        draw: features [n, d] of both networks.
        truth: ||cov(x, y)||^2 / (||cov(x)|| ||cov(y)||), Frobenius norms.
    """

    name: str
    draw: Draw
    truth: float


def populations() -> list[Population]:
    """The seven, from features as alike as copies to unrelated ones."""
    flat, falling = np.ones(_SHARED), np.arange(1.0, _SHARED + 1) ** -0.5
    return [
        linear("Gaussian, flat spectrum", flat, noise=0.7),
        linear("Gaussian, variances 1/k", falling, noise=0.15),
        linear("Gaussian, mean 100", flat, noise=1.0, mean=100.0),
        linear("t(5) tails", flat, noise=0.7, tails=5),
        _networks("ReLU networks on a mixture of 10"),
        linear("unrelated, variances 1/k", falling, noise=0.15, related=False),
        linear("copy and 10 % noise", flat, noise=0.1, rotated=True),
    ]


def linear(
    name: str,
    scales: ndarray,
    *,
    noise: float,
    mean: float = 0.0,
    tails: int = 0,
    related: bool = True,
    rotated: bool = False,
) -> Population:
    """Two linear views of the same causes, each with noise of its own; of causes of their own if not related."""
    rng, n_causes = np.random.default_rng(0), len(scales)
    views = [scales[:, None] * rng.normal(size=(n_causes, _WIDTH)) / n_causes**0.5 for _ in range(2)]
    if rotated:
        views[1] = views[0] @ np.linalg.qr(rng.normal(size=(_WIDTH, _WIDTH)))[0]
    variance = tails / (tails - 2) if tails else 1.0

    def draws(rng: np.random.Generator, *shape: int) -> ndarray:
        return rng.standard_t(tails, shape) if tails else rng.normal(size=shape)

    def draw(rng: np.random.Generator, n: int) -> tuple[ndarray, ndarray]:
        causes = draws(rng, n, n_causes)
        others = causes if related else draws(rng, n, n_causes)
        x, y = (seen @ view + noise * draws(rng, n, _WIDTH) for seen, view in zip((causes, others), views, strict=True))
        return x + mean, y + mean

    own = [variance * (view.T @ view + noise**2 * np.eye(_WIDTH)) for view in views]
    return Population(name, draw, _alignment(variance * views[0].T @ views[1], *own) if related else 0.0)


def _networks(name: str) -> Population:
    """The last layers of a network of three layers and one of one, with random weights, on clusters of inputs."""
    rng = np.random.default_rng(1)
    centres = 2 * rng.normal(size=(10, 16))
    deep = [rng.normal(size=shape) / shape[0] ** 0.5 for shape in ((16, 48), (48, 48), (48, _WIDTH))]
    shallow = rng.normal(size=(16, _WIDTH)) / 4

    def draw(rng: np.random.Generator, n: int) -> tuple[ndarray, ndarray]:
        inputs = centres[rng.integers(10, size=n)] + rng.normal(size=(n, 16))
        x = inputs
        for weights in deep:
            x = np.maximum(x @ weights, 0)
        return x, np.maximum(inputs @ shallow, 0)

    x, y = draw(np.random.default_rng(2), _MANY)
    joint = np.cov(x, y, rowvar=False)
    return Population(name, draw, _alignment(joint[:_WIDTH, _WIDTH:], joint[:_WIDTH, :_WIDTH], joint[_WIDTH:, _WIDTH:]))


def _alignment(across: ndarray, one: ndarray, other: ndarray) -> float:
    return float(np.square(across).sum() / (np.linalg.norm(one) * np.linalg.norm(other)))


def cka_coverage(population: Population, k: int, n: int, rest: int, draws: int) -> float:
    """How often the interval holds the truth, over k minibatches of n samples and one of the rest, if there is any."""
    rng, covered = np.random.default_rng(k * n + rest), 0
    sizes = [n] * k + [rest] * (rest > 0)
    for _ in range(draws):
        x, y = population.draw(rng, sum(sizes))
        parts = [_hsic(x[: k * n], y[: k * n], k)] + ([_hsic(x[k * n :], y[k * n :], 1)] if rest else [])
        xy, xx, yy = (np.concatenate(one) for one in zip(*parts, strict=True))
        value = ratio(*(np.array([sizes]) @ one for one in (xy, xx, yy)))[0]
        half = half_widths(xy[:, None, None], xx[:, None], yy[:, None], sizes=sizes)[0, 0]
        covered += bool(abs(value - population.truth) <= half)
    return covered / draws


def _hsic(x: ndarray, y: ndarray, k: int) -> list[ndarray]:
    """The three sums of each of k minibatches, as `HSICSums` takes them."""
    grams = []
    for features in (x, y):
        stacked = torch.from_numpy(features - features.mean(0)).reshape(k, len(features) // k, -1)
        grams.append(u_centre(stacked @ stacked.mT))
    n, (one, other) = len(x) // k, grams
    pairs = ((one, other), (one, one), (other, other))
    return [((left * right).sum((1, 2)) / (n * (n - 3))).numpy() for left, right in pairs]
