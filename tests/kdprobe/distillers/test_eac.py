import pytest
import torch

from kdprobe.data.dataset import IMAGENET_MEAN
from kdprobe.data.loaders import Batch
from kdprobe.distillers import DISTILLERS
from kdprobe.distillers.eac import attention_maps, consistency_loss
from kdprobe.errors import ModelError
from kdprobe.models.stages import Shapes
from tests.goldens import TOLERANCES, assert_tensor, assert_value, cases, leaf

#: the original flips through a float32 grid, which moves its loss and, by 1.7e-7, its gradients
GRID_ERROR = 1e-6


@pytest.mark.parametrize("case", cases("eac"))
def test_equals_the_original(case):
    first, second = leaf(case["feat1"]), leaf(case["feat2"])
    attention = attention_maps(first, case["fc_weight"])
    mirrored = attention_maps(second, case["fc_weight"])
    loss = consistency_loss(attention, mirrored)
    loss.backward()
    assert_tensor(case, attention, "cam1")
    assert_tensor(case, mirrored, "cam2")
    loss_tolerance, gradient_tolerance = (max(GRID_ERROR, tolerance) for tolerance in TOLERANCES[case.dtype])
    assert_value(case, loss, "loss", rtol=loss_tolerance)
    assert_tensor(case, first.grad, "grad_feat1", tol=gradient_tolerance)
    assert_tensor(case, second.grad, "grad_feat2", tol=gradient_tolerance)


def test_the_classifier_gets_no_gradient():
    maps, classifier = leaf(torch.rand(2, 3, 4, 4)), leaf(torch.rand(5, 3))
    attention = attention_maps(maps, classifier)
    consistency_loss(attention, attention.flip(2)).backward()
    assert classifier.grad is None
    assert maps.grad.isfinite().all()


def test_zero_for_exact_mirrors():
    attention = torch.rand(2, 3, 4, 4)
    assert consistency_loss(attention, attention.flip(3)) == 0


SHAPES = Shapes("net", ("s",), ((6, 4, 4),), 6, 3, None, 0, averaged=True)


def test_the_second_half_of_the_views_mirrors_the_first():
    torch.manual_seed(0)
    kind = DISTILLERS["eac"]
    method = kind(kind.Options(), SHAPES, None)
    batch = Batch(torch.rand(12, 3, 16, 16), torch.arange(12) % 3, torch.arange(12))
    images, _, labels = method.inputs(batch)
    assert torch.equal(images[12:], images[:12].flip(3))
    assert torch.equal(labels[12:], batch.labels)
    varied = (images[:12] != batch.images).flatten(1).any(dim=1)
    assert 3 < varied.sum() < 12
    assert images.min() >= 0
    assert images.max() <= 1


def test_the_mirror_of_a_noisy_label_is_that_of_the_image_as_it_came():
    torch.manual_seed(0)
    kind = DISTILLERS["eac"]
    method = kind(kind.Options(noisy_labels=True), SHAPES, None)
    batch = Batch(torch.rand(32, 3, 16, 16), torch.arange(32) % 3, torch.arange(32))
    shown, mirrored = method.inputs(batch)[0].chunk(2)
    changed = [(images != batch.images).flatten(1).float().mean(1) for images in (shown, mirrored.flip(3))]
    assert ((changed[0] > 0) != (changed[1] > 0)).any(), "each is erased by its own draw"
    assert (changed[1] > 0).any()
    assert (changed[0] > 0.5).any(), "noise changes most of an image"
    assert (changed[1] < 0.3).all(), "and is not on the mirrors"


def test_noise_comes_before_the_erasing():
    torch.manual_seed(0)
    kind = DISTILLERS["eac"]
    method = kind(kind.Options(erase=1.0, noise=1.0), SHAPES, None)
    batch = Batch(torch.rand(8, 3, 16, 16), torch.arange(8) % 3, torch.arange(8))
    shown = method.inputs(batch)[0].chunk(2)[0]
    box = (shown == torch.tensor(IMAGENET_MEAN)[:, None, None]).all(1).flatten(1)
    assert (box.float().mean(1) > 0.02).all(), "the rectangle has no noise on it"
    assert (shown != batch.images).all(1).float().mean() > 0.5


def test_a_norm_in_front_of_the_classifier_is_refused():
    kind = DISTILLERS["eac"]
    with pytest.raises(ModelError, match="not defined for convnext; scn takes any network with pooled features"):
        kind(kind.Options(), Shapes("convnext", ("s",), ((6, 4, 4),), 6, 3, None, 0), None)


@pytest.mark.parametrize("area", [(0.5, 0.1), (2, 3), (-0.1, 0.2)])
def test_an_area_that_is_no_range_of_fractions_is_refused(area):
    with pytest.raises(ValueError, match="must be the smallest and the largest fraction of an image, such as"):
        DISTILLERS["eac"].Options(area=area)
