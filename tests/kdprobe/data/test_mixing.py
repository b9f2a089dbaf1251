import numpy as np
import torch

from kdprobe.config import MixingConfig
from kdprobe.data.mixing import make_mixer, mix


def test_a_single_image_stays_unmixed():
    mixer = make_mixer(MixingConfig(mixup=0.8, cutmix=1.0), n_classes=5, label_smoothing=0.1)
    image = torch.rand(1, 3, 8, 8)
    mixed, soft = mix(mixer, image, torch.tensor([2]), key=(0, 1, 2))
    assert torch.equal(mixed, image)
    assert torch.allclose(soft, torch.tensor([[0.02, 0.02, 0.92, 0.02, 0.02]]))


def test_mixing_keeps_sums_of_labels_and_leaves_numpy_alone():
    mixer = make_mixer(MixingConfig(mixup=0.8, cutmix=1.0), n_classes=5, label_smoothing=0.1)
    np.random.seed(3)
    before = np.random.get_state()[1].copy()
    images, labels = torch.rand(9, 3, 8, 8), torch.arange(9) % 5
    mixed, soft = mix(mixer, images, labels, key=(0, 1, 2))
    assert (np.random.get_state()[1] == before).all()
    assert mixed.shape == (8, 3, 8, 8)
    assert torch.allclose(soft.sum(1), torch.ones(8))
    again, _ = mix(mixer, images, labels, key=(0, 1, 2))
    other, _ = mix(mixer, images, labels, key=(0, 1, 3))
    assert torch.equal(mixed, again)
    assert not torch.equal(mixed, other)
    assert make_mixer(MixingConfig(), n_classes=5, label_smoothing=0.0) is None
