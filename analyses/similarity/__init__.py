"""How alike two representations are, by other measures than CKA."""

from typing import TYPE_CHECKING

from kdprobe import face

if TYPE_CHECKING:
    from analyses.similarity.canonical import canonical_correlations as canonical_correlations
    from analyses.similarity.canonical import pwcca as pwcca
    from analyses.similarity.canonical import svcca as svcca
    from analyses.similarity.clamping import clamp_outliers as clamp_outliers
    from analyses.similarity.dependence import distance_correlation as distance_correlation
    from analyses.similarity.distances import rsa as rsa
    from analyses.similarity.neighbours import cknna as cknna
    from analyses.similarity.neighbours import cycle_knn as cycle_knn
    from analyses.similarity.neighbours import mutual_knn as mutual_knn
    from analyses.similarity.null import Calibrated as Calibrated
    from analyses.similarity.null import CalibratedPairs as CalibratedPairs
    from analyses.similarity.null import calibrate as calibrate
    from analyses.similarity.null import calibrate_pairs as calibrate_pairs
    from analyses.similarity.predictivity import linear_predictivity as linear_predictivity
    from analyses.similarity.result import files_similarity as files_similarity
    from analyses.similarity.result import layers_similarity as layers_similarity
    from analyses.similarity.result import networks_similarity as networks_similarity
    from analyses.similarity.rotations import procrustes as procrustes

__all__ = [
    "Calibrated",
    "CalibratedPairs",
    "calibrate",
    "calibrate_pairs",
    "canonical_correlations",
    "cknna",
    "clamp_outliers",
    "cycle_knn",
    "distance_correlation",
    "files_similarity",
    "layers_similarity",
    "linear_predictivity",
    "mutual_knn",
    "networks_similarity",
    "procrustes",
    "pwcca",
    "rsa",
    "svcca",
]

__getattr__, __dir__ = face(
    __name__,
    {
        "Calibrated": "analyses.similarity.null",
        "CalibratedPairs": "analyses.similarity.null",
        "calibrate": "analyses.similarity.null",
        "calibrate_pairs": "analyses.similarity.null",
        "canonical_correlations": "analyses.similarity.canonical",
        "clamp_outliers": "analyses.similarity.clamping",
        "cknna": "analyses.similarity.neighbours",
        "cycle_knn": "analyses.similarity.neighbours",
        "distance_correlation": "analyses.similarity.dependence",
        "files_similarity": "analyses.similarity.result",
        "layers_similarity": "analyses.similarity.result",
        "linear_predictivity": "analyses.similarity.predictivity",
        "mutual_knn": "analyses.similarity.neighbours",
        "networks_similarity": "analyses.similarity.result",
        "procrustes": "analyses.similarity.rotations",
        "pwcca": "analyses.similarity.canonical",
        "rsa": "analyses.similarity.distances",
        "svcca": "analyses.similarity.canonical",
    },
)
