import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kdprobe.config.parsing import check_method
from kdprobe.distillers import DISTILLERS, Progress, option_types
from kdprobe.distillers.dkd import dkd_loss
from kdprobe.distillers.kd import kd_loss
from kdprobe.distillers.nkd import nkd_loss
from kdprobe.distillers.sdd import region_logits, region_weights, regions, sdd_loss
from kdprobe.errors import AnalysisError, ModelError
from kdprobe.models.stages import Features, Shapes
from tests.goldens import assert_tensor, assert_value, cases, leaf

OF_BASE = {"kd": {}, "dkd": {"alpha": "alpha", "beta": "beta"}, "nkd": {"beta": "gamma"}}
LOSSES = [("kd", "loss", "grad_s"), ("dkd", "loss", "grad_s"), ("nkd", "loss_masked", "grad_masked")]
LOSSES += [("nkd", "loss", "grad_s")]
CASES = [(case, *keys) for base, *keys in LOSSES for case in cases("sdd", only=base)]


@pytest.mark.parametrize(("case", "loss_key", "gradient_key"), [(p.values[0], *keys) for p, *keys in CASES])
def test_equals_the_original(case, loss_key, gradient_key):
    student, base = leaf(case["logits_s"]), case.description["kind"]
    options = {name: case[key] for name, key in OF_BASE[base].items()}
    options["target_among_others"] = (base, loss_key) == ("nkd", "loss")
    loss = sdd_loss(student, case["logits_t"], case["target"], base=base, temperature=case["T"], **options)
    loss.backward()
    assert_value(case, loss, loss_key)
    assert_tensor(case, student.grad, gradient_key)
    assert_tensor(case, region_weights(case["logits_t"], case["target"]), "weight")


@pytest.mark.parametrize("case", cases("sdd", only="pool"))
def test_regions_equal_the_originals(case):
    head = nn.Linear(*reversed(case["fc_weight"].shape), dtype=case.dtype)
    head.load_state_dict({"weight": case["fc_weight"], "bias": case["fc_bias"]})
    scales = case.description["scales"]
    cells = regions(case["map"], scales)
    assert_tensor(case, cells, "regions")
    assert_tensor(case, region_logits(cells, head), "logits")
    assert_tensor(case, regions(case["map"], scales, nested=False)[:, :, 0], "pooled")


@pytest.mark.parametrize("base", ["kd", "dkd", "nkd"])
def test_a_single_region_is_the_loss_of_the_logits(base):
    student, teacher = torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    target = torch.tensor([2, 0, 5, 2])
    expected = {
        "kd": kd_loss(student, teacher, temperature=3.0),
        "dkd": dkd_loss(student, teacher, target, alpha=1.0, beta=2.0, temperature=3.0),
        "nkd": nkd_loss(student, teacher, target, gamma=2.0, temperature=3.0),
    }[base]
    found = sdd_loss(student[..., None], teacher[..., None], target, base=base, beta=2.0, temperature=3.0)
    torch.testing.assert_close(found, expected)


def test_regions_count_more_where_the_teacher_is_right_on_them_or_on_the_whole_alone():
    right, wrong = F.one_hot(torch.tensor(1), 3), F.one_hot(torch.tensor(2), 3)
    teacher = torch.stack([torch.stack(row) for row in ([right, wrong, right], [wrong, wrong, right])]).float().mT
    weights = region_weights(teacher, torch.tensor([1, 1]), complementary=3.0)
    assert weights.tolist() == [[1, 3, 1], [1, 1, 3]]


def method_of(n_classes=5, **options):
    shapes = Shapes("any", ("a",), ((3, 8, 8),), 3, n_classes, None, 0, averaged=True)
    return DISTILLERS["sdd"](DISTILLERS["sdd"].Options(**options), shapes, shapes)


def test_the_method_warms_up_by_whole_epochs():
    torch.manual_seed(0)
    maps, heads, labels = torch.randn(2, 4, 3, 8, 8), [nn.Linear(3, 5), nn.Linear(3, 5)], torch.arange(4)
    pairs = list(zip(maps, heads, strict=True))
    ours, theirs = (Features(torch.zeros(4, 5), maps=(one,), heads=(head,)) for one, head in pairs)
    method = method_of(weight=3, scales=(1, 2), warmup_epochs=4)
    cells = [region_logits(regions(one, (1, 2)), head) for one, head in pairs]
    for epoch, share in ((0.5, 0.25), (1.5, 0.5), (8.0, 1.0)):
        found = method(ours, theirs, labels, Progress(epoch, 10))["regions"]
        torch.testing.assert_close(found, 3 * share * sdd_loss(*cells, labels))


def test_two_classes_have_no_ranking_over_dkd_alone():
    with pytest.raises(
        AnalysisError, match=r"but there are 2; method.base=kd and method.base=nkd are defined for them"
    ):
        method_of(n_classes=2)
    assert method_of(n_classes=2, base="nkd")


@pytest.mark.parametrize("scales", [(), (2, 4), (1, 0), (1, 1)])
def test_scales_begin_with_the_whole(scales):
    (mistake,) = check_method({"name": "sdd", "scales": scales}, option_types())[1]
    assert mistake == (
        "method.scales: must be sides of grids, each once, that begin with 1, the whole map, such as [1, 2], but is "
        f"{scales}"
    )


@pytest.mark.parametrize(
    ("options", "refusal"),
    [
        (
            {"scales": (1, 8)},
            r"averages maps onto a grid of 4 x 4 first; method.scales above 4 need method.nested=false",
        ),
        (
            {"scales": (1, 64), "nested": False},
            r"grid of 64 x 64, finer than the last map of any, \d x \d; give method",
        ),
    ],
)
def test_a_grid_that_is_finer_than_the_map_is_refused(options, refusal):
    with pytest.raises(ModelError, match=refusal):
        method_of(**options)
