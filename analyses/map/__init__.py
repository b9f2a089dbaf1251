"""Many networks at once: how alike all pairs are, as a matrix, a tree and a map."""

from typing import TYPE_CHECKING

from kdprobe import face

if TYPE_CHECKING:
    from analyses.map.geometry import average_linkage as average_linkage
    from analyses.map.geometry import chord_distances as chord_distances
    from analyses.map.geometry import principal_coordinates as principal_coordinates
    from analyses.map.grouping import permanova as permanova
    from analyses.map.members import find_members as find_members
    from analyses.map.study import measure_map as measure_map

__all__ = [
    "average_linkage",
    "chord_distances",
    "find_members",
    "measure_map",
    "permanova",
    "principal_coordinates",
]

__getattr__, __dir__ = face(
    __name__,
    {
        "average_linkage": "analyses.map.geometry",
        "chord_distances": "analyses.map.geometry",
        "find_members": "analyses.map.members",
        "measure_map": "analyses.map.study",
        "permanova": "analyses.map.grouping",
        "principal_coordinates": "analyses.map.geometry",
    },
)
