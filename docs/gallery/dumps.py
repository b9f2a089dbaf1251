"""
Features in a file
==================

A dump holds features of one or two networks in HDF5: written once, read by minibatch by every analysis, and by any
other HDF5 tool.
"""

import tempfile
from pathlib import Path

import h5py
import matplotlib.pyplot as plt
import torch

from analyses.cka import files_cka
from kdprobe.data import evaluation_batches, load_data
from kdprobe.features import Dump, FeatureStore, write_dump
from kdprobe.models import create

torch.manual_seed(0)
vit = {"patch_size": 4, "embed_dim": 48, "depth": 4, "num_heads": 4}
teacher = create("vit_tiny_patch16_224", n_classes=10, image_size=16, args=vit)
student = create("resnet8", n_classes=10, image_size=16)

# %%
# One pass over the test images. `reduce="gap"` keeps means over positions.
path = Path(tempfile.mkdtemp(), "features.h5")
loader = list(evaluation_batches(load_data("digits", image_size=16).test, batch_size=64))
networks = {"teacher": teacher, "student": student}
write_dump(Dump.over(networks, loader, reduce="gap", data="digits"), path)

# %%
# What is in it, by plain h5py:
with h5py.File(path) as file:
    file.visititems(lambda name, one: print(name, one.shape) if isinstance(one, h5py.Dataset) else None)

# %%
# Analyses take the file in place of the networks.
print(files_cka([path]).summary())

# %%
# `FeatureStore` checks what it reads: checksums of every row, and that the dump is whole.
with FeatureStore(path) as store:
    features = store.read("student", "layer3")
    labels = store.labels
centred = features - features.mean(0)
plane = centred @ torch.linalg.svd(centred, full_matrices=False).Vh[:2].T
figure, axes = plt.subplots(figsize=(5, 4), layout="constrained")
points = axes.scatter(*plane.T, c=labels, cmap="tab10", s=12, vmin=-0.5, vmax=9.5)
axes.set(xlabel="first principal component", ylabel="second", title="layer3 of an untrained ResNet8")
figure.colorbar(points, label="digit", ticks=range(10))
