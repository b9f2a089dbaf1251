"""
A map of many networks
======================

Do networks that learnt in the same way end up alike, or those that began alike? Eight networks, trained by two methods
from the same four seeds, and the similarity of all pairs.
"""

import matplotlib.pyplot as plt
import numpy as np
import torch

import kdprobe
from analyses.cka import minibatch_cka
from analyses.map import chord_distances, permanova, principal_coordinates
from kdprobe.data import load_data
from kdprobe.models import create, model_info

digits = load_data("digits", image_size=8)
images, labels = digits.train.images / 255, digits.train.labels


def train(seed, teacher, method, steps=50):
    torch.manual_seed(seed)
    student = create("resnet8", n_classes=10, image_size=8)
    distillation = kdprobe.Distillation(student, teacher, method)
    optimizer = torch.optim.SGD(distillation.parameters(), lr=0.05, momentum=0.9)
    for _ in range(steps):
        some = torch.randint(len(images), (32,))
        optimizer.zero_grad()
        distillation(images[some], labels[some], epoch=0).loss.backward()
        optimizer.step()
    return student.eval()


@torch.no_grad()
def features(model):
    with kdprobe.capture(model, "layer3", reduce="gap") as found:
        model(model_info(model).normalise(digits.test.images / 255))
    return found["layer3"][:320].reshape(5, 64, -1)


# %%
# Vanilla KD beside RKD, which compares distances between images.
teacher = train(9, None, "plain", steps=200)
methods, seeds = ["kd"] * 4 + ["rkd"] * 4, [0, 1, 2, 3] * 2
found = [features(train(seed, teacher, method)) for method, seed in zip(methods, seeds, strict=True)]
alike = np.array([[minibatch_cka(one, other) for other in found] for one in found])

# %%
# Which grouping explains the distances? `permanova` permutes one of them inside the groups of the other.
distances = chord_distances(alike)
for name, groups, within in (("methods", methods, seeds), ("seeds", seeds, methods)):
    told = permanova(distances, groups, within)
    print(
        f"{name} explain {100 * told.share:.0f} % of the squared distances, "
        f"p = {told.p_value:.3f} (at best {told.smallest_p:.3f})"
    )

# %%
# The nearer two points, the more alike two networks are.
points = principal_coordinates(distances).points
figure, axes = plt.subplots(figsize=(5, 4), layout="constrained")
for method, marker in (("kd", "o"), ("rkd", "s")):
    own = [number for number, name in enumerate(methods) if name == method]
    axes.scatter(points[own, 0], points[own, 1], marker=marker, s=60, label=method)
    for number in own:
        axes.annotate(f"seed {seeds[number]}", points[number], (6, 4), textcoords="offset points")
axes.set_aspect("equal", "datalim")
axes.margins(0.2)
axes.legend()
