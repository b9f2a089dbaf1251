"""How often calibration takes unrelated layers for similar: 5 % of the time, whatever measure, width and samples.

Layers are independent Gaussian features. `pair`: how many pairs of two layers exceed their own null. Pairs of one
analysis share their orders of the samples and, in rows and columns, their layers, so that many are tested at the cost
of few. `any`: in how many analyses of 4 x 4 layers of 16 to 1,024 dimensions any pair exceeds its null, with the
correction for all pairs and without.

Usage: python -m tests.benchmarks.bench_null [--share .1]   (of the number of analyses)
"""

import argparse
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch

from analyses.cka.sums import HSICSums
from analyses.similarity.intervals import PreparedLayer, matrix_of
from analyses.similarity.measure import FeatureSet
from analyses.similarity.measures import find_measure
from analyses.similarity.null import CalibratedPairs, calibrate_pairs
from analyses.similarity.permuted import permutation_null
from kdprobe.features.gram import centred_gram

PERMUTATIONS, MINIBATCH, MIXED = 39, 64, (16, 64, 256, 1024)
Analysis = Callable[[int, Sequence[int], int], CalibratedPairs]  # samples, widths of both networks' layers, seed

#: measure, samples, width of all layers, layers of each network, analyses
PAIRS = [
    *(("cka", 64, width, 20, 10) for width in (16, 256, 4096)),
    *(("cka", 1_000, width, 20, 10) for width in (16, 256)),
    ("cka", 1_000, 4_096, 20, 3),
    ("cka", 10_000, 16, 30, 4),
    ("cka", 10_000, 256, 30, 2),
    *(("procrustes", 64, width, 10, 20) for width in (16, 256, 4096)),
    ("procrustes", 1_000, 16, 20, 5),
    ("procrustes", 1_000, 256, 10, 1),
    ("procrustes", 10_000, 16, 10, 5),
    ("mutual-knn", 64, 16, 20, 12),
    *(("mutual-knn", 64, width, 20, 5) for width in (256, 4096)),
    ("mutual-knn", 1_000, 16, 20, 12),
    ("mutual-knn", 1_000, 4_096, 20, 3),
    ("mutual-knn", 10_000, 16, 6, 1),
]
ANY = [("cka", 64, 1_000), ("cka", 1_000, 200), ("procrustes", 64, 300), ("mutual-knn", 64, 300)]


def layers(n: int, widths: Sequence[int], generator: torch.Generator) -> list[torch.Tensor]:
    """Independent features of each width."""
    return [torch.randn(n, width, generator=generator) for width in widths]


def cka(n: int, widths: Sequence[int], seed: int) -> CalibratedPairs:
    """By minibatches, as networks give their features."""
    generator, sums = torch.Generator().manual_seed(seed), HSICSums(permutations=PERMUTATIONS)
    for number, start in enumerate(range(0, n, MINIBATCH)):
        size = min(MINIBATCH, n - start)
        if sums.accepts(size):
            teacher, student = (
                {str(place): centred_gram(layer) for place, layer in enumerate(layers(size, widths, generator))}
                for _ in range(2)
            )
            sums.add(teacher, student, number=10_000 * seed + number)  # which is the seed of its orders
    found = sums.result(calibrated=True).calibration
    assert found is not None
    return found


def by_measure(name: str) -> Analysis:
    """Over all samples at once."""
    measure = find_measure(name)

    def analysis(n: int, widths: Sequence[int], seed: int) -> CalibratedPairs:
        generator = torch.Generator().manual_seed(seed)
        rows, columns = (
            [PreparedLayer(one, measure.prepare(one)) for one in map(FeatureSet, layers(n, widths, generator))]
            for _ in range(2)
        )
        null = permutation_null(measure, rows, columns, torch.arange(n), PERMUTATIONS, seed=seed)
        return calibrate_pairs(matrix_of(measure, rows, columns), null)

    return analysis


def worded(found: Sequence[float], tests: int) -> str:
    """Mean of the analyses' shares in per cent, with its standard error between them."""
    error = np.std(found, ddof=1) / len(found) ** 0.5 if len(found) > 1 else (0.05 * 0.95 / tests) ** 0.5
    return f"{100 * np.mean(found):6.2f} ± {100 * error:.2f}"


def main() -> None:
    """Both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--share", type=float, default=1.0, help="Of the number of analyses.")
    share = parser.parse_args().share
    methods: dict[str, Analysis] = {"cka": cka, **{name: by_measure(name) for name in ("procrustes", "mutual-knn")}}
    print(f"{'measure':<12}{'samples':>8}{'width':>7}{'pairs':>8}  exceed their null, %      s")
    for name, n, width, side, analyses in PAIRS:
        start, times = time.perf_counter(), max(1, round(share * analyses))
        found = [float((methods[name](n, [width] * side, seed).pairs.p_value <= 0.05).mean()) for seed in range(times)]
        tests = times * side**2
        print(
            f"{name:<12}{n:>8}{width:>7}{tests:>8}  {worded(found, tests):<22}{time.perf_counter() - start:>7.0f}",
            flush=True,
        )
    print(f"\n{'measure':<12}{'samples':>8}{'analyses':>10}  any of 16 corrected, %   uncorrected, %         s")
    for name, n, analyses in ANY:
        start, times = time.perf_counter(), max(2, round(share * analyses))
        every = [methods[name](n, MIXED, seed).pairs for seed in range(times)]
        corrected, alone = (
            [float((getattr(one, key) <= 0.05).any()) for one in every] for key in ("p_adjusted", "p_value")
        )
        words = f"{worded(corrected, times):<25}{worded(alone, times):<18}"
        print(f"{name:<12}{n:>8}{times:>10}  {words}{time.perf_counter() - start:>7.0f}", flush=True)


if __name__ == "__main__":
    main()
