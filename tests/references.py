"""Slow and obvious versions, in float64, straight from the definitions."""

from itertools import permutations

import numpy as np


def unbiased_hsic(x, y):
    """The U-statistic over all ordered quadruples of different samples (n up to about 9)."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    k, m = x @ x.T, y @ y.T
    terms = [
        k[i, j] * m[i, j] + k[i, j] * m[q, r] - 2 * k[i, j] * m[i, q] for i, j, q, r in permutations(range(len(x)), 4)
    ]
    return sum(terms) / len(terms)


def biased_hsic(x, y):
    n = len(x)
    h = np.eye(n) - 1 / n
    return np.trace(x @ x.T @ h @ y @ y.T @ h) / (n - 1) ** 2


def minibatch_cka(x, y):
    xy, xx, yy = ([unbiased_hsic(a, b) for a, b in zip(*pair, strict=True)] for pair in ((x, y), (x, x), (y, y)))
    return np.mean(xy) / np.sqrt(np.mean(xx) * np.mean(yy))


def rbf(x, width=1.0):
    n = len(x)
    distance = np.array([[np.linalg.norm(x[i] - x[j]) for j in range(n)] for i in range(n)])
    scale = width * np.median([distance[i, j] for i in range(n) for j in range(i)])
    return np.exp(-(distance**2) / (2 * scale**2))
