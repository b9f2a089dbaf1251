"""Mixup and cutmix of a whole batch, by timm, drawn from (seed, epoch, step) alone."""

from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from kdprobe.config import MixingConfig
from kdprobe.data.policy import global_states_lent
from kdprobe.errors import ConfigError

if TYPE_CHECKING:
    from timm.data.mixup import Mixup


def make_mixer(config: MixingConfig, *, n_classes: int, label_smoothing: float) -> "Mixup | None":
    """Timm's mixer, or None where nothing is mixed.

    Raises:
        ConfigError: if images without labels are to be mixed.
    """
    if not (config.mixup or config.cutmix):
        return None
    if not n_classes:
        raise ConfigError(
            "training.mixing mixes images and their labels, but the data have no labels; set mixup and cutmix to 0"
        )
    from timm.data.mixup import Mixup

    return Mixup(  # type: ignore[no-untyped-call]
        mixup_alpha=config.mixup,
        cutmix_alpha=config.cutmix,
        prob=config.probability,
        switch_prob=config.switch,
        label_smoothing=label_smoothing,
        num_classes=n_classes,
    )


def mix(mixer: "Mixup", images: Tensor, labels: Tensor, *, key: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Mix each image with the batch's reverse.

    Args:
        mixer: a mixer from `make_mixer`.
        images: images [B, c, s, s].
        labels: classes [B].
        key: numbers that the draw depends on.

    Returns:
        mixed images [B, c, s, s] and soft labels [B, C]; the last image of an odd batch is left out, but a
        single image stays as it is.
    """
    if len(labels) == 1:
        from timm.data.mixup import mixup_target

        return images, mixup_target(labels, mixer.num_classes, smoothing=mixer.label_smoothing)  # type: ignore[no-untyped-call]
    even = len(labels) // 2 * 2
    with global_states_lent():
        np.random.seed(np.random.SeedSequence(key).generate_state(4))  # noqa: NPY002
        mixed, soft_labels = mixer(images[:even].clone(), labels[:even])
    return mixed, soft_labels
