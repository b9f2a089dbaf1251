"""Cells: the configurations that a sweep trains, each named by a hash of everything that decides its outcome."""

import hashlib
import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kdprobe.config import RunConfig, Section, override, parse
from kdprobe.errors import ConfigError
from kdprobe.formats.yamls import read_yaml

Methods = Mapping[str, type[Section]]
Settings = dict[str, Any]


@dataclass(frozen=True)
class Cell:
    """One training of a sweep.

    Attributes:
        id: hash of the resolved configuration; the name of its folder.
        values: the swept keys, dotted, and this cell's values; None where it does without what the others have.
        base: what all cells have in common, as a nested mapping.
    """

    id: str
    values: Settings
    base: dict[str, Any]

    @property
    def config(self) -> dict[str, Any]:
        """The cell's configuration as a nested mapping."""
        return with_values(self.base, self.values)

    @property
    def label(self) -> str:
        """The values in one line, sections left out."""
        given = {key: value for key, value in self.values.items() if value is not None}
        return " ".join(f"{key.rpartition('.')[2]}={value}" for key, value in given.items())


def cell_id(config: RunConfig) -> str:
    """Sixteen hexadecimal digits that are the same for equal configurations on every machine."""
    later = {"training": {"saving": {"seconds"}}}  # decides no outcome, and cells without it keep their names
    text = json.dumps(config.model_dump(mode="json", exclude=later), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def input_names(config: RunConfig) -> tuple[str | None, str, str | None]:
    """Names of a cell's teacher, data and first weights in a sweep: by where they are, the data also by their size."""
    size = config.data.image_size
    data = f"data {config.data.spec}" + (f" at {size} px" if size else "")
    teacher, weights = config.teacher, config.model.weights
    return (
        None if teacher is None else f"teacher {teacher}",
        data,
        None if weights is None else f"weights {weights}",
    )


def with_values(base: dict[str, Any], values: Settings) -> dict[str, Any]:
    """A copy of a nested mapping with some dotted keys set."""
    return override(base, [f"{key}={json.dumps(value)}" for key, value in values.items()])


def make_cells(base: dict[str, Any], grid: Iterable[Settings], methods: Methods) -> list[Cell]:
    """Check every combination and name it; combinations that mean the same configuration share an id.

    Raises:
        ConfigError: naming the first combination that is not a configuration, or if there is no combination.
    """
    cells = []
    for values in grid:
        source = "the cell " + ", ".join(f"{key}={value}" for key, value in values.items())
        config = parse(with_values(base, values), methods, source=source)
        cells.append(Cell(cell_id(config), values, base))
    if not cells:
        raise ConfigError("the grid has no cell; give more values, or a larger --max-gap")
    return cells


def read_axes(texts: Sequence[str]) -> dict[str, list[Any]]:
    """Read `KEY.KEY=v1,v2,...`; values are YAML.

    Raises:
        ConfigError: if a text is not of this form, or names a key or a value twice.
    """
    axes: dict[str, list[Any]] = {}
    for text in texts:
        key, equals, listed = (part.strip() for part in text.partition("="))
        values = read_yaml(f"[{listed}]", source=f"the list in --grid {text}") if listed else []
        if not (key and equals and values) or None in values:
            raise ConfigError(f"--grid takes KEY.KEY=VALUE,VALUE,..., but got {text!r}")
        if key in axes:
            raise ConfigError(f"--grid names {key!r} twice; put all its values into one list")
        if len({json.dumps(value) for value in values}) < len(values):
            raise ConfigError(f"--grid {text} names a value twice")
        axes[key] = values
    return axes


def product(axes: Mapping[str, Sequence[Any]]) -> list[Settings]:
    """Every combination of the axes' values, the last axis fastest."""
    return [dict(zip(axes, chosen, strict=True)) for chosen in itertools.product(*axes.values())]


def read_rates(text: str) -> list[float]:
    """Read dropout rates separated by commas.

    Returns:
        the rates, sorted.

    Raises:
        ConfigError: if one is not a number in [0, 1), or comes twice.
    """
    rates = []
    for word in text.split(","):
        try:
            rate = float(word)
        except ValueError:
            rate = float("nan")
        if not 0 <= rate < 1:
            raise ConfigError(f"--rates takes numbers in [0, 1), separated by commas, but got {word.strip()!r}")
        rates.append(rate)
    if len(set(rates)) < len(rates):
        raise ConfigError(f"--rates names a rate twice: {text}")
    return sorted(rates)


def dropout_grid(kind: str, rates: Sequence[float], *, seeds: Sequence[int], max_gap: float | None) -> list[Settings]:
    """Teacher rate times student rate times seed.

    Args:
        kind: `feature` or `logit`: which pair of rates varies; the other pair stays as configured.
        rates: rates of both networks, in [0, 1).
        seeds: each cell is trained with each of them.
        max_gap: largest difference of the two rates; cells further from the diagonal are left out.
    """
    axes = {f"method.{kind}_rate_teacher": rates, f"method.{kind}_rate_student": rates, "seed": seeds}
    gap = 1.0 if max_gap is None else max_gap + 1e-9  # 0.7 - 0.4 is a little more than 0.3
    return [values for values in product(axes) if abs(_rates(values)[0] - _rates(values)[1]) <= gap]


def _rates(values: Settings) -> tuple[float, float]:
    teacher, student, _ = values.values()
    return teacher, student
