"""Tiles: all pairs between two blocks of networks, measured one after another and written down one by one.

A tile holds what is compared of one block of networks and of one network more, however many networks there are. Each
pair is a line of `pairs.jsonl`, on the disk before the next one is begun: a process that is killed loses one pair. The
null of the same pairs is a tile of its own, so that a map can be calibrated after it was made.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from analyses.jackknife import Array
from analyses.map.pairs import Comparison, PairValue, comparison, layers_of
from analyses.map.showing import source_of
from analyses.stored_pair import StoredNetwork, require_same_samples
from kdprobe.errors import AnalysisError, KdprobeError, StoreError
from kdprobe.features.store import FeatureStore
from kdprobe.files import sha256, write_text
from kdprobe.runs.folder import RunFolder

PAIRS = "pairs.jsonl"


def measure_tile(config: Mapping[str, Any], out: Path) -> None:
    """Measure those pairs of a tile that are not measured yet, or their null.

    Args:
        config: `rows` and `columns`, ids of cells that `prepare_network` filled, in the order of the map; `names` of
            both, by id; `measure`, `rule`, `groups` and `batch_size`; for the null `permutations` and, of each id, the
            `seeds` of its orders.
        out: folder of the tile, beside those cells' folders.

    Raises:
        KdprobeError: naming two networks that cannot be compared.
    """
    out.mkdir(parents=True, exist_ok=True)
    path, measure, names = out / PAIRS, comparison(config["measure"], config["groups"]), config["names"]
    done = {(one, other) for one, other, _ in _read_lines(path)}
    write_text(path, "".join(line + "\n" for line in _whole_lines(path)))  # without one that a kill cut short
    rows, columns = list(config["rows"]), list(config["columns"])
    with ExitStack() as stack:
        prepared: dict[str, _Prepared] = {}
        for place, column in enumerate(columns):
            wanted = [row for row in (rows[:place] if rows == columns else rows) if (row, column) not in done]
            with ExitStack() as for_one:
                other: _Prepared | None = None
                for row in wanted:
                    with _naming(names[row], names[column]):
                        other = other or _prepare(column, measure, config, out.parent, for_one)
                        if row not in prepared:
                            prepared[row] = _prepare(row, measure, config, out.parent, stack)
                        _append(path, [row, column, prepared[row].beside(other, measure)])
    RunFolder(out).write_result({"sha256": {PAIRS: sha256(path)}})


def read_pairs(path: Path) -> Iterator[tuple[str, str, tuple[PairValue, PairValue]]]:
    """The pairs of a tile: ids of both networks, and the first beside the second and the second beside the first."""
    for one, other, pairs in _read_lines(path):
        found = [PairValue(**{key: _number(value) for key, value in pair.items()}) for pair in pairs]
        yield one, other, (found[0], found[-1])


def read_nulls(path: Path) -> Iterator[tuple[str, str, tuple[Array, Array]]]:
    """The null of the pairs of a tile, as `read_pairs`."""
    for one, other, nulls in _read_lines(path):
        found = [np.array([_number(value) for value in null], np.float64) for null in nulls]
        yield one, other, (found[0], found[-1])


class _Prepared:
    """What is compared of a network, and in which orders its images are for the null; None for the pairs themselves."""

    def __init__(self, side: StoredNetwork, content: Any, orders: Tensor | None) -> None:
        self.side, self.content, self.orders = side, content, orders

    def beside(self, other: "_Prepared", measure: Comparison) -> list[Any]:
        """This network beside another and, where that makes a difference, the other beside this."""
        require_comparable(self.side, other.side)
        there = self._beside(other, measure)
        return [there] if measure.symmetric else [there, other._beside(self, measure)]

    def _beside(self, other: "_Prepared", measure: Comparison) -> Any:
        if self.orders is None or other.orders is None:
            pair = asdict(measure.compare(self.content, other.content))
            return {key: _plain(value) for key, value in pair.items()}
        null = measure.null(self.content, other.content, relative_orders(self.orders, other.orders))
        return [_plain(value) for value in null.tolist()]


def _prepare(cell: str, measure: Comparison, config: Mapping[str, Any], cells: Path, stack: ExitStack) -> _Prepared:
    path, role = source_of(cells / cell)
    side, size, orders = open_side(path, role, measure, stack), config["batch_size"], None
    if config.get("permutations"):
        orders = measure.orders(side.store.index, size, config["permutations"], config["seeds"][cell])
    return _Prepared(side, measure.prepare(side, layers_of(side, config["rule"]), size), orders)


def relative_orders(one: Tensor, other: Tensor) -> Tensor:
    """In which orders a second network's images stand beside a first one's as they are, where both are reordered.

    Args:
        one: orders of the first one's images [permutations, n].
        other: of the second one's.
    """
    return other.gather(1, one.argsort(1))


@contextmanager
def _naming(one: str, other: str) -> Iterator[None]:
    """Inside `with`, errors begin with the names of both networks."""
    try:
        yield
    except KdprobeError as error:
        raise type(error)(f"{one} and {other}: {error}") from error


def open_side(path: str | Path, role: str, measure: Comparison, stack: ExitStack) -> StoredNetwork:
    """A network in a feature file that is open as long as the stack.

    Raises:
        StoreError: for Gram matrices where features are needed.
    """
    side = StoredNetwork(stack.enter_context(FeatureStore.open(path)), role)
    if side.store.content == "grams" and not measure.grams:
        raise StoreError(f"{path} holds Gram matrices, of which {measure.title} cannot be taken; take --measure cka")
    return side


def require_comparable(one: StoredNetwork, other: StoredNetwork) -> None:
    """Refuse networks of other images, or files that hold different things of each layer.

    Raises:
        StoreError: for the first.
        AnalysisError: for the second.
    """
    require_same_samples(one, other)
    if one.store.reduce != other.store.reduce:
        raise AnalysisError(
            f"{one.store.path} holds {one.store.reduce} of each layer, but {other.store.path} {other.store.reduce}; "
            "dump both with the same --reduce"
        )


def _append(path: Path, line: list[Any]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
        file.flush()
        os.fsync(file.fileno())


def _plain(value: Any) -> Any:
    """A value of JSON, which knows no NaN."""
    return None if isinstance(value, float) and np.isnan(value) else value


def _number(value: Any) -> Any:
    return np.nan if value is None else value


def _read_lines(path: Path) -> Iterator[tuple[str, str, list[Any]]]:
    for line in _whole_lines(path):
        one, other, pairs = json.loads(line)
        yield one, other, pairs


def _whole_lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").split("\n")[:-1] if path.is_file() else []
