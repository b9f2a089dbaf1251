"""
Where a student errs
====================

Accuracy is one number. Recall by class, the unweighted average recall (UAR), the confusion matrix and the calibration
error say where it comes from, each with a 95 % interval.
"""

import tempfile

import figures
import kdprobe
from analyses.evaluation import evaluate, judge

# %%
# A student that saw five images of each digit, for a few seconds.
run = tempfile.mkdtemp() + "/few"
words = ["data.image_size=8", "data.augment.crop=none", "data.per_class=5", "training.epochs=15"]
words += ["training.batch_size=10"]
settings = [part for word in words for part in ("--set", word)]
assert kdprobe.main(["train", "digits/resnet8", "--out", run, "--quiet", *settings]) == 0

# %%
# The same as `kdprobe evaluate --checkpoint runs/few`.
result = evaluate(judge([run]))
for name in ("accuracy", "uar", "ece"):
    value, low, high = 100 * result.arrays[name][0]
    print(f"{name:<8} {value:5.1f} % [{low:.1f}, {high:.1f}]")

# %%
# Rows are true classes, columns what they were taken for.
figure = figures.draw(result)
