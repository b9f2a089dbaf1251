"""Quantities from columns against the shares that are counted, and what images add to them against leaving one out."""

import numpy as np
import pytest
import torch

from analyses.evaluation.common_answers import agreement
from analyses.fidelity.quantities import BOTH_WRONG, FIDELITIES, SAME_WRONG, Answers, quantities
from analyses.fidelity.together import Together
from tests.analyses.fidelity.planted import answers, logits


def planted(n: int = 80, seed: int = 0) -> tuple[Answers, torch.Tensor, torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    true, taught, own = answers(rng, n, n_classes=4, teacher=0.7, right=0.8, copies=0.3)
    both = logits(rng, own, 4), logits(rng, taught, 4)
    return Answers(*both, torch.from_numpy(true), temperature=1.0), *both, torch.from_numpy(true)


def test_they_are_the_shares_that_are_counted():
    found, own, taught, true = planted()
    counted = agreement(taught.argmax(1), own.argmax(1), true)
    values = dict(zip(FIDELITIES, found.values, strict=True))
    assert values["accuracy"] == counted.accuracy_b
    for name in ("agreement", "kappa", "error_consistency", "same_error"):
        assert values[name] == pytest.approx(getattr(counted, name), abs=1e-12)
    assert values["agreement_right"] == pytest.approx(counted.agreement_a_right, abs=1e-12)
    assert values["agreement_wrong"] == pytest.approx(counted.agreement_a_wrong, abs=1e-12)
    assert 0 < values["jensen_shannon"] < np.log(2)


def test_what_images_add_is_what_leaving_one_out_takes():
    found, own, taught, true = planted(400)
    by_image = Together([found]).by_image()[0]
    n, kept = len(true), torch.arange(len(true))
    for image in (0, 5, 17, 60):
        rest = Answers(*(part[kept != image] for part in (own, taught, true)), temperature=1.0)
        np.testing.assert_allclose((n - 1) * (found.values - rest.values), by_image[image], atol=0.04)
    np.testing.assert_allclose(by_image.mean(0), 0, atol=1e-12)


def test_networks_together_are_the_shares_of_all_their_answers():
    networks = [planted(seed=seed)[0] for seed in (0, 1)]
    networks[1].right = networks[0].right  # other images, but that does not matter here
    together = Together(networks)
    np.testing.assert_allclose(together.values[:2], np.mean([one.values[:2] for one in networks], axis=0))
    same, wrong = (sum(one.columns[:, which].sum() for one in networks) for which in (SAME_WRONG, BOTH_WRONG))
    assert together.values[4] == pytest.approx(same / wrong)
    assert together.counts()[4] == wrong / 2


def test_what_seeds_add_is_what_leaving_one_out_takes():
    networks = [found for found, *_ in (planted(4000, seed) for seed in range(8))]
    for one in networks:
        one.right = networks[0].right
    together = Together(networks)
    for seed in (0, 5):
        rest = Together([one for place, one in enumerate(networks) if place != seed])
        np.testing.assert_allclose(7 * (together.values - rest.values), together.by_seed()[seed], atol=2e-3)
    np.testing.assert_allclose(together.by_seed().mean(0), 0, atol=1e-12)


def test_what_is_not_defined_is_missing():
    all_right = np.array([1.0, 1, 1, 0, 0, 0.3, 0.01])
    values = dict(zip(FIDELITIES, quantities(all_right, 1.0), strict=True))
    assert [name for name in values if np.isnan(values[name])] == ["agreement_wrong", "same_error", "error_consistency"]
    never = dict(zip(FIDELITIES, quantities(np.array([0.0, 1, 0, 1, 1, 1, 0.01]), 0.0), strict=True))
    assert [name for name in never if np.isnan(never[name])] == ["agreement_right", "kappa", "error_consistency"]
