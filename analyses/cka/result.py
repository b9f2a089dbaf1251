"""What a CKA analysis found, and its file."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from analyses.jackknife import Array
from analyses.layer_pairs import pairs_table
from analyses.similarity.null import CalibratedPairs
from kdprobe.formats.counts import counted
from kdprobe.results import Result, load_result, save_result

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import FigureBase

_FEW = 20  # samples below which a summary warns
PerMinibatch = NDArray[np.floating[Any]]  # float32 where that holds it


@dataclass(frozen=True, eq=False)
class CKAResult:
    """CKA of every teacher layer with every student layer.

    Attributes:
        matrix: [Lt, Ls], rows teacher layers, columns student layers; NaN exactly where `undefined` says why.
        low: lower ends of the intervals; NaN also where the facts' `no_interval` says why.
        high: upper ends.
        teacher_layers: names of the rows.
        student_layers: names of the columns.
        undefined: `teacher_layer`, `student_layer` and `reason` of each undefined cell.
        hsic_xy: HSIC per minibatch [k, Lt, Ls], in float32 where that holds it.
        hsic_xx: HSIC of the teacher's layers with themselves [k, Lt].
        hsic_yy: HSIC of the student's layers with themselves [k, Ls].
        p_values: of no similarity [Lt, Ls], by permutation; None if not asked for.
        calibration: every value beside its permutation null; None if not asked for.
        facts: names of both networks, n_samples, batch_size, n_minibatches, n_left_out, kernel, estimator,
            weighting (how minibatches count), confidence, interval (how it was found), data, no_interval (why a defined
            cell has no interval; empty where all have one).
        provenance: where the numbers come from.

    Example:
        >>> import torch
        >>> from analyses.cka import cka
        >>> from kdprobe.models import create
        >>> model = create("resnet8", n_classes=10, image_size=16)
        >>> result = cka(model, model, [torch.rand(8, 3, 16, 16) for _ in range(4)], reduce="gap")
        >>> result.matrix.diagonal().round(4)
        array([1., 1., 1., 1.])
        >>> result  # doctest: +ELLIPSIS
        CKAResult(4 layers of resnet8 x 4 layers of resnet8, 32 samples, CKA ... to 1.000)
        >>> list(result.to_frame().columns[:5])
        ['teacher_layer', 'student_layer', 'cka', 'low', 'high']
    """

    matrix: Array
    low: Array
    high: Array
    teacher_layers: list[str]
    student_layers: list[str]
    undefined: list[dict[str, str]]
    hsic_xy: PerMinibatch
    hsic_xx: PerMinibatch
    hsic_yy: PerMinibatch
    p_values: Array | None = None
    calibration: CalibratedPairs | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        """Both networks, how many layers and samples there are, and from where to where the values go."""
        counts = zip(self.matrix.shape, ("teacher", "student"), strict=True)
        sides = " x ".join(f"{count} layers of {self.facts.get(who, f'the {who}')}" for count, who in counts)
        defined = self.matrix[~np.isnan(self.matrix)]
        values = f"{defined.min():.3f} to {defined.max():.3f}" if defined.size else "undefined"
        return f"CKAResult({sides}, {self.facts.get('n_samples', '?')} samples, CKA {values})"

    def to_frame(self) -> "pd.DataFrame":
        """One row per pair of layers: teacher_layer, student_layer, cka, low, high, undefined, no_interval.

        The last two are reasons, or empty. Before them stands the p value, and what calibration found, if asked for.
        """
        values = {"cka": self.matrix, "low": self.low, "high": self.high}
        values |= {} if self.p_values is None else {"p_value": self.p_values}
        values |= self.calibration.columns() if self.calibration else {}
        table = pairs_table(self.teacher_layers, self.student_layers, values, {"undefined": self.undefined})
        missing = np.where(self._without_interval, self.facts.get("no_interval", ""), "")
        return table.assign(no_interval=missing.ravel())

    @property
    def _without_interval(self) -> NDArray[np.bool_]:
        missing: NDArray[np.bool_] = np.isnan(self.low) & ~np.isnan(self.matrix)
        return missing

    def summary(self) -> str:
        """The teacher layer most like each student layer, as a short table with intervals."""
        facts, beside = self.facts, self.calibration
        lines: list[tuple[str, ...]] = [
            (f"{facts['student']} layer", f"most like it in {facts['teacher']}", f"CKA [{facts['confidence']:.0%}]")
        ]
        for column, layer in enumerate(self.student_layers):
            cells = self.matrix[:, column]
            if np.isnan(cells).all():
                lines.append((layer, "-", "undefined"))
                continue
            row = int(np.nanargmax(cells))
            interval = f" [{self.low[row, column]:.3f}, {self.high[row, column]:.3f}]"
            shown = "" if self._without_interval[row, column] else interval
            lines.append((layer, self.teacher_layers[row], f"{cells[row]:.3f}{shown}"))
        if beside:
            lines = [(*line, *more) for line, more in zip(lines, beside.best_words(), strict=True)]
        wide = [max(map(len, column)) for column in zip(*lines, strict=True)]
        table = ["  ".join(f"{text:<{room}}" for text, room in zip(line, wide, strict=True)).rstrip() for line in lines]
        left_out = f", {facts['n_left_out']} samples left out" if facts["n_left_out"] else ""
        undefined = f", {len(self.undefined)} cells undefined" if self.undefined else ""
        weighting = f"; {facts['weighting']}" if "weighting" in facts else ""
        held = f"{facts['reduce']} features, " if "reduce" in facts else ""
        counts = f"{held}{facts['n_samples']} samples in {counted(facts['n_minibatches'], 'minibatch')}"
        counts += f"{left_out}{undefined}{weighting}"
        gap = [f"no interval where none is shown: {facts['no_interval']}"] if self._without_interval.any() else []
        few = (
            [f"{facts['n_samples']} samples are few: chance alone makes CKA of them differ widely; give more images"]
            if facts["n_samples"] < _FEW
            else []
        )
        chance = [beside.summary(self.teacher_layers, self.student_layers)] if beside else []
        return "\n".join([*table, counts, *few, *chance, *gap])

    def to_result(self) -> Result:
        """The same as a result of kind "cka", which `save` writes and `figures.draw` draws."""
        names = ["matrix", "low", "high", "hsic_xy", "hsic_xx", "hsic_yy"]
        names += [] if self.p_values is None else ["p_values"]
        beside = self.calibration
        arrays = {name: getattr(self, name) for name in names} | (beside.arrays() if beside else {})
        facts = {
            **self.facts,
            **({"calibration": beside.facts()} if beside else {}),
            "teacher_layers": self.teacher_layers,
            "student_layers": self.student_layers,
            "undefined": self.undefined,
        }
        return Result("cka", arrays, facts, self.provenance)

    def to_frames(self) -> "dict[str, pd.DataFrame]":
        """Tables of all arrays, as `kdprobe.results.Result.to_frames` has them."""
        return self.to_result().to_frames()

    def to_xarray(self) -> "xr.Dataset":
        """All arrays with the names of the layers, as `kdprobe.results.Result.to_xarray` has them."""
        return self.to_result().to_xarray()

    def plot(self, **options: Any) -> "Axes | FigureBase":
        """Draw it, with the options of `kdprobe.results.Result.plot`: `ax`, `fig`, `names` and `palette`."""
        return self.to_result().plot(**options)

    def _repr_html_(self) -> str:
        """What a notebook shows of it."""
        return self.to_result()._repr_html_()

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write the result to `path` (`.npz`) and its tidy table beside it (`.csv`).

        Args:
            path: where to.
            overwrite: also over files that are no CKA result of kdprobe's.

        Raises:
            ResultError: if the name does not end in `.npz`.
            OutputError: if another file is in the way.
        """
        save_result(self.to_result(), path, table=self.to_frame().to_csv(index=False), overwrite=overwrite)

    @classmethod
    def load(cls, path: str | Path) -> "CKAResult":
        """Read a saved result.

        Raises:
            ResultError: if the file is missing, foreign, damaged or of another kind.
        """
        result = load_result(Path(path), kind="cka")
        facts = dict(result.facts)
        named: dict[str, Any] = {key: facts.pop(key) for key in ("teacher_layers", "student_layers", "undefined")}
        kept = {name for name in result.arrays if name in cls.__dataclass_fields__}
        arrays: dict[str, Any] = {name: result.arrays[name] for name in kept}
        if known := facts.pop("calibration", None):
            arrays["calibration"] = CalibratedPairs.of(arrays["matrix"], result.arrays, known)
        return cls(**arrays, **named, facts=facts, provenance=result.provenance)
