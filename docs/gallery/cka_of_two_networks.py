"""
CKA of two networks
===================

How alike are the stages of two networks? `cka` shows minibatches of images to both and compares every layer of one
with every layer of the other.
"""

import torch

import figures
from analyses.cka import cka
from kdprobe.data import evaluation_batches, load_data
from kdprobe.models import create

# %%
# Two networks with random weights, one a Vision Transformer and one a ResNet. Yours come from
# `kdprobe.load("runs/vit")`, or are any `torch.nn.Module`.
torch.manual_seed(0)
vit = {"patch_size": 4, "embed_dim": 48, "depth": 4, "num_heads": 4}
teacher = create("vit_tiny_patch16_224", n_classes=10, image_size=16, args=vit)
student = create("resnet8", n_classes=10, image_size=16)

# %%
# CKA is 1 for features that are equal up to rotation and scale. Its interval is a jackknife over minibatches.
digits = load_data("digits", image_size=16)
result = cka(teacher, student, evaluation_batches(digits.test, batch_size=64), reduce="gap")
print(result.summary())

# %%
# Even untrained networks are alike: both see the same pixels. What a similarity means is a question of what it is
# compared with; see the next example.
figure = figures.draw(result.to_result()).figure
