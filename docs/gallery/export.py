"""
A student for other programs
============================

`export` writes a network for ONNX Runtime, torch.export or timm, and runs what it wrote beside the network before it
keeps the file.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import onnxruntime
import torch

import kdprobe
from kdprobe.data import load_data
from kdprobe.models import create, model_info, save

# %%
# The command is `kdprobe export student.safetensors --format onnx --data digits --out student.onnx`; here in Python.
torch.manual_seed(0)
folder = Path(tempfile.mkdtemp())
model = create("resnet8", n_classes=10, image_size=16).eval()
save(model, folder / "student.safetensors")
written = folder / "student.onnx"
words = ["--format", "onnx", "--data", "digits", "--out", str(written), "--quiet"]
assert kdprobe.main(["export", str(folder / "student.safetensors"), *words]) == 0

# %%
# Normalisation is part of the file: it takes images in [0, 1].
images = load_data("digits", image_size=16).test.images[:200] / 255
session = onnxruntime.InferenceSession(written)
(given,) = session.get_inputs()
(theirs,) = session.run(None, {given.name: images.numpy()})
with torch.no_grad():
    ours = model(model_info(model).normalise(images)).numpy()
print(f"input {given.name} {given.shape}; largest difference {np.abs(ours - theirs).max():.1e}")

# %%
figure, axes = plt.subplots(figsize=(4, 4), layout="constrained")
axes.plot(ours.ravel(), theirs.ravel(), ".", markersize=3)
axes.axline((0, 0), slope=1, color="grey", linewidth=0.8)
axes.set(xlabel="logits in PyTorch", ylabel="logits in ONNX Runtime", aspect="equal")
