"""
Measures of similarity, and what chance gives them
==================================================

Two layers that have nothing in common should have a similarity of 0. Of several measures they have not: the wider the
layers and the fewer the images, the more alike they look.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch

from analyses.similarity import distance_correlation, mutual_knn, procrustes, rsa, svcca

torch.manual_seed(0)
measures = {
    "SVCCA": svcca,
    "Procrustes": procrustes,
    "RSA": rsa,
    "distance correlation": distance_correlation,
    "mutual 10-NN": mutual_knn,
}
widths = [4, 16, 64, 128]

# %%
# Independent Gaussian layers, 300 images.
chance = {name: [] for name in measures}
for width in widths:
    x, y = torch.randn(300, width, dtype=torch.float64), torch.randn(300, width, dtype=torch.float64)
    for name, measure in measures.items():
        chance[name].append(measure(x, y))
for name, values in chance.items():
    print(f"{name:<21}", np.round(values, 2))

# %%
# RSA, distance correlation and nearest neighbours stay where they are. SVCCA and Procrustes need their null beside
# them: `--calibrate` on the command line, `calibrate` in Python.
figure, axes = plt.subplots(figsize=(5, 3.4), layout="constrained")
for name, values in chance.items():
    axes.semilogx(widths, values, marker="o", base=2, label=name)
axes.axhline(0, color="grey", linewidth=0.8)
axes.set(xlabel="width of both layers", ylabel="similarity of independent layers")
axes.legend(fontsize=8)
