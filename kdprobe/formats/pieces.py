"""Ranges, facts and origins that results of several kinds have."""

from math import inf

from kdprobe.formats.schema import Dict, Fact, Maybe, Number, Record, Text

SHARE = (0.0, 1.0)
COUNT = (0.0, inf)
COUNTED = Number(COUNT, whole=True)
NETWORK = Record({"sha256": Maybe(Text(), required=False)})
ORIGIN: dict[str, Fact] = {"versions": Dict(Text()), "command": Text()}  # as `kdprobe.provenance.provenance` says it
