"""All measures of similarity other than CKA, as `kdprobe similarity` names them."""

from dataclasses import replace
from typing import Any

from analyses.similarity.canonical import PWCCA, SVCCA
from analyses.similarity.corrected_cka import FeatureCorrectedCKA
from analyses.similarity.dependence import DistanceCorrelation
from analyses.similarity.distances import RSA, RankRSA
from analyses.similarity.measure import Measure
from analyses.similarity.neighbours import CKNNA, CycleKNN, MutualKNN, NeighbourMeasure
from analyses.similarity.predictivity import PredictsStudent, PredictsTeacher
from analyses.similarity.rotations import Procrustes
from kdprobe.errors import AnalysisError, near_matches

MEASURES: dict[str, Measure[Any]] = {
    "svcca": SVCCA(),
    "pwcca": PWCCA(),
    "procrustes": Procrustes(),
    "rsa": RSA(),
    "rsa-spearman": RankRSA(),
    "distance-correlation": DistanceCorrelation(),
    "mutual-knn": MutualKNN(),
    "cycle-knn": CycleKNN(),
    "cknna": CKNNA(),
    "predicts-student": PredictsStudent(),
    "predicts-teacher": PredictsTeacher(),
    "feature-cka": FeatureCorrectedCKA(),
}


def find_measure(measure: str | Measure[Any], *, neighbours: int | None = None) -> Measure[Any]:
    """A measure.

    Args:
        measure: a name in `MEASURES`, or a measure, which is returned as it is.
        neighbours: of each sample, for the measures by neighbours; their own default if not given.

    Raises:
        AnalysisError: for another name, or neighbours for a measure that has none.
    """
    if isinstance(measure, Measure):
        return measure
    if measure == "cka":
        raise AnalysisError("CKA has a command of its own: give kdprobe cka, or in Python use analyses.cka")
    if measure not in MEASURES:
        raise AnalysisError(f"no measure {measure!r}{near_matches(measure, MEASURES)}")
    found = MEASURES[measure]
    if neighbours is None:
        return found
    if not isinstance(found, NeighbourMeasure):
        by_neighbours = [name for name, one in MEASURES.items() if isinstance(one, NeighbourMeasure)]
        raise AnalysisError(f"{measure} counts no neighbours; {', '.join(by_neighbours)} do")
    return replace(found, k=neighbours)
