"""How often calibration finds unrelated networks alike: 5 % of the time, whatever the measure, width and samples.

Layers are independent Gaussian features. Pairs within one analysis share their orders of the samples and their layers,
so that many of them are tested at the cost of few; `any of 16` counts analyses of 4 x 4 layers of mixed widths in which
any pair exceeds its null, with and without the correction for their number.

Usage: python -m tests.benchmarks.bench_null [--large]
"""

from collections.abc import Callable

import torch

from analyses.cka.sums import HSICSums
from analyses.similarity.measures import find_measure
from analyses.similarity.null import CalibratedPairs, calibrate_pairs
from analyses.similarity.permuted import permutation_null
from kdprobe.features.gram import centred_gram

PERMUTATIONS, MINIBATCH = 39, 64
MIXED = (16, 64, 256, 1024)
Analysis = Callable[[int, tuple[int, ...], tuple[int, ...], int], CalibratedPairs]


def features(n: int, widths: tuple[int, ...], generator: torch.Generator) -> list[torch.Tensor]:
    return [torch.randn(n, width, generator=generator, dtype=torch.float32) for width in widths]


def cka(n: int, teacher: tuple[int, ...], student: tuple[int, ...], seed: int) -> CalibratedPairs:
    """By minibatches, as networks give them."""
    generator, sums = torch.Generator().manual_seed(seed), HSICSums(permutations=PERMUTATIONS)
    for number, start in enumerate(range(0, n, MINIBATCH)):
        size = min(MINIBATCH, n - start)
        if not sums.accepts(size):
            continue
        grams = (
            {str(place): centred_gram(layer) for place, layer in enumerate(features(size, widths, generator))}
            for widths in (teacher, student)
        )
        sums.add(*grams, number=number + 10_000 * seed)
    found = sums.result(calibrated=True).calibration
    assert found is not None
    return found


def by_measure(name: str) -> Analysis:
    measure = find_measure(name)

    def analysis(n: int, teacher: tuple[int, ...], student: tuple[int, ...], seed: int) -> CalibratedPairs:
        generator = torch.Generator().manual_seed(seed)
        rows, columns = (prepared_layers(measure, features(n, widths, generator)) for widths in (teacher, student))
        null = permutation_null(measure, rows, columns, torch.arange(n), PERMUTATIONS, seed=seed)
        return calibrate_pairs(matrix_of(measure, rows, columns), null)

    return analysis
