"""HSIC of all pairs of layers of two networks, added up minibatch by minibatch.

A minibatch counts by its number of samples: among few, the unbiased estimate is mostly noise.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from analyses.bootstrap import missing_interval, ratio_intervals
from analyses.cka.growing import GrowingRows
from analyses.cka.result import Array, CKAResult
from kdprobe.errors import AnalysisError
from kdprobe.features.hsic import MIN_SAMPLES, comparable

Grams = dict[str, Tensor]

FIRST_LOOK = 10
WEIGHTING = "minibatches count by their samples (the publication's 1/k for minibatches of equal size)"
_ROUNDING = 4 * float(np.finfo(np.float32).eps)  # of an inner product, as a share of both lengths


@dataclass
class HSICSums:
    """Adds minibatches; `result` makes CKA of them.

    Attributes:
        kernel: `linear` or `rbf`.
        estimator: `unbiased` or `biased`.
        permutations: of the student's samples, for p values; 0 for none.
        pass_length: minibatches after which the same samples come again, if they do.
        sizes: samples of each minibatch added, by its number.
        n_left_out: samples in minibatches too small to be added.
        teacher_layers: names of the rows.
        student_layers: names of the columns.
    """

    kernel: str = "linear"
    estimator: str = "unbiased"
    permutations: int = 0
    pass_length: int | None = None
    sizes: dict[int, int] = field(default_factory=dict)
    n_left_out: int = 0
    teacher_layers: list[str] = field(default_factory=list)
    student_layers: list[str] = field(default_factory=list)
    _sums: list[Array] = field(default_factory=list)  # of the triples over samples, in float64
    _kept: tuple[GrowingRows, ...] = ()  # each minibatch's triple, in the order of `sizes`
    _varies: tuple[Any, ...] = ()  # whether any minibatch of each teacher's and student's layer varies
    _observed: Array | None = None  # [Lt, Ls], sum of HSIC over the samples of the first pass
    _permuted: Array | None = None  # [permutations, Lt, Ls], the same after each permutation
    _next_look: int = FIRST_LOOK

    def accepts(self, n: int, *, number: int = 0) -> bool:
        """Whether n samples are enough for a minibatch; if not they are counted as left out, once."""
        if n < MIN_SAMPLES and self._first(number):
            self.n_left_out += n
        return n >= MIN_SAMPLES

    def add(self, teacher: Grams, student: Grams, *, number: int | None = None) -> None:
        """Add one minibatch.

        Args:
            teacher: Gram matrix [n, n] of each layer.
            student: the same samples' Gram matrices of the student's layers.
            number: of the minibatch among all; the next one if not given.

        Raises:
            AnalysisError: for fewer than 4 samples, or other layers than in the minibatch before.
        """
        number = len(self.sizes) if number is None else number
        self._expect(list(teacher), list(student), number)
        rows, columns = self._comparable(teacher), self._comparable(student)  # [Lt, n, n], [Ls, n, n]
        self.sizes[number] = rows.shape[-1]
        products = _products(rows, columns)
        own = [self._own(made, grams) for made, grams in ((rows, teacher), (columns, student))]
        flags = tuple(_squares(grams).any(1) for grams in (teacher, student))
        self._varies = tuple(map(np.logical_or, self._varies, flags)) if self._varies else flags
        products *= np.outer(own[0] > 0, own[1] > 0)
        self._keep(rows.shape[-1], products, *own)
        if self.permutations and self._first(number):
            self._add_permuted(rows, columns, products, number)

    def narrow(self, width: float, confidence: float) -> bool:
        """Whether every defined interval is at most `width` wide; looked at when a tenth more has been added."""
        if len(self.sizes) < self._next_look:
            return False
        self._next_look = max(len(self.sizes) + 1, round(1.1 * len(self.sizes)))
        low, high = self._intervals(confidence)
        return bool(np.nanmax(high - low, initial=0.0) <= width)

    def gather(self) -> None:
        """Take the minibatches of all processes of the default process group into each of them."""
        parts: list[HSICSums] = [self] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(parts, self)
        filled = [part for part in parts if part.sizes]
        for part in filled:
            self.teacher_layers, self.student_layers = part.teacher_layers, part.student_layers
        numbered = sorted(
            (number, place, row) for place, part in enumerate(filled) for row, number in enumerate(part.sizes)
        )
        self.sizes, self._kept = {}, ()
        for number, place, row in numbered:
            self.sizes[number] = filled[place].sizes[number]
            self._append(tuple(kept.rows()[row] for kept in filled[place]._kept))
        self._sums = [sum(several) for several in zip(*(part._sums for part in filled), strict=True)]
        observed = [part._observed for part in filled if part._observed is not None]
        self._observed = np.sum(observed, axis=0) if observed else None
        self._varies = tuple(np.any(flags, axis=0) for flags in zip(*(part._varies for part in filled), strict=True))
        self.n_left_out = sum(part.n_left_out for part in parts)
        permuted = [part._permuted for part in filled if part._permuted is not None]
        self._permuted = np.sum(permuted, axis=0) if permuted else None

    def result(
        self, *, confidence: float = 0.95, facts: dict[str, Any] | None = None, provenance: dict[str, Any] | None = None
    ) -> CKAResult:
        """Matrix and intervals of what was added, with further facts and their origin.

        Raises:
            AnalysisError: if nothing was added.
        """
        if not self.sizes:
            raise AnalysisError(
                f"CKA needs a minibatch of at least {MIN_SAMPLES} samples, but there were {self.n_left_out} samples"
            )
        mean_xy, mean_xx, mean_yy = (total / sum(self.sizes.values()) for total in self._sums)
        matrix = _cka(mean_xy, mean_xx, mean_yy)
        xy, xx, yy = (kept.rows() for kept in self._kept)
        low, high = self._intervals(confidence)
        n_first = len(self._first_sizes)
        if n_first < len(self.sizes):
            shift = matrix - self._first_value()
            low, high = low + shift, high + shift
        known = {
            "n_samples": sum(self._first_sizes),
            "batch_size": max(self.sizes.values()),
            "n_minibatches": len(self.sizes),
            "n_left_out": self.n_left_out,
            "kernel": self.kernel,
            "estimator": self.estimator,
            "weighting": WEIGHTING,
            "confidence": confidence,
            "permutations": self.permutations,
            "no_interval": missing_interval(matrix, low, n_first),
        }
        undefined = self._undefined(mean_xx, mean_yy)
        return CKAResult(
            *(matrix, low, high, self.teacher_layers, self.student_layers, undefined, xy, xx, yy),
            p_values=self._p_values(~np.isnan(matrix)),
            facts={**known, **(facts or {})},
            provenance=provenance or {},
        )

    def _keep(self, n: int, *triple: Array) -> None:
        before = self._sums or [np.zeros_like(part) for part in triple]
        self._sums = [total + n * part for total, part in zip(before, triple, strict=True)]
        self._append(triple)

    def _first(self, number: int) -> bool:
        return self.pass_length is None or number < self.pass_length

    @property
    def _first_sizes(self) -> list[int]:
        return [size for number, size in self.sizes.items() if self._first(number)]

    def _intervals(self, confidence: float) -> tuple[Array, Array]:
        """Of the first pass: the minibatches of later ones hold the same samples and are not independent of its."""
        sizes = self._first_sizes
        xy, xx, yy = (kept.rows()[: len(sizes)] for kept in self._kept)
        return ratio_intervals(xy, xx, yy, sizes=sizes if len(set(sizes)) > 1 else None, confidence=confidence)

    def _first_value(self) -> Array:
        sizes = self._first_sizes
        return _cka(*(np.average(kept.rows()[: len(sizes)], axis=0, weights=sizes) for kept in self._kept))

    def _append(self, triple: tuple[Array, ...]) -> None:
        self._kept = self._kept or tuple(GrowingRows(part.shape) for part in triple)
        for kept, part in zip(self._kept, triple, strict=True):
            kept.append(part)

    def _expect(self, teacher: list[str], student: list[str], number: int) -> None:
        if not self.sizes:
            self.teacher_layers, self.student_layers = teacher, student
        elif (teacher, student) != (self.teacher_layers, self.student_layers):
            raise AnalysisError(f"minibatch {number} has other layers than those before it")

    def _comparable(self, grams: Grams) -> Tensor:
        return torch.stack([comparable(gram, self.kernel, self.estimator) for gram in grams.values()])

    def _own(self, made: Tensor, grams: Grams) -> Array:
        """HSIC of each layer with itself [L]; exactly 0 where the matrices hold nothing but rounding."""
        own: Array = made.square().sum((1, 2)).cpu().numpy()
        if self.estimator != "unbiased":
            return own
        lengths = _squares(grams) if self.kernel == "linear" else np.ones((len(own), made.shape[-1]))
        pairs = lengths.sum(1) ** 2 - (lengths**2).sum(1)  # of both squared lengths, over pairs of different samples
        n = made.shape[-1]
        return np.where(own > _ROUNDING**2 * pairs / (n * (n - 3)), own, 0.0)

    def _add_permuted(self, rows: Tensor, columns: Tensor, products: Array, number: int) -> None:
        """A permutation of the samples changes HSIC of the pair, but not of either layer with itself."""
        n = rows.shape[-1]
        if self._permuted is None or self._observed is None:
            self._permuted = np.zeros((self.permutations, len(rows), len(columns)))
            self._observed = np.zeros((len(rows), len(columns)))
        self._observed += n * products
        generator = torch.Generator().manual_seed(number)
        for draw in range(self.permutations):
            order = torch.randperm(n, generator=generator).to(columns.device)
            self._permuted[draw] += n * _products(rows, columns[:, order][:, :, order])

    def _p_values(self, defined: Any) -> Array | None:
        if self._permuted is None or self._observed is None:
            return None
        larger = (self._permuted >= self._observed).sum(0)
        return np.where(defined, (1 + larger) / (1 + self.permutations), np.nan)

    def _undefined(self, mean_xx: Array, mean_yy: Array) -> list[dict[str, str]]:
        rows = self._reasons("teacher", self.teacher_layers, mean_xx, self._varies[0])
        columns = self._reasons("student", self.student_layers, mean_yy, self._varies[1])
        return [
            {"teacher_layer": row, "student_layer": column, "reason": rows.get(row) or columns[column]}
            for row in self.teacher_layers
            for column in self.student_layers
            if row in rows or column in columns
        ]

    def _reasons(self, role: str, layers: list[str], own: Array, varies: Any) -> dict[str, str]:
        """Why layers have no CKA, of those whose HSIC with themselves is 0."""
        why = {
            False: "is the same for all samples but for rounding: its HSIC with itself is 0",
            True: "has an unbiased HSIC of 0 with itself although it varies, as where one sample of a minibatch "
            "differs from all others, which are equal, or all samples are equally far apart; the biased estimator is "
            "defined",
        }
        named = zip(layers, own, varies, strict=True)
        return {name: f"{role} layer {name!r} {why[bool(varied)]}" for name, value, varied in named if value <= 0}


def _cka(xy: Array, xx: Array, yy: Array) -> Array:
    scale = np.outer(np.sqrt(xx), np.sqrt(yy))  # the root of a product of small numbers would be 0
    return np.where(scale > 0, xy, np.nan) / np.where(scale > 0, scale, 1.0)


def _squares(grams: Grams) -> Array:
    """Squared length of each sample's centred feature [L, n]."""
    squares: Array = torch.stack([gram.diagonal() for gram in grams.values()]).cpu().double().numpy()
    return squares


def _products(rows: Tensor, columns: Tensor) -> Array:
    products: Array = (rows.flatten(1) @ columns.flatten(1).T).cpu().numpy()
    return products
