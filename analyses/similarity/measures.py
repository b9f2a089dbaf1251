"""All measures of similarity other than CKA, as `kdprobe similarity` names them."""

from typing import Any

from analyses.similarity.canonical import PWCCA, SVCCA
from analyses.similarity.distances import RSA, RankRSA
from analyses.similarity.measure import Measure
from analyses.similarity.rotations import Procrustes
from kdprobe.errors import AnalysisError, near_matches

MEASURES: dict[str, Measure[Any]] = {
    "svcca": SVCCA(),
    "pwcca": PWCCA(),
    "procrustes": Procrustes(),
    "rsa": RSA(),
    "rsa-spearman": RankRSA(),
}


def find_measure(name: str) -> Measure[Any]:
    """The measure of a name in `MEASURES`.

    Raises:
        AnalysisError: for another name.
    """
    if name not in MEASURES:
        raise AnalysisError(f"no measure {name!r}{near_matches(name, MEASURES)}")
    return MEASURES[name]
