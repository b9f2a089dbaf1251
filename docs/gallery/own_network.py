"""
A network of one's own
======================

Any `torch.nn.Module` that takes a batch of images will do. kdprobe watches one forward pass to find stages and
classifier; `describe` says what cannot be seen.
"""

import matplotlib.pyplot as plt
import torch
from torch import nn

import kdprobe
from kdprobe.data import evaluation_batches, load_data
from kdprobe.models import model_info
from kdprobe.models.stages import measure


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.early = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU())
        self.late = nn.Sequential(nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.ReLU())
        self.fc = nn.Linear(16, 10)

    def forward(self, images):
        return self.fc(self.late(self.early(images)).mean((2, 3)))


torch.manual_seed(0)
model = kdprobe.describe(Net().eval(), image_size=16, stages=["early", "late"], mean=[0.5] * 3, std=[0.25] * 3)

# %%
# What methods and analyses see of it:
shapes = measure(model)
for name, size in zip(shapes.names, shapes.maps, strict=True):
    print(f"{name}: channels, height, width {size}")
print(f"pooled width {shapes.width}, {shapes.n_classes} classes")

# %%
# `capture` gives the outputs of chosen layers while the block lasts, and leaves no hook behind.
batch = next(evaluation_batches(load_data("digits", image_size=16).test, batch_size=4))
with torch.no_grad(), kdprobe.capture(model, "stages", reduce="whole") as features:
    model(model_info(model).normalise(batch.images))
    maps = dict(features)

# %%
# One digit, and the first seven channels of both stages.
figure, rows = plt.subplots(2, 8, figsize=(8, 2.2), layout="constrained")
for row, (name, values) in zip(rows, maps.items(), strict=True):
    for axes, image in zip(row, [batch.images[0].float().mean(0), *values[0][:7]], strict=True):
        axes.imshow(image, cmap="grey")
        axes.set(xticks=[], yticks=[])
    row[0].set_ylabel(name)
