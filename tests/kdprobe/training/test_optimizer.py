import copy
import math

import pytest
import torch

from kdprobe.config import OptimizerConfig, ScheduleConfig
from kdprobe.training.optimizer import make_optimizer, rate_factor, set_rate


@pytest.mark.parametrize("name", ["constant", "step", "exponential", "cosine", "onecycle"])
def test_rates_stay_within_the_peak(name):
    schedule = ScheduleConfig(name=name, warmup_epochs=2, milestones=(5, 8))
    factors = [rate_factor(schedule, e / 10, 10) for e in range(100)]
    assert all(0 <= factor <= 1 for factor in factors)
    assert factors[0] > 0
    assert factors[:20] == sorted(factors[:20])
    assert max(factors) == pytest.approx(1)


def test_schedules_have_their_shapes():
    step = ScheduleConfig(name="step", milestones=(150, 180, 210))
    assert [rate_factor(step, e, 240) for e in (149.99, 150, 185, 239)] == pytest.approx([1, 0.1, 0.01, 1e-3])
    cosine = ScheduleConfig(name="cosine", final_factor=0.1)
    assert rate_factor(cosine, 5, 10) == pytest.approx(0.55)
    assert rate_factor(cosine, 10, 10) == pytest.approx(0.1)
    exponential = ScheduleConfig(name="exponential", gamma=0.9)
    assert rate_factor(exponential, 3.7, 10) == pytest.approx(0.9**3)
    onecycle = ScheduleConfig(name="onecycle")
    assert rate_factor(onecycle, 3, 10) == pytest.approx(1)
    assert rate_factor(onecycle, 0, 10) == pytest.approx(0.04)
    assert math.isclose(rate_factor(onecycle, 10, 10), 0, abs_tol=1e-12)


def test_parameter_groups_follow_the_configuration():
    student, auxiliary = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2)), torch.nn.Linear(2, 2)
    settings = OptimizerConfig(name="adamw", lr=0.1, decay_norms=False, auxiliary_lr_factor=0.5)
    optimizer = make_optimizer(settings, student, auxiliary)
    set_rate(optimizer, 0.1)
    found = [(len(g["params"]), g["lr"], g["weight_decay"]) for g in optimizer.param_groups]
    assert found == [
        (1, pytest.approx(0.01), 5e-4),
        (3, pytest.approx(0.01), 0),
        (1, pytest.approx(0.005), 5e-4),
        (1, pytest.approx(0.005), 0),
    ]


def test_momentum_is_zero_after_a_first_step_that_the_scaler_leaves_out(monkeypatch):
    empty = torch.empty_like
    monkeypatch.setattr(torch, "empty_like", lambda *given, **options: empty(*given, **options).fill_(1e6))
    student = torch.nn.Linear(3, 2)
    reference = copy.deepcopy(student)
    optimizer = make_optimizer(OptimizerConfig(lr=0.1), student, torch.nn.Identity())
    plain = torch.optim.SGD(reference.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    for found_inf in (1.0, 0.0, 0.0):
        optimizer.found_inf = torch.tensor(found_inf)
        for one, other in zip(student.parameters(), reference.parameters(), strict=True):
            one.grad = other.grad = torch.full_like(one, 0.5)
        optimizer.step()
        if not found_inf:
            plain.step()
    for one, other in zip(student.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(one, other)
