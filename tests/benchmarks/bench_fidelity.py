"""How often the intervals of fidelity hold the truth, and how often its tests find what is there, and what is not.

    python -m tests.benchmarks.bench_fidelity [--draws N] [--only networks|seeds|differences|tests]

Each line is a population whose truth is known: networks with ten classes that copy some of the mistakes of a teacher,
and find some images hard as other networks do. Nominal coverage is 0.95. The tables are Markdown, for
docs/explanation/fidelity.md.
"""

import argparse
from typing import Any

import numpy as np
from numpy import ndarray

from analyses.fidelity.comparisons import compare_methods
from analyses.fidelity.measured import measure_answers
from analyses.fidelity.quantities import FIDELITIES, LIMITS
from tests.analyses.fidelity.planted import as_measured, methods, trained, truth

IMAGES, ACCURACIES, SEEDS = (200, 1000, 5000), (0.6, 0.9, 0.98), (2, 3, 5)
HEADS = ["accuracy", "agreement", "if right", "if wrong", "same error", "kappa", "consistency", "JS"]
OTHERS = [1, 2, 4, 5, 6, 7]  # quantities that are tested together
LEVEL = 0.05


def networks(draws: int) -> None:
    """Intervals over images, of one network."""
    _row(["one network: images, accuracy", *HEADS, "width if wrong"], head=True)
    for accuracy in ACCURACIES:
        population: dict[str, Any] = {"teacher": accuracy, "accuracy": accuracy, "copies": (0.2,)}
        true = truth(300_000, **population)
        for n_images in IMAGES:
            rng = np.random.default_rng(n_images)
            ends = np.array([measure_answers(trained(rng, n_images, **population)) for _ in range(2 * draws)])
            _row([f"{n_images}, {accuracy:g}", *_covered(ends, true), _width(ends)])
    print(flush=True)


def seeds(draws: int) -> None:
    """Intervals over images and seeds, of methods whose seeds differ not at all, some or much."""
    _row(["methods: seeds, images, accuracy, spread", *HEADS, "width if wrong"], head=True)
    for n_images, accuracy in ((200, 0.9), (1000, 0.9), (1000, 0.98), (5000, 0.6)):
        for spread in (0.0, 0.1, 0.4):
            population: dict[str, Any] = {"teacher": accuracy, "accuracy": accuracy, "spread": spread}
            true = truth(20_000, n_seeds=16, **population)
            for n_seeds in SEEDS:
                rng = np.random.default_rng(n_seeds)
                ends = np.array([measure_answers(trained(rng, n_images, n_seeds, **population)) for _ in range(draws)])
                name = f"{n_seeds}, {n_images}, {accuracy:g}, {spread:g}"
                _row([name, *_covered(ends, true), _width(ends)])
    print(flush=True)


def differences(draws: int) -> None:
    """Intervals of the difference of a method that copies 40 % of the mistakes and one that copies 10 %."""
    _row(["differences: seeds, images, accuracy", *HEADS, "width if wrong"], head=True)
    for n_images, accuracy in ((200, 0.9), (1000, 0.9), (1000, 0.98)):
        population: dict[str, Any] = {"teacher": accuracy, "accuracy": accuracy, "spread": 0.1, "apart": 0.5}
        one, other = (truth(20_000, n_seeds=16, copies=(share,), **population) for share in (0.4, 0.1))
        for n_seeds in (1, 3, 5):
            fixed = population if n_seeds > 1 else {**population, "spread": 0.0}
            of_pair, _ = _pairs(draws, n_images, n_seeds, copies=(0.4, 0.1), **fixed)
            name = f"{n_seeds}, {n_images}, {accuracy:g}"
            _row([name, *_covered(of_pair, one - other, LIMITS - LIMITS[:, ::-1]), _width(of_pair)])
    print(flush=True)


def tests(draws: int) -> None:
    """How often tests find a difference at 5 %: where there is none, and where there is."""
    _row(["method copies, control copies", *HEADS, "any other, by Holm"], head=True)
    for n_images, spread in ((200, 0.1), (1000, 0.1), (1000, 0.4)):
        for copies in ((0.1, 0.1), (0.3, 0.1)):
            for n_seeds in (1, 3, 5) if spread < 0.4 else (3, 5):
                own = {"spread": spread if n_seeds > 1 else 0.0, "apart": 0.5}
                _, (p_values, adjusted) = _pairs(draws, n_images, n_seeds, copies=copies, **own)
                found = [f"{share:.3f}" for share in (p_values < LEVEL).mean(0)]
                any_found = f"{(adjusted[:, OTHERS] < LEVEL).any(1).mean():.3f}"
                what = f"{n_images} images, {n_seeds} seed{'s' * (n_seeds > 1)}"
                what += f", spread {spread:g}" if n_seeds > 1 else ""
                _row([f"{100 * copies[0]:g} %, {100 * copies[1]:g} %; {what}", *found, any_found])
    print(flush=True)


def _pairs(draws: int, n_images: int, n_seeds: int, **population: Any) -> tuple[ndarray, tuple[ndarray, ndarray]]:
    """Differences [draws, q, 3] and p values, as they are and by Holm, of pairs of methods."""
    rng, found = np.random.default_rng(n_seeds), []
    for seed in range(draws):
        known = as_measured(methods(rng, n_images, n_seeds, **population))
        found.append(compare_methods(known, confidence=0.95, seed=seed))
    p_values, adjusted = (np.array([getattr(one, name)[0] for one in found]) for name in ("p_values", "adjusted"))
    return np.array([one.differences[0] for one in found]), (p_values, adjusted)


def _covered(ends: ndarray, true: ndarray, limits: ndarray = LIMITS) -> list[str]:
    """How often intervals hold the truth, where they are defined; all of them must be within their range."""
    value, low, high = np.moveaxis(ends, -1, 0)
    defined = ~np.isnan(low)
    assert ((low <= value) & (value <= high) & (low >= limits[:, 0]) & (high <= limits[:, 1]))[defined].all()
    held = np.where(defined, (low <= true + 1e-9) & (true <= high + 1e-9), np.nan)
    return ["-" if np.isnan(one).all() else f"{np.nanmean(one):.3f}" for one in held.T]


def _width(ends: ndarray) -> str:
    which = list(FIDELITIES).index("agreement_wrong")
    return f"{np.nanmean(ends[:, which, 2] - ends[:, which, 1]):.3f}"


def _row(cells: list[str], *, head: bool = False) -> None:
    for row in (cells, ["---"] * len(cells)) if head else (cells,):
        print(f"| {' | '.join(row)} |", flush=True)


PARTS = {"networks": networks, "seeds": seeds, "differences": differences, "tests": tests}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--only", choices=PARTS)
    given = parser.parse_args()
    for name, part in PARTS.items():
        if given.only in (None, name):
            part(given.draws)
