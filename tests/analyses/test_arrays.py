"""Public functions of features, logits and classes take arrays as they take tensors."""

import numpy as np
import pytest
import torch

from analyses.arrays import as_tensor
from analyses.cka import feature_corrected_cka, minibatch_cka
from analyses.evaluation import (
    agreement,
    compound_accuracy,
    confusion,
    jensen_shannon,
    unweighted_average_recall,
)
from analyses.knowledge import decompose, probe_accuracy
from analyses.similarity import canonical_correlations, clamp_outliers, linear_predictivity, rsa
from kdprobe.errors import AnalysisError

DRAWN = np.random.default_rng(0).normal(size=(30, 9))
X, Y = DRAWN[:, :5] + DRAWN[:, 4:], DRAWN[:, :4] - DRAWN[:, 1:5]
CLASSES, OTHERS = np.arange(30) % 3, np.arange(30) % 2
FOLDS = [torch.arange(15), torch.arange(15, 30)]
CALLS = {
    "decompose": lambda of: decompose(of(X), of(Y)).fractions["teacher_general"].value,
    "decompose, two classes": lambda of: decompose(of(X), of(Y), groups=of(np.arange(30))).fractions["student_general"],
    "probe_accuracy": lambda of: probe_accuracy(of(X - X.mean(0)), of(CLASSES), FOLDS),
    "minibatch_cka": lambda of: minibatch_cka(of(X[None]), of(Y[None])),
    "feature_corrected_cka": lambda of: feature_corrected_cka(of(X), of(Y)),
    "rsa": lambda of: rsa(of(X), of(Y)),
    "canonical_correlations": lambda of: canonical_correlations(of(X), of(Y)).tolist(),
    "clamp_outliers": lambda of: clamp_outliers(of(X)).tolist(),
    "linear_predictivity": lambda of: linear_predictivity(of(X), of(Y), of(CLASSES)).brain_score,
    "jensen_shannon": lambda of: jensen_shannon(of(X), logits_b=of(X[::-1])).tolist(),
    "agreement": lambda of: agreement(of(CLASSES), of(OTHERS), of(CLASSES)).kappa,
    "confusion": lambda of: confusion(of(CLASSES), of(OTHERS), 3).tolist(),
    "unweighted_average_recall": lambda of: unweighted_average_recall(of(np.eye(3, dtype=np.int64))),
    "compound_accuracy": lambda of: compound_accuracy(of(X), of(np.stack([CLASSES, CLASSES + 1], 1))),
}


def frozen(array):
    """The same numbers as they come out of a file: not to be written to, and of the other byte order."""
    found = array.astype(array.dtype.newbyteorder(">"))
    found.setflags(write=False)
    return found


@pytest.mark.parametrize("name", CALLS)
def test_arrays_give_what_tensors_give(name):
    expected = CALLS[name](lambda array: torch.from_numpy(array.copy()))
    assert CALLS[name](lambda array: array) == expected
    assert CALLS[name](frozen) == expected


def test_numbers_that_torch_has_no_type_for():
    assert torch.equal(as_tensor(np.eye(2, dtype=np.uint32), name="x", least=2), torch.eye(2).double())
    assert as_tensor(np.eye(2, dtype=np.float16), name="x", least=2).dtype == torch.float16
    with pytest.raises(AnalysisError, match="x must be a tensor or an array of numbers, but is of type ndarray"):
        as_tensor(np.array([["a"]]), name="x", least=2)
