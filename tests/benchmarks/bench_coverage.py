"""How often intervals hold the truth: CKA, other measures, means of recalls, ECE, seeds, differences of methods.

    python -m tests.benchmarks.bench_coverage [--draws N] [--only cka|measures|shares|calibration|seeds|pooled]

Each line is a population whose truth is known; nominal coverage is 0.95. The tables are Markdown, for
docs/explanation/intervals.md.
"""

import argparse
from collections.abc import Callable

import numpy as np
from numpy import ndarray

from analyses.evaluation.calibration import N_BINS, calibration_interval, reliability
from analyses.evaluation.proportions import mean_of_shares
from kdprobe.mean_interval import seeds_interval, wilson
from kdprobe.runs.differences import against, differences, told
from kdprobe.runs.pooled import pooled_differences
from tests.benchmarks.measure_coverage import OF_POPULATION, OF_SAMPLES, covered, found_intervals, truths
from tests.benchmarks.populations import cka_coverage, populations

K = (5, 8, 20, 100)  # minibatches
GROUPS, MEASURED = (5, 20), (*OF_POPULATION, *OF_SAMPLES)
RECALLS = {
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


def coverage_of_cka(draws: int) -> None:
    """Jackknife-t over K minibatches of 32 samples, and over K with a last one of 10."""
    for n, rest in ((32, 0), (32, 10)):
        rows = [[f"CKA, minibatches of {n}{f' and one of {rest}' if rest else ''}", "truth", *(f"K = {k}" for k in K)]]
        for population in populations():
            covered = [cka_coverage(population, k, n, rest, max(1, draws // (2 if k == 100 else 1))) for k in K]
            rows.append([population.name, f"{population.truth:.3f}", *(f"{share:.3f}" for share in covered)])
        _table(rows)


def coverage_of_measures(draws: int) -> None:
    """Jackknife-t over 5 and 20 groups of samples, of measures other than CKA."""
    for n, times in ((64, draws), (200, draws // 2), (1000, draws // 10)):
        rows = [[f"{n} samples", *(f"{name}, {groups} groups" for name in MEASURED for groups in GROUPS)]]
        for population in populations():
            truth = truths(population)
            found = found_intervals(MEASURED, population, n, GROUPS, max(1, times))
            shares = [share for name in MEASURED for share in covered(found[name], truth.get(name))]
            rows.append([population.name, *(f"{share:.3f}" for share in shares)])
        _table(rows)


def coverage_of_shares(draws: int) -> None:
    """UAR and, of all images at once, accuracy."""
    rows = [["UAR, accuracy", "covered", "mean width"]]
    for name, (images, shares) in RECALLS.items():
        rng, ends = np.random.default_rng(0), []
        for right in rng.binomial(images, shares, size=(draws, len(images))):
            ends.append(mean_of_shares(np.stack([right, np.array(images) - right], axis=1)))
        rows.append([name, *_told(np.array(ends), float(np.mean(shares)))])
    for n, share in ((20, 0.9), (88, 0.01), (359, 0.96)):
        right = np.random.default_rng(0).binomial(n, share, size=draws)
        rows.append([f"one share of {n}, {share:g}", *_told(wilson(np.stack([right, n - right], axis=1)), share)])
    _table(rows)


def coverage_of_calibration(draws: int) -> None:
    """ECE of 200 and 1,000 images; the truth is that of 300,000 without noise."""
    rows = [["ECE", "truth", "200 images", "mean width", "1,000 images", "mean width"]]
    for how, sure in SURE.items():
        for what, right in RIGHT.items():
            all_sure = sure(np.random.default_rng(99), 300_000)
            bins = reliability(all_sure, right(all_sure), n_bins=N_BINS)  # type: ignore[arg-type]
            truth = float(np.nansum(bins.images * np.abs(bins.accuracy - bins.confidence)) / len(all_sure))
            cells = []
            for n in (200, 1000):
                ends = []
                for seed in range(max(1, draws // 4)):
                    rng = np.random.default_rng(seed)
                    shown = sure(rng, n)
                    ends.append(calibration_interval(shown, rng.random(n) < right(shown), n_draws=400, seed=seed))
                cells += _told(np.array(ends), truth)
            rows.append([f"{how}, {what}", f"{truth:.3f}", *cells])
    _table(rows)


def coverage_over_seeds(draws: int) -> None:
    """Means over seeds, with ties of small test sets, and false alarms in whole tables of methods that are alike."""
    rows = [["mean accuracy over seeds", "covered", "of them ties"]]
    for n_seeds, n_images, spread in ((3, 40, 0.0), (3, 360, 0.005), (5, 360, 0.0), (5, 10_000, 0.003)):
        rng, covered, ties = np.random.default_rng(0), 0, 0
        for _ in range(draws):  # networks that err on the same images, but for their own spread
            easy = np.sort(rng.random(n_images))
            values = [float((easy < 0.9 + spread * rng.normal()).mean()) for _ in range(n_seeds)]
            _, low, high = seeds_interval(values, n_images=n_images)
            truth = 0.9 if np.ptp(values) == 0 else float((easy < 0.9).mean())  # over seeds, on these images
            covered, ties = covered + (low <= truth <= high), ties + (np.ptp(values) == 0)
        name = f"{n_seeds} seeds, {n_images} images, spread {100 * spread:g} points"
        rows.append([name, f"{covered / draws:.3f}", f"{ties / draws:.2f}"])
    _table(rows)
    rows = [["methods that are alike", "tables with a false alarm"]]
    for n_methods, n_seeds, n_images, baseline in ((3, 3, 360, None), (6, 3, 360, "a"), (6, 5, 60, None)):
        rng, names = np.random.default_rng(0), {name: name for name in "abcdef"[:n_methods]}
        alarms = 0
        for _ in range(max(1, draws // 4)):
            shares = np.clip(rng.normal(0.9, 0.01, (n_methods, n_seeds)), 0, 1)
            values = {"accuracy": rng.binomial(n_images, shares) / n_images}
            found = differences(values, names, [n_images] * n_methods, baseline=baseline)
            alarms += any(told(entry) != "cannot be told" for entry in found)
        what = f"{len(found)} differences of {n_methods} methods, {n_seeds} seeds, {n_images} images"
        rows.append([what, f"{alarms / max(1, draws // 4):.3f}"])
    _table(rows)


def pooled_tests(draws: int) -> None:
    """Tests with one variance for all methods: false alarms, where some scatter more, and what they find."""
    rows = [["methods, seeds", "every second one scatters", "of one variance", "of the pair's"]]
    for n_methods, n_seeds, ratio in ((9, 3, 1), (16, 3, 1), (16, 3, 2), (16, 3, 4), (16, 5, 1), (16, 5, 2)):
        alarms = _tables_that_find(draws // 4, n_methods, n_seeds, ratio=ratio)
        rows.append([f"{n_methods}, {n_seeds}", f"{ratio} times as much", *alarms])
    _table(rows)
    rows = [["a true difference of 4 standard deviations", "of one variance", "of the pair's"]]
    rows += [
        [f"16 methods, {n} seeds: found in", *_tables_that_find(draws // 4, 16, n, effect=0.02)] for n in (3, 4, 5)
    ]
    _table(rows)


def _tables_that_find(
    draws: int, n_methods: int, n_seeds: int, *, ratio: float = 1.0, effect: float = 0.0
) -> list[str]:
    """In how many tables a difference is found: any among equals, or that of the one method that is better."""
    names = ["kd", "plain", *(f"m{number}" for number in range(n_methods - 2))]
    pairs, better = against(names, ("kd", "plain")), ("m0", "plain")
    scatter = 0.005 * np.where(np.arange(n_methods) % 2, 1, ratio)[:, None]
    rng, found = np.random.default_rng(0), np.zeros(2)
    for _ in range(draws):
        table = 0.5 + rng.normal(0, 0.01, n_seeds) + scatter * rng.normal(size=(n_methods, n_seeds))
        table[names.index("m0")] += effect
        pooled = pooled_differences(table, names, pairs)
        alone = differences({"accuracy": table}, {name: name for name in names}, [None] * n_methods, pairs=pairs)
        for place, entries in enumerate((pooled.differences if pooled else [], alone)):
            asked = [one for one in entries if not effect or (one["method"], one["other"]) == better]
            found[place] += any(told(entry) != "cannot be told" for entry in asked)
    return [f"{share:.3f}" for share in found / draws]


def _told(ends: ndarray, truth: float) -> list[str]:
    value, low, high = ends.T
    assert ((low <= value) & (value <= high) & (low >= 0) & (high <= 1)).all()
    covered = float(((low <= truth + 1e-9) & (truth <= high + 1e-9)).mean())
    return [f"{covered:.3f}", f"{float((high - low).mean()):.3f}"]


def _table(rows: list[list[str]]) -> None:
    head, *rest = rows
    for row in (head, ["---"] * len(head), *rest):
        print(f"| {' | '.join(row)} |", flush=True)
    print(flush=True)


PARTS = {
    "cka": coverage_of_cka,
    "measures": coverage_of_measures,
    "shares": coverage_of_shares,
    "calibration": coverage_of_calibration,
    "seeds": coverage_over_seeds,
    "pooled": pooled_tests,
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--only", choices=PARTS)
    given = parser.parse_args()
    for name, part in PARTS.items():
        if given.only in (None, name):
            part(given.draws)
