"""What a map of many networks holds: similarities of all pairs, a tree, places, and tests of what groups them."""

from math import inf

from kdprobe.formats.null_kinds import NULL_RANGES
from kdprobe.formats.schema import Dict, Flag, Kind, List, Maybe, Number, Record, Text, Values

_SHARE, _COUNT = (0.0, 1.0), (0.0, inf)
_COUNTED, _NUMBER, _LABEL = Number(_COUNT, whole=True), Maybe(Number()), Text(longest=200)
_ORIGIN = {"versions": Dict(Text()), "command": Text()}
_CALIBRATION = {"alpha": Number(_SHARE), "permutations": Number((1.0, inf), whole=True), "correction": Text()}
_NETWORK = Record({"sha256": Maybe(Text(), required=False)})

MAP = Kind(
    arrays={
        "similarity": Values("networks networks", nan="all"),  # rows beside columns
        "low": Values("networks networks", nan="all", at_most="high"),
        "high": Values("networks networks", nan="all"),
        "points": Values("networks 2", nan="all"),  # NaN for networks with undefined pairs
        "shares": Values("2", within=_SHARE),  # of all squared distances, on each axis of the map
        "tree": Values("joins 4", within=_COUNT, required=False),  # of those with a place, as scipy has it
        **{
            name: Values("networks networks", within=within, nan="all", required=False)
            for name, within in NULL_RANGES.items()
        },
    },
    facts={
        "networks": List(Text(), "networks"),
        "methods": List(Maybe(Text()), "networks"),
        "seeds": List(Maybe(Number(whole=True)), "networks"),
        "teachers": List(Flag(), "networks"),
        "measure": _LABEL,
        "layers": Text(),
        "reduce": _LABEL,
        "data": Text(),
        "n_samples": _COUNTED,
        "batch_size": _COUNTED,
        "confidence": Number(_SHARE),
        "negative": Number(_COUNT),
        "no_interval": Text(),
        "calibration": Record(_CALIBRATION, required=False),
        "undefined": List(Record({"networks": List(Text(), "2"), "reason": Text()})),
        "groupings": List(
            Record(
                {
                    "of": Text(words=("methods", "seeds")),
                    "f": _NUMBER,
                    "share": Maybe(Number(_SHARE)),
                    "p_value": Maybe(Number(_SHARE)),
                    "smallest_p": Maybe(Number(_SHARE)),
                    "permutations": _COUNTED,
                    "n_networks": _COUNTED,
                    "reason": Text(),
                }
            )
        ),
    },
    together=[tuple(NULL_RANGES)],
    provenance={**_ORIGIN, "data": Text(), "networks": List(_NETWORK, "networks")},
)
