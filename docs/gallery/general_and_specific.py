"""
General and specific knowledge, stage by stage
==============================================

How much of what one network represents can the other represent as well? The share is of the features' variance, and
unbiased for the population of images.
"""

import torch

import figures
from analyses.knowledge import decompose, decompose_layers
from analyses.paired_features import loader_features
from kdprobe.data import evaluation_batches, load_data
from kdprobe.models import create

# %%
# First with features whose truth is known: the networks share 8 directions, and the teacher has 24 more.
torch.manual_seed(0)
shared = torch.randn(1000, 8)
teacher, student = torch.cat([shared, torch.randn(1000, 24)], 1), shared @ torch.randn(8, 8)
found = decompose(teacher, student)
for side, share in found.fractions.items():
    if side.endswith("general"):
        print(f"{side}: {share.value:.3f} [{share.low:.3f}, {share.high:.3f}]")

# %%
# All of the student lies within its teacher, of which it has a quarter. Now stage by stage of two networks:
vit = {"patch_size": 4, "embed_dim": 48, "depth": 4, "num_heads": 4}
teacher = create("vit_tiny_patch16_224", n_classes=10, image_size=16, args=vit)
student = create("resnet8", n_classes=10, image_size=16)
digits = load_data("digits", image_size=16)
features = loader_features(teacher, student, evaluation_batches(digits.train, batch_size=128), data="digits")
knowledge, _ = decompose_layers(features, probes=False)
figure = figures.draw(knowledge)
