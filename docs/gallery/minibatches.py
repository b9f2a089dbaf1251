"""
Why minibatches do not matter
=============================

All images at once do not fit into memory, so HSIC is averaged over minibatches. With the biased estimator the result
depends on their size; with the unbiased one it does not.
"""

import matplotlib.pyplot as plt
import torch

from analyses.cka import cka

# %%
# Two layers that share 8 of their 64 directions; 2,048 samples tell what the CKA of them all is.
torch.manual_seed(0)
shared = torch.randn(2048, 8)
features = torch.cat([shared, torch.randn(2048, 56), shared, torch.randn(2048, 56)], 1).float()


class Part(torch.nn.Module):
    """A network of one layer, which looks at its part of the features."""

    def __init__(self, start):
        super().__init__()
        self.part = torch.nn.Linear(128, 64, bias=False)
        self.part.weight.data = torch.eye(128)[start : start + 64]

    def forward(self, batch):
        return self.part(batch)


teacher, student, sizes = Part(0), Part(64), [4, 8, 16, 32, 64, 128, 256]
found = {
    estimator: [
        cka(
            teacher,
            student,
            list(features.split(size)),
            teacher_layers=["part"],
            student_layers=["part"],
            estimator=estimator,
        )
        for size in sizes
    ]
    for estimator in ("biased", "unbiased")
}

# %%
# Bars are 95 % intervals over minibatches. Those of the biased estimator are narrow, and around the wrong value.
figure, axes = plt.subplots(figsize=(5.5, 3.4), layout="constrained")
for estimator, marker in (("biased", "o"), ("unbiased", "s")):
    values, low, high = (
        [float(getattr(result, end)[0, 0]) for result in found[estimator]] for end in ("matrix", "low", "high")
    )
    below, above = ([abs(a - b) for a, b in zip(values, end, strict=True)] for end in (low, high))
    axes.errorbar(sizes, values, [below, above], marker=marker, capsize=3, label=estimator)
axes.set_xscale("log", base=2)
axes.axhline(8 / 64, color="grey", linestyle="--", label="truth")
axes.set(xlabel="samples in a minibatch", ylabel="CKA")
axes.legend()
