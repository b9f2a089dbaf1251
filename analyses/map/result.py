"""What a map found, as a result, a table and a summary."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from analyses.map.geometry import average_linkage, chord_distances, principal_coordinates
from analyses.map.grouping import permanova
from analyses.map.members import Member
from analyses.map.pairs import RULES, PairValue, comparison
from analyses.map.showing import source_of
from analyses.map.tiles import PAIRS, read_nulls, read_pairs
from analyses.map.work import MapCell, MapCells, MapSettings
from analyses.similarity.null import ALPHA, Calibrated, calibrate
from kdprobe.errors import Undefined
from kdprobe.features.store import FeatureStore
from kdprobe.formats.map_words import map_findings
from kdprobe.formats.null_kinds import NULL_RANGES
from kdprobe.provenance import provenance
from kdprobe.results import Result

if TYPE_CHECKING:
    import pandas as pd

_Array = NDArray[np.float64]
_PERMUTATIONS = 9999
_CORRECTION = (
    "adjusted p values hold for all pairs together: of any pair as far above its null, in that one's deviations, with "
    "the images in random orders, one for each network"
)


def map_result(folder: Path, members: Sequence[Member], cells: MapCells, settings: MapSettings) -> Result:
    """The map of networks whose pairs are measured.

    Args:
        folder: of the ledger that `complete_map` filled.
        members: the networks.
        cells: theirs and those of their pairs.
        settings: how they were measured.

    Returns:
        kind "map": `similarity`, `low` and `high` [N, N], rows beside columns, NaN where the facts' `undefined` or
        `no_interval` says why; `points` [N, 2], NaN for networks that are left out because pairs of theirs are
        undefined, `shares`, and the `tree` of the others. Of a calibrated map also what
        `analyses.similarity.null.Calibrated` holds of each pair [N, N], NaN on the diagonal.
    """
    matrices, undefined, remarks, missing = _matrices(folder, members, cells)
    placed = _placed(matrices[0])
    distances = chord_distances(matrices[0])[np.ix_(placed, placed)]
    ordination = principal_coordinates(distances)
    points = np.full((len(members), 2), np.nan)
    points[placed] = ordination.points
    groupings = _groupings(distances, [members[place] for place in placed])
    remarks = [*({"reason": reason} for reason in _too_few(groupings)), *remarks]
    arrays = dict(zip(("similarity", "low", "high"), matrices, strict=True))
    arrays |= {"points": points, "shares": ordination.shares}
    arrays |= {"tree": average_linkage(distances)} if len(placed) > 1 else {}
    known, origins = _origins(folder, cells.networks)
    beside = _beside_null(folder, matrices[0], cells, settings) if cells.nulls else None
    arrays |= beside.arrays() if beside else {}
    facts = {
        "networks": [one.name for one in members],
        "methods": [one.method for one in members],
        "seeds": [one.seed for one in members],
        "teachers": [one.teacher for one in members],
        "measure": comparison(settings.measure).title,
        "layers": RULES[settings.rule],
        "confidence": 0.95,
        "negative": ordination.negative,
        "no_interval": missing,
        "undefined": undefined,
        "groupings": groupings,
        **known,
        **({"remarks": remarks} if remarks else {}),
        **({"calibration": _calibration(settings.permutations)} if beside else {}),
    }
    return Result("map", arrays, facts, provenance(data=known["data"], networks=origins))


def map_table(result: Result) -> "pd.DataFrame":
    """One row per ordered pair of networks: network, other, similarity, low, high, undefined (a reason, or empty).

    Of a calibrated map, with the arrays that say so before the last one.
    """
    import pandas as pd

    names, arrays = result.facts["networks"], result.arrays
    beside = {key: arrays[key] for key in NULL_RANGES if key in arrays}
    reasons = {tuple(pair["networks"]): pair["reason"] for pair in result.facts["undefined"]}
    return pd.DataFrame(
        [
            {
                "network": one,
                "other": other,
                **{key: arrays[key][row, column] for key in ("similarity", "low", "high")},
                **{key: values[row, column] for key, values in beside.items()},
                "undefined": reasons.get((one, other)) or reasons.get((other, one), ""),
            }
            for row, one in enumerate(names)
            for column, other in enumerate(names)
            if row != column
        ]
    )


def map_summary(result: Result) -> str:
    """Which networks are most and least alike, how alike students are to the teacher, and what groups them."""
    facts = result.facts
    head = f"{facts['measure']} of {facts['layers']}; {len(facts['networks'])} networks, {facts['n_samples']} images"
    lines = [head, *map_findings(result)]
    if facts["no_interval"]:
        lines.append(f"no interval where none is shown: {facts['no_interval']}")
    remarks = [remark["reason"] for remark in facts.get("remarks", ())]
    lines += [*remarks[:3], *([f"and {len(remarks) - 3} more remarks, in the result"] if len(remarks) > 3 else [])]
    return "\n".join(lines)


def _beside_null(folder: Path, similarity: _Array, cells: MapCells, settings: MapSettings) -> Calibrated:
    """All pairs beside their null, with p values that hold for all of them together."""
    places = {cell.id: place for place, cell in enumerate(cells.networks)}
    null = np.full((settings.permutations, *similarity.shape), np.nan)
    for tile in cells.nulls:
        for one, other, (there, back) in read_nulls(folder / "cells" / tile.id / PAIRS):
            row, column = places[one], places[other]
            null[:, row, column], null[:, column, row] = there, back
    observed = np.where(np.eye(len(similarity), dtype=bool), np.nan, similarity)
    return calibrate(observed, null, largest=comparison(settings.measure).largest)


def _calibration(permutations: int) -> dict[str, Any]:
    return {"alpha": ALPHA, "permutations": permutations, "correction": _CORRECTION}


def _matrices(
    folder: Path, members: Sequence[Member], cells: MapCells
) -> tuple[list[_Array], list[dict[str, Any]], list[dict[str, str]], str]:
    """Values and ends of intervals, undefined pairs, remarks, and why there is no interval where there is none."""
    places = {cell.id: place for place, cell in enumerate(cells.networks)}
    n = len(members)
    matrices = [np.full((n, n), np.nan) for _ in range(3)]
    undefined: list[dict[str, Any]] = []
    remarks, missing = dict[str, int](), ""
    for tile in cells.tiles:
        for one, other, (there, back) in read_pairs(folder / "cells" / tile.id / PAIRS):
            row, column = places[one], places[other]
            for place, pair in (((row, column), there), ((column, row), back)):
                _fill(matrices, place, pair)
            names = [members[row].name, members[column].name]
            if math.isnan(there.value):
                undefined.append({"networks": names, "reason": there.reason})
            missing = missing or ("" if math.isnan(there.value) else there.reason)
            if there.remark:
                remarks[there.remark] = remarks.get(there.remark, 0) + 1
    np.fill_diagonal(matrices[0], 1.0)
    noted = [{"reason": f"{count} pairs: {remark}"} for remark, count in remarks.items()]
    return matrices, undefined, noted, missing


def _fill(matrices: Sequence[_Array], place: tuple[int, int], pair: PairValue) -> None:
    for matrix, value in zip(matrices, (pair.value, pair.low, pair.high), strict=True):
        matrix[place] = value


def _placed(similarity: _Array) -> list[int]:
    """Networks that have a value with each other: those with most undefined pairs are left out first."""
    kept = list(range(len(similarity)))
    while (unknown := np.isnan(similarity[np.ix_(kept, kept)])).any():
        del kept[int((unknown.sum(0) + unknown.sum(1)).argmax())]
    return kept


def _groupings(distances: _Array, members: Sequence[Member]) -> list[dict[str, Any]]:
    """Methods against seeds, and seeds against methods, among the runs."""
    runs = [place for place, one in enumerate(members) if one.method is not None and not one.teacher]
    among = distances[np.ix_(runs, runs)]
    labels: dict[str, list[Any]] = {
        "methods": [members[place].method for place in runs],
        "seeds": [members[place].seed for place in runs],
    }
    found = []
    for name, other in (("methods", "seeds"), ("seeds", "methods")):
        nothing = dict.fromkeys(("f", "share", "p_value", "smallest_p"))
        entry = {"of": name, **nothing, "permutations": _PERMUTATIONS, "n_networks": len(runs), "reason": ""}
        if not runs:
            found.append(entry | {"reason": "none of the networks is a run, so that methods and seeds are not known"})
            continue
        try:
            test = permanova(among, labels[name], labels[other], permutations=_PERMUTATIONS)
        except Undefined as error:
            found.append(entry | {"reason": str(error)})
            continue
        kept = {key: getattr(test, key) for key in ("share", "p_value", "smallest_p", "permutations")}
        found.append(entry | kept | {"f": test.f if math.isfinite(test.f) else None})
    return found


def _too_few(groupings: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """That a p value is not small because it cannot be."""
    for grouping in groupings:
        if (smallest := grouping["smallest_p"] or 0.0) > ALPHA:
            yield (
                f"too few runs to show whether {grouping['of']} lie apart: p cannot be below {smallest:.4f}, however "
                "far apart they are"
            )


def _origins(folder: Path, networks: Sequence[MapCell]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What the feature files say of the images, and of each network."""
    origins: list[dict[str, Any]] = []
    known: dict[str, Any] = {}
    for cell in networks:
        path, role = source_of(folder / "cells" / cell.id)
        with FeatureStore.open(path) as store:
            network, origin = store.network(role), store.origin(role)
            known = known or {
                "data": store.data,
                "n_samples": store.n_samples,
                "batch_size": store.batch_size,
                "reduce": store.reduce.replace("whole", "flatten"),
            }
        place = {"checkpoint": cell.values["spec"]} if cell.values["spec"] else {"file": origin["file"]}
        origins.append({"name": network.model, "sha256": network.sha256 or None, **place})
    return known, origins
