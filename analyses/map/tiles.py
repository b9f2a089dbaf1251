"""Tiles: all pairs between two blocks of networks, measured one after another and written down one by one.

A tile holds what is compared of one block of networks and of one network more, however many networks there are. Each
pair is a line of `pairs.jsonl`, on the disk before the next one is begun: a process that is killed loses one pair.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from analyses.map.pairs import Comparison, PairValue, comparison, layers_of
from analyses.map.showing import source_of
from analyses.stored_pair import StoredNetwork, require_same_samples
from kdprobe.errors import AnalysisError, StoreError
from kdprobe.features.store import FeatureStore
from kdprobe.files import sha256, write_text
from kdprobe.runs.folder import RunFolder

PAIRS = "pairs.jsonl"


def measure_tile(config: Mapping[str, Any], out: Path) -> None:
    """Measure those pairs of a tile that are not measured yet.

    Args:
        config: `rows` and `columns`, ids of cells that `prepare_network` filled, in the order of the map; `measure`,
            `rule` and `batch_size`.
        out: folder of the tile, beside those cells' folders.

    Raises:
        StoreError: if the networks' features are not of the same images.
        AnalysisError: if a network has no layers by the rule, or dumps of Gram matrices cannot be compared.
    """
    out.mkdir(parents=True, exist_ok=True)
    path, measure = out / PAIRS, comparison(config["measure"])
    done = {(one, other) for one, other, _ in read_pairs(path)}
    write_text(path, "".join(line + "\n" for line in _whole_lines(path)))  # without one that a kill cut short
    rows, columns = list(config["rows"]), list(config["columns"])
    with ExitStack() as stack:
        prepared: dict[str, _Prepared] = {}
        for place, column in enumerate(columns):
            wanted = [row for row in (rows[:place] if rows == columns else rows) if (row, column) not in done]
            with ExitStack() as for_one:
                other = _prepare(column, measure, config, out.parent, for_one) if wanted else None
                for row in wanted:
                    if row not in prepared:
                        prepared[row] = _prepare(row, measure, config, out.parent, stack)
                    assert other is not None
                    _append(path, row, column, list(prepared[row].beside(other, measure)))
    RunFolder(out).write_result({"sha256": {PAIRS: sha256(path)}})


def read_pairs(path: Path) -> Iterator[tuple[str, str, tuple[PairValue, PairValue]]]:
    """The pairs of a tile: ids of both networks, and the first beside the second and the second beside the first."""
    for line in _whole_lines(path):
        one, other, pairs = json.loads(line)
        there, back = (_read(pair) for pair in pairs)
        yield one, other, (there, back)


class _Prepared:
    """What is compared of a network."""

    def __init__(self, side: StoredNetwork, content: Any) -> None:
        self.side, self.content = side, content

    def beside(self, other: "_Prepared", measure: Comparison) -> Iterator[PairValue]:
        """This network beside another, and the other beside this."""
        _require_comparable(self.side, other.side)
        there = measure.compare(self.content, other.content)
        yield there
        yield there if measure.symmetric else measure.compare(other.content, self.content)


def _prepare(cell: str, measure: Comparison, config: Mapping[str, Any], cells: Path, stack: ExitStack) -> _Prepared:
    path, role = source_of(cells / cell)
    side = _stored(path, role, measure, stack)
    return _Prepared(side, measure.prepare(side, layers_of(side, config["rule"]), config["batch_size"]))


def check_dumps(dumps: Sequence[tuple[str, str]], measure: Comparison, rule: str) -> None:
    """Refuse dumps that cannot be compared, before anything is measured.

    Args:
        dumps: file and role of each network.
        measure: what they are to be compared by.
        rule: for their layers.

    Raises:
        StoreError: for dumps of other images, or of Gram matrices where features are needed.
        AnalysisError: for dumps that hold different things of each layer, or not the layers.
    """
    for path, role in dumps:
        with ExitStack() as stack:
            first, other = _stored(*dumps[0], measure, stack), _stored(path, role, measure, stack)
            _require_comparable(first, other)
            layers_of(other, rule)


def _stored(path: str | Path, role: str, measure: Comparison, stack: ExitStack) -> StoredNetwork:
    side = StoredNetwork(stack.enter_context(FeatureStore.open(path)), role)
    if side.store.content == "grams" and not measure.grams:
        raise StoreError(f"{path} holds Gram matrices, of which {measure.title} cannot be taken; take --measure cka")
    return side


def _require_comparable(one: StoredNetwork, other: StoredNetwork) -> None:
    require_same_samples(one, other)
    if one.store.reduce != other.store.reduce:
        raise AnalysisError(
            f"{one.store.path} holds {one.store.reduce} of each layer, but {other.store.path} {other.store.reduce}; "
            "dump both with the same --reduce"
        )


def _append(path: Path, row: str, column: str, pairs: list[PairValue]) -> None:
    said = [
        {key: None if isinstance(value, float) and np.isnan(value) else value for key, value in asdict(pair).items()}
        for pair in pairs
    ]
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps([row, column, said]) + "\n")
        file.flush()
        os.fsync(file.fileno())


def _read(said: Mapping[str, Any]) -> PairValue:
    values: dict[str, Any] = {key: np.nan if value is None else value for key, value in said.items()}
    return PairValue(**values)


def _whole_lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").split("\n")[:-1] if path.is_file() else []
