"""
One method in a loop of one's own
=================================

`kdprobe.Distillation` is a student, its frozen teacher and a method in one module: images and labels in, a loss out.
"""

import matplotlib.pyplot as plt
import torch

import kdprobe
from kdprobe.data import load_data
from kdprobe.models import create

digits = load_data("digits", image_size=8).train
images, labels = digits.images / 255, digits.labels


def train(student, teacher, method, n_epochs, **options):
    """The terms of the loss, epoch by epoch."""
    distillation = kdprobe.Distillation(student, teacher, method, n_epochs=n_epochs, **options)
    optimizer = torch.optim.SGD(distillation.parameters(), lr=0.05, momentum=0.9)
    history = []
    for epoch in range(n_epochs):
        for some in torch.randperm(len(images)).split(64):
            out = distillation(images[some], labels[some], epoch=epoch)
            optimizer.zero_grad()
            out.loss.backward()
            optimizer.step()
        history.append({name: term.item() for name, term in out.terms.items()})
    return history


# %%
# First a teacher, on labels alone; then a student by DropKD, which adds terms of its own.
torch.manual_seed(0)
teacher, student = (create("resnet8", n_classes=10, image_size=8) for _ in range(2))
train(teacher, None, "plain", n_epochs=4)
history = train(student, teacher, "dropkd", n_epochs=6, dim=32)
print({name: round(value, 3) for name, value in history[-1].items()})

# %%
figure, axes = plt.subplots(figsize=(7, 3.2), layout="constrained")
for name in history[0]:
    values = [terms[name] or float("nan") for terms in history]  # 0 before the warm-up
    axes.semilogy(range(1, 7), values, marker="o", label=name)
axes.set(xlabel="epoch", ylabel="term of the loss, weighted")
figure.legend(loc="outside right upper", fontsize=8)
