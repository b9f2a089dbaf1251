"""The Jensen-Shannon divergence against stored values and scipy."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import jensenshannon

from analyses.evaluation.divergence import jensen_shannon
from kdprobe.errors import AnalysisError
from tests import goldens


@pytest.mark.parametrize("case", goldens.cases("agreement", only="distributions")[::2])
def test_it_equals_the_stored_one(case):
    found = jensen_shannon(case["logits_a"], case["logits_b"], temperature=case["T"])
    assert found.dtype == torch.float64
    # scipy's value is a square root, so that of equal distributions is right to the root of the precision alone
    np.testing.assert_allclose(found, case["js"], rtol=1e-9, atol=1e-15)


def test_it_is_the_square_of_what_scipy_gives():
    logits = torch.randn(2, 50, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = jensenshannon(*logits.softmax(2).numpy(), axis=1) ** 2
    np.testing.assert_allclose(jensen_shannon(*logits), expected, rtol=1e-9)


def test_it_reaches_its_ends_and_never_leaves_them():
    logits = torch.tensor([[500.0, -500.0], [0.0, 1.0], [-math.inf, 0.0]])
    found = jensen_shannon(logits, torch.tensor([[-500.0, 500.0], [0.0, 1.0], [0.0, -math.inf]]))
    assert found.tolist() == pytest.approx([math.log(2), 0, math.log(2)], abs=1e-15)
    assert float(found.min()) >= 0


def test_what_it_cannot_compare_is_refused():
    with pytest.raises(AnalysisError, match=r"logits of the same images and classes, but they are \[3, 5\] and \[3, 4"):
        jensen_shannon(torch.zeros(3, 5), torch.zeros(3, 4))
    with pytest.raises(AnalysisError, match="a temperature must be a finite number above 0, but is 0"):
        jensen_shannon(torch.zeros(3, 5), torch.zeros(3, 5), temperature=0)
    with pytest.raises(AnalysisError, match="divided by the temperature 1e-320 are not finite; take a larger one"):
        jensen_shannon(torch.eye(2), torch.eye(2), temperature=1e-320)
