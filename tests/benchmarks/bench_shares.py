"""How true general shares are: bias, and how often intervals hold the truth, over networks whose shares are known.

    python -m tests.benchmarks.bench_shares [--draws N]

Run by `make bench-shares`; the last table stands in `docs/explanation/general-and-specific.md`. Each line is a
population: the teacher is a linear map of the student plus noise, so that the share is known from the covariances.
Nominal coverage is 0.95. Where samples are too few, the share of the leading components of these very samples is what
is estimated, and `at most` is how often the lower end stays below the share of all components.
"""

import argparse
import sys
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from analyses.knowledge.adjusted import adjusted_share, basis_of
from analyses.knowledge.coordinates import coordinates
from analyses.knowledge.groups import SampleGroups
from kdprobe.features.rounding import precision_of

Draw = Callable[[int], Tensor]  # of so many independent values of variance 1
MOST_BIAS, LEAST_COVERAGE = 0.01, 0.92


class Population(NamedTuple):
    """Networks whose share is known: teacher = student @ slopes + noise.

    Attributes:
        n: images.
        student: standard deviations of the student's directions [d_s].
        slopes: [d_s, d_t].
        noise: standard deviations of the teacher's own part along its directions [d_t].
        tails: degrees of freedom of Student's t; 0 for normal values.
        stored: what happens to features when they are stored.
        copies: times each image is shown, with noise of its own each time.
    """

    n: int
    student: Tensor
    slopes: Tensor
    noise: Tensor
    tails: int = 0
    stored: Callable[[Tensor], Tensor] = lambda features: features
    copies: int = 1

    @property
    def truth(self) -> float:
        """Share of the teacher's variance that the student explains."""
        general = float((self.student[:, None] * self.slopes).square().sum())
        return general / (general + float(self.noise.square().sum()))

    def draw(self, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Student, teacher, and what the student explains of the teacher."""
        values = rng.standard_normal if not self.tails else lambda shape: rng.standard_t(self.tails, shape)
        scale = 1.0 if not self.tails else (1 - 2 / self.tails) ** 0.5
        own, noise = (scale * torch.from_numpy(values((self.n, len(of)))) for of in (self.student, self.noise))
        student = own * self.student
        general = student @ self.slopes
        return student, general + noise * self.noise, general


def planted(n: int, d: int, share: float, **more: object) -> Population:
    """10 of d directions are shared and hold that share of the variance."""
    strong = ((d - 10) * share / (10 * (1 - share))) ** 0.5
    scales, shared = torch.ones(d, dtype=torch.float64), torch.zeros(d, d, dtype=torch.float64)
    scales[:10] = strong
    shared[:10, :10] = torch.eye(10)
    noise = torch.ones(d, dtype=torch.float64)
    noise[:10] = 0
    return Population(n, scales, shared, noise, **more)  # type: ignore[arg-type]


def noisy(n: int, d: int, share: float, *, falls: float = 0.0, **more: object) -> Population:
    """A copy with noise, both with variances that fall by that power."""
    scales = torch.arange(1, d + 1, dtype=torch.float64) ** (-falls / 2)
    strength = (share / (1 - share)) ** 0.5
    slopes = strength * torch.eye(d, dtype=torch.float64)
    return Population(n, scales, slopes, scales.clone(), **more)  # type: ignore[arg-type]


def twice(features: Tensor) -> Tensor:
    """With sums of columns as further columns."""
    return torch.cat([features, features[:, :32] + features[:, -32:]], 1)


def beside_constant(features: Tensor) -> Tensor:
    """With a column that does not vary."""
    return torch.cat([features, torch.full((len(features), 1), 3.1, dtype=features.dtype)], 1)


POPULATIONS = {
    "planted rank 10, d = 64": planted(360, 64, 0.5),
    "planted rank 10, d = 64, n = 2000": planted(2000, 64, 0.5),
    "planted rank 10, d = 256": planted(360, 256, 0.25),
    "copy + noise, SNR 1, d = 128": noisy(360, 128, 0.5),
    "copy + noise, SNR 4, d = 128": noisy(360, 128, 0.8),
    "independent, d = 256": noisy(360, 256, 0.0),
    "power-law spectra, d = 256": noisy(360, 256, 0.25, falls=1.0),
    "t(5) tails, d = 128": noisy(360, 128, 0.5, tails=5),
    "rank 64 in 96 columns": noisy(360, 64, 0.5, stored=twice),
    "a constant column, d = 64": noisy(360, 64, 0.5, stored=beside_constant),
    "float16 dumps, d = 64": noisy(360, 64, 0.5, stored=lambda x: x.half()),
    "1e6 off zero, d = 64": noisy(360, 64, 0.5, stored=lambda x: x + 1e6),
    "1e6 off zero in float32, d = 64": noisy(360, 64, 0.5, stored=lambda x: (x + 1e6).float()),
    "200 images, 10 copies each, independent, d = 64": noisy(200, 64, 0.0, copies=10),
    "200 images, 10 copies each, planted, d = 64": planted(200, 64, 0.5, copies=10),
    "n = d + 32, d = 328": noisy(360, 328, 0.5, falls=1.0),
    "n = d + 2, d = 358": noisy(360, 358, 0.5, falls=1.0),
    "n < d = 1024, 1 / k": noisy(360, 1024, 0.25, falls=1.0),
    "n < d = 1024, 1 / k^1.5": noisy(360, 1024, 0.25, falls=1.5),
    "n < d = 1024, white": noisy(360, 1024, 0.25),
    "n < d = 1024, 1 / k, share .75": noisy(360, 1024, 0.75, falls=1.0),
    "n < d = 1024, independent": noisy(360, 1024, 0.0, falls=1.0),
}


def relu_networks(n: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Two random networks with a ReLU, of which 32 of 48 inputs are the same."""
    weights = np.random.default_rng(7)
    shared, own = rng.standard_normal((n, 32)), rng.standard_normal((2, n, 16))
    layers = weights.standard_normal((2, 48, 64)) / 48**0.5
    first, second = (np.maximum(np.hstack([shared, mine]) @ w, 0) for mine, w in zip(own, layers, strict=True))
    return torch.from_numpy(first), torch.from_numpy(second)


def estimated(teacher: Tensor, student: Tensor, groups: SampleGroups, seed: int) -> tuple[np.ndarray, Tensor]:
    """Value, low, high of the teacher's general share, and the basis that explained it."""
    target, source = (
        coordinates(groups.means(x), stored=None if groups.single else precision_of(x)) for x in (teacher, student)
    )
    basis, support = basis_of(source)
    order = torch.randperm(groups.count, generator=torch.Generator().manual_seed(seed))
    return np.array(adjusted_share(target, basis, support, order, name="student").ends), basis


def measured(population: Population, seed: int) -> tuple[np.ndarray, float]:
    """Value, low, high in one draw, and what they estimate: the truth, or what the leading components explain."""
    rng = np.random.default_rng(seed)
    student, teacher, general = population.draw(rng)
    groups = SampleGroups.of(torch.arange(population.n).repeat(population.copies), population.n * population.copies)
    shown = []
    for features in (teacher, student):
        views = features.repeat(population.copies, 1)
        if population.copies > 1:
            views = views + 0.1 * torch.from_numpy(rng.standard_normal(tuple(views.shape)))
        shown.append(population.stored(views))
    ends, basis = estimated(*shown, groups, seed)
    n, used = basis.shape
    if used >= len(population.student):
        return ends, population.truth
    own = float(population.noise.square().sum())
    general = general - general.mean(0)
    beyond = float((general - basis @ (basis.mT @ general)).square().sum()) / (n - used - 1)
    return ends, 1 - (own + beyond) / (own + float(general.square().sum()) / (n - 1))


def tell(name: str, found: list[tuple[np.ndarray, float]], truth: float) -> bool:
    """Print one line; whether it is as it should be."""
    value, low, high = np.array([ends for ends, _ in found]).T
    aims = np.array([aim for _, aim in found])
    bias, covered = float((value - aims).mean()), float(((low <= aims) & (aims <= high)).mean())
    below, half = float((low <= truth).mean()), float((high - low).mean()) / 2
    right = abs(bias) <= MOST_BIAS and covered >= LEAST_COVERAGE and below >= LEAST_COVERAGE
    print(
        f"{name:48} {truth:6.3f} {aims.mean():6.3f} {value.mean():7.4f} {value.std():6.3f} {bias:+8.4f} {covered:8.3f} "
        f"{below:7.3f} {half:6.3f}{'' if right else '  !'}",
        flush=True,
    )
    return right


def main(draws: int) -> bool:
    """Print the table; whether every line is as it should be."""
    heads = f"{'truth':>6} {'aim':>6} {'mean':>7} {'spread':>6} {'bias':>8} {'covered':>8} {'at most':>7} {'half':>6}"
    print(f"{'n = 360 unless it says otherwise':48} {heads}")
    right = [
        tell(name, [measured(population, seed) for seed in range(draws)], population.truth)
        for name, population in POPULATIONS.items()
    ]
    many = [x - x.mean(0) for x in relu_networks(400_000, np.random.default_rng(1))]
    slopes = torch.linalg.lstsq(many[1].mT @ many[1], many[1].mT @ many[0]).solution
    truth = 1 - float((many[0] - many[1] @ slopes).square().sum() / many[0].square().sum())
    found = []
    for seed in range(draws):
        teacher, student = relu_networks(360, np.random.default_rng(100 + seed))
        found.append((estimated(teacher, student, SampleGroups.of(None, 360), seed)[0], truth))
    right.append(tell("ReLU networks (not linear), d = 64", found, truth))
    print(
        f"{sum(right)} of {len(right)} lines have a bias within {MOST_BIAS} and a coverage of at least {LEAST_COVERAGE}"
    )
    return all(right)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=100)
    sys.exit(not main(parser.parse_args().draws))
