"""Agreement of answers against stored values, scikit-learn and plain counting."""

import math
from dataclasses import fields

import numpy as np
import pytest
import torch
from sklearn.metrics import cohen_kappa_score

from analyses.evaluation.common_answers import Agreement, agreement
from kdprobe.errors import AnalysisError
from tests import goldens


@pytest.mark.parametrize("case", goldens.cases("agreement", only="labels")[::2])
def test_all_shares_equal_the_stored_ones(case):
    found = agreement(case["a"], case["b"], case["targets"])
    for field in fields(Agreement):
        expected = case[field.name]
        np.testing.assert_allclose(getattr(found, field.name), expected, rtol=1e-12, atol=1e-15, err_msg=field.name)


def test_kappas_equal_those_of_scikit_learn():
    a, b, targets = torch.randint(7, (3, 200), generator=torch.Generator().manual_seed(0))
    found = agreement(a, b, targets)
    assert found.kappa == pytest.approx(cohen_kappa_score(a, b), abs=1e-12)
    assert found.error_consistency == pytest.approx(cohen_kappa_score(a == targets, b == targets), abs=1e-12)


def test_shares_without_images_are_missing():
    found = agreement(*torch.tensor([[0, 1, 2], [0, 1, 2], [0, 1, 2]]))
    assert math.isnan(found.agreement_a_wrong)
    assert math.isnan(found.same_error)
    assert found.agreement_a_right == found.kappa == found.error_consistency == 1
    assert math.isnan(agreement(*torch.tensor([[3, 3], [3, 3], [3, 0]])).kappa)


def test_it_needs_as_many_answers_as_images():
    with pytest.raises(AnalysisError, match=r"agreement needs two answers and the true class .* got 3, 3 and 2"):
        agreement(torch.tensor([0, 1, 2]), torch.tensor([0, 1, 2]), torch.tensor([0, 1]))
    with pytest.raises(AnalysisError, match="got 0, 0 and 0"):
        agreement(*torch.zeros(3, 0, dtype=torch.int64))
