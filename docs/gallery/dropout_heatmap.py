"""
What the dropout rates do
=========================

DropKD drops features of teacher and student, each at a rate of its own. A sweep trains a grid of both rates;
`kdprobe sweep-dropout` does it on one machine or on a cluster. Here the students are made up, with a known best.
"""

import numpy as np

import figures
from kdprobe.results import Result

# %%
# Three seeds of each cell: an accuracy that is best at rates of 0.5, and noise of one point as between seeds.
rates = np.array([0.1, 0.3, 0.5, 0.7, 0.9])
teacher, student = np.meshgrid(rates, rates, indexing="ij")
truth = 0.9 - 0.06 * (teacher - 0.5) ** 2 - 0.12 * (student - 0.5) ** 2
accuracy = truth[..., None] + 0.01 * np.random.default_rng(0).standard_normal((5, 5, 3))

# %%
# `kdprobe dropout SWEEP` makes this result of a finished or unfinished sweep, with tests of neighbouring cells.
facts = {
    "kind": "feature",
    "rates_teacher": rates.tolist(),
    "rates_student": rates.tolist(),
    "seeds": [0, 1, 2],
    "student": "resnet8",
    "data": "made up",
}
result = Result("dropout-sweep", {"accuracy": accuracy}, facts, {"sweep": "made up", "config": {}})

# %%
# The best cell of 25 is too good by chance alone: its mean is the largest of 25 noisy ones.
best = np.unravel_index(accuracy.mean(2).argmax(), truth.shape)
print(f"best cell: rates {rates[best[0]]:.1f} and {rates[best[1]]:.1f}, {100 * accuracy.mean(2)[best]:.2f} %")
print(f"its truth: {100 * truth[best]:.2f} %; the best truth: {100 * truth.max():.2f} %")
figure = figures.draw(result).figure
