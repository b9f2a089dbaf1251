"""Discriminators between the features of teacher and student, and their losses without a second optimizer."""

import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call


def token_discriminator(width: int) -> nn.Sequential:
    """Preset `paper`: three linear layers on a mean token [B, d] -> logit [B, 1]."""
    return nn.Sequential(
        nn.Linear(width, 512), nn.LeakyReLU(0.2), nn.Linear(512, 256), nn.LeakyReLU(0.2), nn.Linear(256, 1)
    )


def score_discriminator() -> nn.Sequential:
    """Preset `code`: a PatchGAN on a score map [B, 1, n, n] of any size -> logit [B, 1], averaged over its patches.

    Three halvings from 8 filters on, as the authors', each padded by two so that small maps do not vanish.
    """
    layers: list[nn.Module] = [nn.Conv2d(1, 8, 4, stride=2, padding=2), nn.LeakyReLU(0.2)]
    for channels, stride in ((8, 2), (16, 2), (32, 1)):
        conv = nn.Conv2d(channels, 2 * channels, 4, stride=stride, padding=2, bias=False)
        layers += [conv, nn.BatchNorm2d(2 * channels), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Conv2d(64, 1, 4, padding=2), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def adversarial_terms(
    discriminator: nn.Module, real: Tensor, fake: Tensor, *, saturating: bool, dead: bool = False
) -> tuple[Tensor, Tensor]:
    """The generator's and the discriminator's loss of one simultaneous update.

    The generator's passes through constant weights, the discriminator's starts from constant features, so that one
    backward pass trains each with its own loss alone.

    Args:
        discriminator: turns features into logits [B, 1].
        real: the teacher's features.
        fake: the student's.
        saturating: the generator minimises log(1 - D), as printed, rather than -log D.
        dead: cut the generator's gradient off, as the authors' readable code does.
    """
    frozen = {name: value.detach() for name, value in discriminator.named_parameters()}
    shown = fake.detach() if dead else fake
    verdict = functional_call(discriminator, frozen, (shown,)).float()
    generator = -F.softplus(verdict).mean() if saturating else F.softplus(-verdict).mean()
    judged = [discriminator(features.detach()).float() for features in (real, fake)]
    return generator, F.softplus(-judged[0]).mean() + F.softplus(judged[1]).mean()
