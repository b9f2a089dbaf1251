"""How well networks recognise images: accuracy, recall, calibration, and tests of differences."""

from typing import TYPE_CHECKING

from kdprobe import face

if TYPE_CHECKING:
    from analyses.evaluation.accuracy import evaluate as evaluate
    from analyses.evaluation.calibration import calibration_error as calibration_error
    from analyses.evaluation.calibration import reliability as reliability
    from analyses.evaluation.common_answers import Agreement as Agreement
    from analyses.evaluation.common_answers import agreement as agreement
    from analyses.evaluation.compound import compound_accuracy as compound_accuracy
    from analyses.evaluation.divergence import jensen_shannon as jensen_shannon
    from analyses.evaluation.permutation import paired_permutation as paired_permutation
    from analyses.evaluation.predictions import Judged as Judged
    from analyses.evaluation.predictions import judge as judge
    from analyses.evaluation.predictions import predict as predict
    from analyses.evaluation.probing import judge_by_probe as judge_by_probe
    from analyses.evaluation.recall import confusion as confusion
    from analyses.evaluation.recall import unweighted_average_recall as unweighted_average_recall

__all__ = [
    "Agreement",
    "Judged",
    "agreement",
    "calibration_error",
    "compound_accuracy",
    "confusion",
    "evaluate",
    "jensen_shannon",
    "judge",
    "judge_by_probe",
    "paired_permutation",
    "predict",
    "reliability",
    "unweighted_average_recall",
]

__getattr__, __dir__ = face(
    __name__,
    {
        "Agreement": "analyses.evaluation.common_answers",
        "Judged": "analyses.evaluation.predictions",
        "agreement": "analyses.evaluation.common_answers",
        "calibration_error": "analyses.evaluation.calibration",
        "compound_accuracy": "analyses.evaluation.compound",
        "confusion": "analyses.evaluation.recall",
        "evaluate": "analyses.evaluation.accuracy",
        "jensen_shannon": "analyses.evaluation.divergence",
        "judge": "analyses.evaluation.predictions",
        "judge_by_probe": "analyses.evaluation.probing",
        "paired_permutation": "analyses.evaluation.permutation",
        "predict": "analyses.evaluation.predictions",
        "reliability": "analyses.evaluation.calibration",
        "unweighted_average_recall": "analyses.evaluation.recall",
    },
)
