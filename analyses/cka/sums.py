"""HSIC of all pairs of layers of two networks, added up minibatch by minibatch.

Minibatches are weighted by their number of samples: from few samples, the unbiased estimate is mostly noise.
"""

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from analyses.arrays import fetched
from analyses.cka.intervals import half_widths, missing_interval, ratio
from analyses.cka.result import CKAResult, PerMinibatch
from analyses.jackknife import Array
from analyses.similarity.null import calibrate_pairs, random_orders
from kdprobe.errors import AnalysisError
from kdprobe.features.gram_capture import LayerGrams
from kdprobe.features.hsic import MIN_SAMPLES, comparable
from kdprobe.mean_interval import check_confidence

Grams = dict[str, Tensor]

INTERVAL = "delete-one jackknife over minibatches, Student's t"
WEIGHTING = "minibatches count by their samples (the publication's 1/k for minibatches of equal size)"
_ROUNDING = 4 * float(np.finfo(np.float32).eps)  # of an inner product, as a fraction of both lengths


@dataclass(frozen=True, eq=False)
class Terms:
    """HSIC of a minibatch's layers, on the device.

    Attributes:
        teacher_layers: names of the rows.
        student_layers: names of the columns.
        rows: [Lt, n, n], whose inner products are HSIC.
        columns: [Ls, n, n], the same.
        values: HSIC of all pairs [Lt, Ls], of rows [Lt] and columns [Ls] with themselves, and the squared lengths of
            the samples' centred features [Lt, n], [Ls, n].
    """

    teacher_layers: Sequence[str]
    student_layers: Sequence[str]
    rows: Tensor
    columns: Tensor
    values: tuple[Tensor, ...]


@dataclass
class HSICSums:
    """Sums over minibatches, from which `result` computes CKA.

    Attributes:
        kernel: `linear` or `rbf`.
        estimator: `unbiased` or `biased`.
        permutations: of the student's samples, for p values; 0 for none.
        sizes: samples of each minibatch added, by its number.
        n_left_out: samples in minibatches too small to be added.
        teacher_layers: names of the rows.
        student_layers: names of the columns.
    """

    kernel: str = "linear"
    estimator: str = "unbiased"
    permutations: int = 0
    sizes: dict[int, int] = field(default_factory=dict)
    n_left_out: int = 0
    teacher_layers: list[str] = field(default_factory=list)
    student_layers: list[str] = field(default_factory=list)
    _sums: list[Array] = field(default_factory=list)  # of the triples (xy, xx, yy) over samples, in float64
    _triples: list[Any] = field(default_factory=lambda: [array("f") for _ in range(3)])  # of each minibatch
    _varies: tuple[Any, ...] = ()  # whether any minibatch of each teacher's and student's layer varies
    _permuted: Tensor | None = None  # [permutations, Lt, Ls], sums of xy over samples after each permutation

    def accepts(self, n: int) -> bool:
        """Whether n samples are enough for a minibatch; if not, they are counted as left out."""
        if n < MIN_SAMPLES:
            self.n_left_out += n
        return n >= MIN_SAMPLES

    def add(
        self,
        teacher: Grams,
        student: Grams,
        *,
        number: int | None = None,
        orders: Iterable[Tensor] | None = None,
    ) -> None:
        """Add one minibatch.

        Args:
            teacher: Gram matrix [n, n] of each layer.
            student: the same samples' Gram matrices of the student's layers.
            number: of the minibatch among all; the next one if not given.
            orders: of the student's samples [n], as many as `permutations`; random ones if not given.

        Raises:
            AnalysisError: for fewer than 4 samples, or other layers than in the minibatch before.
        """
        terms = self.terms(*map(_stacked, (teacher, student)))
        self.add_terms(terms, fetched(*terms.values), number=number, orders=orders)

    def terms(self, teacher: LayerGrams, student: LayerGrams) -> "Terms":
        """What a minibatch adds, without waiting for the device.

        Raises:
            AnalysisError: for fewer than 4 samples.
        """
        rows, columns = (self._comparable(side.grams) for side in (teacher, student))
        own = (made.square().sum((1, 2)) for made in (rows, columns))
        squares = (side.grams.diagonal(dim1=1, dim2=2) for side in (teacher, student))
        products = rows.flatten(1) @ columns.flatten(1).T
        return Terms(teacher.layers, student.layers, rows, columns, (products, *own, *squares))

    def add_terms(
        self,
        terms: "Terms",
        values: Sequence[Array],
        *,
        number: int | None = None,
        orders: Iterable[Tensor] | None = None,
    ) -> None:
        """Add a minibatch's terms.

        Args:
            terms: of the minibatch.
            values: the same as `terms.values`, on the host.
            number: as `add` takes it.
            orders: the same.

        Raises:
            AnalysisError: for other layers than in the minibatch before.
        """
        number = len(self.sizes) if number is None else number
        self._expect(list(terms.teacher_layers), list(terms.student_layers), number)
        n = self.sizes[number] = terms.rows.shape[-1]
        products, *both = values[:3]
        own = [self._own(one, squares) for one, squares in zip(both, values[3:], strict=True)]
        flags = tuple(squares.any(1) for squares in values[3:])
        self._varies = tuple(map(np.logical_or, self._varies, flags)) if self._varies else flags
        varied = np.outer(own[0] > 0, own[1] > 0)
        triple = [products * varied, *own]
        before = self._sums or [np.zeros_like(part) for part in triple]
        self._sums = [total + n * part for total, part in zip(before, triple, strict=True)]
        self._append(triple)
        if self.permutations:
            if orders is None:
                orders = random_orders(n, self.permutations, seed=number)
            self._add_permuted(terms.rows, terms.columns, varied, orders)

    def gather(self) -> None:
        """Collect the minibatches of all processes of the default process group in each of them."""
        self._permuted = None if self._permuted is None else self._permuted.cpu()
        parts: list[HSICSums] = [self] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(parts, self)
        filled = [part for part in parts if part.sizes]
        for part in filled:
            self.teacher_layers, self.student_layers = part.teacher_layers, part.student_layers
        numbered = sorted(
            (number, place, row) for place, part in enumerate(filled) for row, number in enumerate(part.sizes)
        )
        rows = [part._rows() for part in filled]
        self.sizes, self._triples = {}, [array("f") for _ in range(3)]
        for number, place, row in numbered:
            self.sizes[number] = filled[place].sizes[number]
            self._append([values[row] for values in rows[place]])
        self._sums = [sum(several) for several in zip(*(part._sums for part in filled), strict=True)]
        self._varies = tuple(np.any(flags, axis=0) for flags in zip(*(part._varies for part in filled), strict=True))
        self.n_left_out = sum(part.n_left_out for part in parts)
        permuted = [part._permuted for part in filled if part._permuted is not None]
        self._permuted = torch.stack(permuted).sum(0) if permuted else None

    def result(
        self,
        *,
        confidence: float = 0.95,
        calibrated: bool = False,
        facts: dict[str, Any] | None = None,
        provenance: dict[str, Any] | None = None,
    ) -> CKAResult:
        """Matrix and intervals of what was added, with further facts and their origin.

        Args:
            confidence: of the intervals; calibration has the level 1 - confidence.
            calibrated: whether values are set beside their null.
            facts: further ones.
            provenance: where the numbers come from.

        Raises:
            AnalysisError: if nothing was added.
        """
        check_confidence(confidence)
        if not self.sizes:
            raise AnalysisError(
                f"CKA needs a minibatch of at least {MIN_SAMPLES} samples, but there were {self.n_left_out} samples"
            )
        mean_xy, mean_xx, mean_yy = (total / sum(self.sizes.values()) for total in self._sums)
        matrix = ratio(mean_xy, mean_xx[:, None], mean_yy)
        xy, xx, yy = self._rows()
        sizes = list(self.sizes.values())
        half = half_widths(xy, xx, yy, sizes=sizes, confidence=confidence)
        known = {
            "n_samples": sum(sizes),
            "batch_size": max(sizes),
            "n_minibatches": len(sizes),
            "n_left_out": self.n_left_out,
            "kernel": self.kernel,
            "estimator": self.estimator,
            "weighting": WEIGHTING,
            "confidence": confidence,
            "interval": INTERVAL,
            "permutations": self.permutations,
            "no_interval": missing_interval(matrix, half, len(sizes)),
        }
        undefined = self._undefined(mean_xx, mean_yy)
        null, alpha = self.null(), round(1 - confidence, 12)
        beside = None if null is None else calibrate_pairs(matrix, null, alpha=alpha)
        return CKAResult(
            *(matrix, matrix - half, matrix + half, self.teacher_layers, self.student_layers, undefined, xy, xx, yy),
            p_values=None if beside is None else beside.pairs.p_value,
            calibration=beside if calibrated else None,
            facts={**known, **(facts or {})},
            provenance=provenance or {},
        )

    def null(self) -> Array | None:
        """CKA under each permutation [permutations, Lt, Ls]; None without any."""
        if self._permuted is None:
            return None
        count = sum(self.sizes.values())
        xx, yy = (total / count for total in self._sums[1:])
        return ratio(self._permuted.cpu().numpy() / count, xx[:, None], yy)

    def _append(self, triple: Sequence[PerMinibatch]) -> None:
        """In float32 as long as that holds them; arrays that grow in place leave no holes in memory, as lists do."""
        for place, row in enumerate(triple):
            values = self._triples[place]
            if values.typecode == "f" and not _fits(row):
                values = array("d", values)
            try:
                values.frombytes(row.astype(values.typecode).tobytes())
            except BufferError:  # a result has a view of them
                values = values[:]
                values.frombytes(row.astype(values.typecode).tobytes())
            self._triples[place] = values

    def _rows(self) -> list[PerMinibatch]:
        """The triple of each minibatch, in the order of `sizes`: views [k, Lt, Ls], [k, Lt], [k, Ls]."""
        n_rows, n_columns = len(self.teacher_layers), len(self.student_layers)
        return [
            np.frombuffer(values, values.typecode).reshape(len(self.sizes), *shape)
            for values, shape in zip(self._triples, ((n_rows, n_columns), (n_rows,), (n_columns,)), strict=True)
        ]

    def _expect(self, teacher: list[str], student: list[str], number: int) -> None:
        if not self.sizes:
            self.teacher_layers, self.student_layers = teacher, student
        elif (teacher, student) != (self.teacher_layers, self.student_layers):
            raise AnalysisError(f"minibatch {number} has other layers than those before it")

    def _comparable(self, grams: Tensor) -> Tensor:
        if self.kernel == "linear":
            return comparable(grams, self.kernel, self.estimator)
        return torch.stack([comparable(gram, self.kernel, self.estimator) for gram in grams])

    def _own(self, own: Array, squares: Array) -> Array:
        """HSIC of each layer with itself [L]; exactly 0 where the matrices hold nothing but rounding."""
        if self.estimator != "unbiased":
            return own
        lengths = squares if self.kernel == "linear" else np.ones_like(squares)
        pairs = lengths.sum(1) ** 2 - (lengths**2).sum(1)  # of both squared lengths, over pairs of different samples
        n = squares.shape[1]
        return np.where(own > _ROUNDING**2 * pairs / (n * (n - 3)), own, 0.0)

    def _add_permuted(self, rows: Tensor, columns: Tensor, varied: Any, orders: Iterable[Tensor]) -> None:
        """A permutation of the samples changes HSIC of the pair, but not of either layer with itself."""
        if self._permuted is None:
            self._permuted = rows.new_zeros(self.permutations, len(rows), len(columns))
        n, left, right = rows.shape[-1], rows.flatten(1), columns.flatten(1)
        left, kept = n * left, torch.from_numpy(varied).to(left)
        for draw, order in enumerate(orders):
            places = order.to(columns.device)
            turned = right.index_select(1, (n * places[:, None] + places).flatten())
            self._permuted[draw] += (left @ turned.T) * kept

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


def _stacked(grams: Grams) -> LayerGrams:
    return LayerGrams(list(grams), torch.stack(list(grams.values())), torch.ones(len(grams), dtype=torch.bool))


def _fits(row: PerMinibatch) -> bool:
    """Whether float32 holds the largest value, and the smallest with all its digits unless it is exactly zero."""
    limits = np.finfo(np.float32)
    size = np.abs(row)
    return bool(size.max(initial=0.0) < limits.max) and not bool(((size > 0) & (size < limits.tiny)).any())
