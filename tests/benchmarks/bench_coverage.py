"""How often intervals hold the truth: UAR over classes of 5 to 50 images, and ECE of networks whose errors are known.

    python tests/benchmarks/bench_coverage.py [--draws N]

Each line is a population: nominal coverage is 0.95.
"""

import argparse
from collections.abc import Callable

import numpy as np
from numpy import ndarray

from analyses.evaluation.calibration import N_BINS, calibration_interval, reliability
from analyses.evaluation.proportions import mean_of_shares
from kdprobe.mean_interval import wilson

POPULATIONS = {
    "7 classes of 5, recall .9": ([5] * 7, [0.9] * 7),
    "7 classes of 5, recall .5": ([5] * 7, [0.5] * 7),
    "7 classes of 20, recall .95": ([20] * 7, [0.95] * 7),
    "5 to 50, recall .6 to .97": ([5, 10, 15, 20, 30, 40, 50], [0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.97]),
    "5 to 50, recall .99": ([5, 10, 15, 20, 30, 40, 50], [0.99] * 7),
    "5 hard among 50 easy": ([5, 50, 50, 50], [0.3, 0.95, 0.95, 0.95]),
    "5 easy among 50 hard": ([5, 50, 50, 50], [0.97, 0.6, 0.6, 0.6]),
    "2 classes of 5": ([5, 5], [0.9, 0.8]),
    "100 classes of 5": ([5] * 100, [0.8] * 100),
    "10 classes of 50, recall .99": ([50] * 10, [0.99] * 10),
}
SURE: dict[str, Callable[[np.random.Generator, int], ndarray]] = {
    "unsure to sure": lambda rng, n: np.clip(rng.beta(3, 1.2, n), 0.1, 1),
    "even": lambda rng, n: rng.uniform(0.2, 1, n),
    "very sure": lambda rng, n: np.clip(rng.beta(20, 1, n), 0.1, 1),
}
RIGHT: dict[str, Callable[[ndarray], ndarray]] = {
    "calibrated": lambda sure: sure,
    "0.03 too sure": lambda sure: np.clip(sure - 0.03, 0, 1),
    "0.1 too sure": lambda sure: np.clip(sure - 0.1, 0, 1),
    "right at sure^2": lambda sure: sure**2,
    "both ways": lambda sure: np.clip(sure - 0.15 * np.sin(6 * sure), 0, 1),
}


def coverage_of_means(draws: int) -> None:
    """UAR and, of all images at once, accuracy."""
    print(f"{'UAR':32} {'covered':>8} {'width':>7}")
    for name, (images, shares) in POPULATIONS.items():
        rng, ends = np.random.default_rng(0), []
        for right in rng.binomial(images, shares, size=(draws, len(images))):
            ends.append(mean_of_shares(np.stack([right, np.array(images) - right], axis=1)))
        _tell(name, np.array(ends), float(np.mean(shares)))
    for n, share in ((20, 0.9), (88, 0.01), (359, 0.96)):
        right = np.random.default_rng(0).binomial(n, share, size=draws)
        _tell(f"one share of {n}, {share:g}", wilson(np.stack([right, n - right], axis=1)), share)


def coverage_of_calibration(draws: int) -> None:
    """ECE of 200 and 1,000 images; the truth is that of 300,000 without noise."""
    print(f"{'ECE':48} {'covered':>8} {'width':>7}")
    for how, sure in SURE.items():
        for what, right in RIGHT.items():
            all_sure = sure(np.random.default_rng(99), 300_000)
            bins = reliability(all_sure, right(all_sure), n_bins=N_BINS)  # type: ignore[arg-type]
            truth = float(np.nansum(bins.images * np.abs(bins.accuracy - bins.confidence)) / len(all_sure))
            for n in (200, 1000):
                ends = []
                for seed in range(draws):
                    rng = np.random.default_rng(seed)
                    shown = sure(rng, n)
                    ends.append(calibration_interval(shown, rng.random(n) < right(shown), n_draws=400, seed=seed))
                _tell(f"{how}, {what}, {n} images: {truth:.3f}", np.array(ends), truth)


def _tell(name: str, ends: ndarray, truth: float) -> None:
    value, low, high = ends.T
    assert ((low <= value) & (value <= high) & (low >= 0) & (high <= 1)).all()
    covered = float(((low <= truth + 1e-9) & (truth <= high + 1e-9)).mean())
    print(f"{name:48} {covered:8.3f} {float((high - low).mean()):7.3f}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=400)
    given = parser.parse_args()
    coverage_of_means(given.draws)
    coverage_of_calibration(max(1, given.draws // 4))
