"""General and specific knowledge: what two networks' features share, and what only one of them holds.

R_T = G_T + S_T and R_S = G_S + S_S. A method says what the general part G of each sample is; the specific part S is
the rest of the centred feature. What share of the variance is general is another question, as no model that was learned
from n samples predicts all that is shared:

* `adjusted`: the share that a linear map of the other network's features explains in the population
  (`analyses.knowledge.adjusted`). G of each sample is predicted by ridge regression out of fold, so that no sample
  explains itself; its variance is not the share.
* `ridge`: the share that the same predictions explain, which is what can be predicted after learning from n samples:
  1 - |R - G|^2 / |R|^2, with R from the mean of the other folds.
* `dropkd`: the share that DropKD's decoder reconstructs.

Reference:
    Lee, Hong, Shin, Ku and Ko, "Dropout connects transformers and CNNs: transfer general knowledge for knowledge
    distillation", WACV 2025, pages 8335-8344, supplement, equations 1 and 2: the knowledge in a network's
    representations is general plus specific, where specific is what its architecture and size bring along. The
    publication gives no way to compute either; the definitions here are kdprobe's.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from analyses.arrays import as_tensor, takes_arrays
from analyses.knowledge.adjusted import Support, adjusted_share, basis_of
from analyses.knowledge.canonical import Shared
from analyses.knowledge.coordinates import Coordinates, coordinates
from analyses.knowledge.dropkd import load_dropkd, reconstruct
from analyses.knowledge.folds import explained, interval, split_samples, training_means
from analyses.knowledge.groups import SampleGroups
from analyses.knowledge.ridge import ridge
from analyses.knowledge.share import Share
from kdprobe.devices import exact_float32
from kdprobe.errors import AnalysisError, near_matches
from kdprobe.features.rounding import precision_of
from kdprobe.mean_interval import check_confidence

DECOMPOSITIONS = ("adjusted", "ridge", "dropkd")


@dataclass(frozen=True, eq=False)
class Side:
    """One network's features and their general part, in coordinates.

    Attributes:
        whole: the features.
        general: general part of each sample along the coordinates [n, r], from the mean of all samples.
        fraction: of variance that is general.
        by_fold: share of the variance that the general parts explain in each fold.
        learned_from: places of each fold's samples, where the general part is learned from the other folds.
        support: what this network explained the other's share with, for `adjusted`.
    """

    whole: Coordinates
    general: Tensor
    fraction: Share
    by_fold: list[float]
    learned_from: list[Tensor] | None
    support: Support | None

    @property
    def explained(self) -> Float64[Tensor, "n r"]:
        """The general part without what is known of each sample from the mean of the others."""
        return self.general - self.means

    @property
    def means(self) -> Tensor | float:
        """What is known of each sample from the others alone: [n, r], or 0 where nothing is learned from them."""
        return training_means(self.whole.values, self.learned_from) if self.learned_from else 0.0

    @property
    def specific(self) -> Float64[Tensor, "n r"]:
        """The rest, along the coordinates."""
        return self.whole.values - self.general

    @property
    def by_sample(self) -> Float64[Tensor, "2 n"]:
        """The general and the specific share of each sample: what it adds to the shares of all.

        With R the sample's feature, G its general part and M the mean of the other folds (of all samples, where nothing
        is learned from them), specific is |R - G|^2 and general |R - M|^2 - |R - G|^2, both as multiples of the mean of
        |R - M|^2 over the samples. So the means over the samples are the general and the specific share of `ridge` (by
        `dropkd`, its own), and are 1 together; those of `adjusted` differ from them by what a model that was learned
        from n samples misses, which is no single sample's. Of one sample both together are large where its feature is,
        and general is below 0 where G is further off than M.
        """
        errors = self.specific.square().sum(1)
        totals = (self.whole.values - self.means).square().sum(1)
        return torch.stack([totals - errors, errors]) / totals.mean()


@dataclass(frozen=True, eq=False)
class Decomposition:
    """Features of a teacher and a student, each as general part plus specific part.

    Attributes:
        method: how the general part is defined.
        teacher: the teacher's features and what is general in them.
        student: the student's.
        dimension: directions that both share; None where the method knows of none.
        correlations: of the canonical directions on held-out samples; empty where the method has none.
        penalties: of teacher and student as predictors, per fold, as multiples of the largest eigenvalue.
        folds: places of the samples of each fold.
        confidence: of the intervals.
        groups: which samples are not independent.
        group_folds: the groups of each fold.

    Example:
        >>> import torch
        >>> from analyses.knowledge import decompose
        >>> x = torch.randn(200, 8, generator=torch.Generator().manual_seed(0))
        >>> found = decompose(x, x[:, :4])
        >>> found  # doctest: +ELLIPSIS
        Decomposition('adjusted' of 200 samples: general are ... of the teacher's variance, 1.000 of the student's)
        >>> bool(torch.allclose(found.teacher_general + found.teacher_specific, (x - x.mean(0)).double(), atol=1e-5))
        True
    """

    method: str
    teacher: Side
    student: Side
    dimension: int | None
    correlations: Tensor
    penalties: list[tuple[float, float]]
    folds: list[Tensor]
    confidence: float
    groups: SampleGroups
    group_folds: list[Tensor]

    def __repr__(self) -> str:
        """The method, and what share of each network's variance is general."""
        shares = self.teacher.fraction.value, self.student.fraction.value
        said = f"general are {shares[0]:.3f} of the teacher's variance, {shares[1]:.3f} of the student's"
        return f"Decomposition({self.method!r} of {len(self.teacher.general)} samples: {said})"

    @property
    def teacher_general(self) -> Float64[Tensor, "n d"]:
        """G_T, [n, d_t]."""
        return self.teacher.whole.restore(self.teacher.general)

    @property
    def teacher_specific(self) -> Float64[Tensor, "n d"]:
        """S_T, the centred feature without G_T."""
        return self.teacher.whole.centred() - self.teacher_general

    @property
    def student_general(self) -> Float64[Tensor, "n d"]:
        """G_S, [n, d_s]."""
        return self.student.whole.restore(self.student.general)

    @property
    def student_specific(self) -> Float64[Tensor, "n d"]:
        """S_S, the centred feature without G_S."""
        return self.student.whole.centred() - self.student_general

    @property
    def fractions(self) -> dict[str, Share]:
        """Shares of variance of teacher_general, teacher_specific, student_general, student_specific."""
        teacher, student = self.teacher.fraction, self.student.fraction
        return {
            "teacher_general": teacher,
            "teacher_specific": teacher.rest(),
            "student_general": student,
            "student_specific": student.rest(),
        }


@exact_float32
@takes_arrays
def decompose(
    teacher: Float[Tensor, "n ..."],
    student: Float[Tensor, "m ..."],
    *,
    method: str = "adjusted",
    folds: int = 5,
    seed: int = 0,
    confidence: float = 0.95,
    groups: Tensor | Sequence[int] | Sequence[str] | None = None,
    auxiliary: str | Path | None = None,
    stage: int = 0,
    rates: tuple[float, float] | None = None,
) -> Decomposition:
    """Split two networks' features of the same samples into general and specific parts.

    Args:
        teacher: features [n, d_t], or maps and tokens, which are flattened; tensors or arrays, as all features here.
        student: features [n, d_s] of the same samples in the same order.
        method: `adjusted`: the general share is what a linear map of the other network's features explains in the
            population; `ridge`: what ridge regression on them predicts out of fold; `dropkd`: what DropKD's trained
            encoder, dropout and decoder reconstruct of maps [n, c, h, w].
        folds: parts of the samples that are held out in turn, at least 2.
        seed: of the folds, permutations and masks.
        confidence: of the intervals, in (0, 1).
        groups: whole numbers or names, equal for samples that are not independent, such as views of one image; they
            stay together in folds, and a group counts as one sample.
        auxiliary: `auxiliary.safetensors` of a DropKD run, for `dropkd`.
        stage: which of that run's stage pairs, for `dropkd`.
        rates: of dropout of teacher and student, for `dropkd`; those of the training if not given.

    Returns:
        both parts of both networks; general plus specific is the centred feature.

    Raises:
        AnalysisError: for an unknown method, different numbers of samples, too few of them for the folds, a
            feature that is not finite or does not vary, or `dropkd` without its file.

    Example:
        >>> import torch
        >>> from analyses.knowledge import decompose
        >>> generator = torch.Generator().manual_seed(0)
        >>> student = torch.randn(500, 4, generator=generator)
        >>> teacher = torch.cat([student, torch.randn(500, 4, generator=generator)], 1)  # knows as much again
        >>> shares = decompose(teacher, student).fractions
        >>> round(shares["teacher_general"].value, 1), round(shares["student_general"].value, 1)
        (0.5, 1.0)
    """
    check_confidence(confidence)
    if method not in DECOMPOSITIONS:
        raise AnalysisError(f"no method {method!r} of decomposition{near_matches(method, DECOMPOSITIONS)}")
    teacher = as_tensor(teacher, name="the teacher's features", least=2)
    student = as_tensor(student, name="the student's features", least=2)
    if len(teacher) != len(student):
        raise AnalysisError(
            f"both networks need the same samples in the same order, but the teacher has {len(teacher)} samples "
            f"and the student {len(student)}"
        )
    together = SampleGroups.of(groups, len(teacher))
    group_folds = split_samples(together.count, folds, seed=seed, what="samples" if together.single else "groups")
    held_out = [together.samples(part).to(teacher.device) for part in group_folds]
    settings: dict[str, Any] = {"folds": held_out, "confidence": confidence}
    if method == "dropkd":
        if auxiliary is None:
            raise AnalysisError("dropkd needs the trained encoders and decoders: auxiliary.safetensors of a DropKD run")
        maps = reconstruct(teacher, student, load_dropkd(auxiliary), stage=stage, rates=rates, seed=seed)
        whole = _both(maps.teacher_target, maps.student_target, shorten=False)
        parts = maps.teacher.double() - whole[0].mean, maps.student.double() - whole[1].mean
        found = Shared(*parts, None, torch.zeros(0), [])
    else:
        whole = _both(teacher, student)
        found = ridge(whole[0].values, whole[1].values, held_out, seed=seed)
    sides = [_side(*side, learned=method != "dropkd", **settings) for side in zip(whole, found[:2], strict=True)]
    if method != "dropkd":
        independent = whole if together.single else _both(teacher, student, groups=together)
        if not together.single:
            counted = ridge(independent[0].values, independent[1].values, group_folds, seed=seed)
            found = found._replace(dimension=counted.dimension, correlations=counted.correlations)
        if method == "adjusted":
            sides = _adjusted(sides, independent, torch.cat(group_folds), confidence)
    return Decomposition(
        method=method,
        teacher=sides[0],
        student=sides[1],
        dimension=found.dimension,
        correlations=found.correlations,
        penalties=found.penalties,
        folds=held_out,
        confidence=confidence,
        groups=together,
        group_folds=group_folds,
    )


def _both(
    teacher: Tensor, student: Tensor, *, shorten: bool = True, groups: SampleGroups | None = None
) -> list[Coordinates]:
    """Coordinates of both networks; those of the means of groups, if there are any."""
    found = []
    for who, features in (("teacher", teacher), ("student", student)):
        rows = features.detach().flatten(1)
        if groups is None:
            found.append(coordinates(rows, name=f"{who}'s feature", shorten=shorten))
        else:
            means, name = groups.means(rows), f"{who}'s feature, averaged within groups,"
            found.append(coordinates(means, name=name, shorten=shorten, stored=precision_of(rows)))
    return found


def _side(whole: Coordinates, general: Tensor, *, folds: list[Tensor], confidence: float, learned: bool) -> Side:
    means = training_means(whole.values, folds) if learned else 0.0
    general = general + means
    errors, totals = explained(whole.values, general, means, folds)
    by_fold = (1 - errors / totals).tolist()
    value = float(1 - errors.sum() / totals.sum())
    fraction = Share(*interval(value, by_fold, confidence=confidence))
    return Side(whole, general, fraction, by_fold, folds if learned else None, None)


def _adjusted(sides: list[Side], features: list[Coordinates], order: Tensor, confidence: float) -> list[Side]:
    """Both sides with the shares that each network explains of the other."""
    bases = [basis_of(each) for each in features]
    found = []
    for place, (side, name) in enumerate(zip(sides, ("student", "teacher"), strict=True)):
        share = adjusted_share(features[place], *bases[1 - place], order, name=name, confidence=confidence)
        found.append(replace(side, fraction=share, support=bases[place][1]))
    return found
