"""Confusion matrices, recalls and UAR against plain loops, scikit-learn and stored values."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, precision_score, recall_score

from analyses.evaluation.recall import confusion, mean_share, shares, tally, unweighted_average_recall
from kdprobe.errors import AnalysisError
from kdprobe.mean_interval import wilson
from tests import goldens

GOLDEN = np.load(goldens.FOLDER / "metrics.npz")

labelled = st.integers(2, 6).flatmap(
    lambda c: st.tuples(
        st.just(c),
        st.lists(st.tuples(st.integers(0, c - 1), st.integers(0, c - 1)), min_size=1, max_size=40),
    )
)


@given(labelled)
def test_counts_equal_the_loop_and_scikit_learn(case: tuple[int, list[tuple[int, int]]]) -> None:
    n_classes, pairs = case
    targets, predictions = torch.tensor(pairs).unbind(1)
    matrix = confusion(targets, predictions, n_classes)
    slow = torch.zeros(n_classes, n_classes, dtype=torch.int64)
    for true, predicted in pairs:
        slow[true, predicted] += 1
    assert torch.equal(matrix, slow)
    assert np.array_equal(matrix, confusion_matrix(targets, predictions, labels=range(n_classes)))


@given(labelled)
def test_shares_equal_scikit_learn(case: tuple[int, list[tuple[int, int]]]) -> None:
    n_classes, pairs = case
    targets, predictions = torch.tensor(pairs).unbind(1)
    matrix = confusion(targets, predictions, n_classes)
    options = {"labels": range(n_classes), "average": None, "zero_division": np.nan}
    recalls, precisions = shares(tally(matrix)), shares(tally(matrix, by="predicted"))
    np.testing.assert_allclose(recalls, recall_score(targets, predictions, **options))
    np.testing.assert_allclose(precisions, precision_score(targets, predictions, **options))
    assert wilson(tally(matrix).sum(0))[0] == pytest.approx(sum(t == p for t, p in pairs) / len(pairs))
    assert np.array_equal(tally(matrix, by="predicted").sum(0), tally(matrix).sum(0))
    assert unweighted_average_recall(matrix) == pytest.approx(np.nanmean(recalls))


@pytest.mark.parametrize("case", [0, 1])
def test_stored_values(case: int) -> None:
    targets = torch.from_numpy(GOLDEN[f"c{case}_basic_target"])
    predictions = torch.from_numpy(GOLDEN[f"c{case}_scores"]).argmax(1)
    matrix = confusion(targets, predictions, 7)
    assert unweighted_average_recall(matrix) == pytest.approx(float(GOLDEN[f"c{case}_uar"]), rel=1e-12)
    assert wilson(tally(matrix).sum(0))[0] == pytest.approx(float(GOLDEN[f"c{case}_accuracy"]), rel=1e-12)
    if case == 0:
        np.testing.assert_allclose(shares(tally(matrix)), GOLDEN["c0_recall"], rtol=1e-12)


def test_a_class_without_images_is_left_out() -> None:
    matrix = torch.tensor([[3, 1, 0], [0, 0, 0], [1, 0, 1]])
    assert unweighted_average_recall(matrix) == pytest.approx((3 / 4 + 1 / 2) / 2)
    assert np.isnan(shares(tally(matrix))[1])


def test_many_tallies_at_once() -> None:
    tallies = np.random.default_rng(0).integers(0, 9, (4, 3, 5, 2))
    for function in (shares, mean_share):
        together = function(tallies)
        np.testing.assert_array_equal(together[2, 1], function(tallies[2, 1]))


def test_classes_outside_are_refused() -> None:
    inside, outside = torch.tensor([0, 1, 2]), torch.tensor([0, 1, 3])
    for pair in ((inside, outside), (outside, inside)):
        with pytest.raises(AnalysisError, match=r"classes must be 0 to 2, but run from 0 to 3"):
            confusion(*pair, 3)
    with pytest.raises(AnalysisError, match=r"run from -1 to 2"):
        confusion(inside, inside - 1, 3)
    with pytest.raises(AnalysisError, match=r"needs at least one image, but there is none"):
        confusion(inside[:0], inside[:0], 3)
