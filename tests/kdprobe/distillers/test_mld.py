import pytest
import torch
import torch.nn.functional as F

from kdprobe.data.loaders import Batch
from kdprobe.distillers import DISTILLERS
from kdprobe.distillers.mld import batch_loss, class_loss, instance_loss, mld_parts, uncertain
from kdprobe.models.stages import Shapes
from tests.goldens import assert_close, assert_tensor, assert_value, cases, leaf

LEVELS = {"inst": instance_loss, "batch": batch_loss, "class": class_loss}


@pytest.mark.parametrize("case", cases("mld"))
@pytest.mark.parametrize("level", LEVELS)
def test_levels_equal_the_original(case, level):
    for temperature, expected in zip(case["temps"].tolist(), case[f"{level}_w"], strict=True):
        student = leaf(case["logits_s_w"])
        loss = LEVELS[level](student, case["logits_t_w"], temperature=temperature)
        assert_close(case, loss, expected.item())
        if temperature == case["T"]:
            loss.backward()
            assert_tensor(case, student.grad, f"grad_{level}")


@pytest.mark.parametrize("case", cases("mld"))
def test_the_reference_variant_equals_the_published_step(case):
    samples, classes = uncertain(case["logits_t_w"])
    assert torch.equal(samples, case["mask"])
    assert torch.equal(classes, case["class_mask"])
    student = (leaf(case["logits_s_w"]), leaf(case["logits_s_st"]))
    teacher = (case["logits_t_w"], case["logits_t_st"])
    parts = mld_parts(student, teacher, temperatures=case["temps"].tolist(), variant="reference")
    for name, key in [("instance", "full_kd"), ("batch", "full_bc"), ("class", "full_cc")]:
        assert_value(case, 0.9 * parts[name], key)
    total = 0.9 * sum(parts.values()) + 0.1 * sum(F.cross_entropy(view, case["target"]) for view in student)
    total.backward()
    assert_value(case, total, "full_total")
    assert_tensor(case, student[0].grad, "grad_total_w")
    assert_tensor(case, student[1].grad, "grad_total_st")


def test_the_clean_variant_teaches_uncertain_samples_alone():
    teacher = torch.tensor([[9.0, 0, 0], [1, 0.5, 0], [8, 0, 0], [0, 1, 0.5]], dtype=torch.float64)
    weak, strong = leaf(torch.zeros(4, 3).double()), leaf(torch.zeros(4, 3).double())
    mld_parts((weak, strong), (teacher, teacher), variant="clean")["instance"].backward()
    for view in (weak, strong):
        assert (view.grad.abs().sum(dim=1) > 0).tolist() == [False, True, False, True]


@pytest.mark.parametrize("variant", ["reference", "clean"])
@pytest.mark.parametrize("n", [1, 4])
def test_huge_logits_and_a_batch_of_one_are_finite(variant, n):
    teacher = torch.randn(n, 2, generator=torch.Generator().manual_seed(0)).sign() * 1e4
    student = leaf(-teacher)
    total = sum(mld_parts((student, student), (teacher, teacher), variant=variant).values())
    total.backward()
    assert total.isfinite()
    assert student.grad.isfinite().all()


@pytest.mark.parametrize("variant", ["reference", "clean"])
def test_zero_for_equal_logits(variant):
    logits = torch.randn(6, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    parts = mld_parts((logits, logits), (logits, logits), variant=variant)
    assert all(part.abs() < 1e-12 for part in parts.values())


def test_both_networks_see_both_views():
    kind = DISTILLERS["mld"]
    shapes = Shapes("net", (), (), 6, 3, None, 0)
    method = kind(kind.Options(), shapes, shapes)
    batch = Batch(torch.rand(4, 3, 16, 16), torch.arange(4) % 3, torch.arange(4))
    student, teacher, labels = method.inputs(batch)
    assert student is teacher
    assert torch.equal(student[:4], batch.images)
    assert not torch.equal(student[4:], batch.images)
    assert labels.tolist() == [0, 1, 2, 0] * 2
    assert method.ce_weight == 0.2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperatures": (4.0, -1.0)}, "temperatures must be positive"),
        ({"temperatures": (4.0,), "variant": "reference"}, "the reference variant takes five temperatures"),
    ],
)
def test_temperatures_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        DISTILLERS["mld"].Options(**options)
