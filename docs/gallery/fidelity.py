"""
Was the teacher's function learnt?
==================================

Two networks that are right 95 % of the time agree often, whoever taught them. Fidelity looks at the images that the
*teacher gets wrong*, and sets students beside controls that never saw it.
"""

import tempfile

import figures
import kdprobe
from analyses.evaluation import judge
from analyses.fidelity import measure_fidelity

# %%
# A teacher that learnt from ten images of each class makes mistakes. Three students learn its answers on other images,
# and three controls learn the labels of these images.
runs = tempfile.mkdtemp()
words = ["data.image_size=8", "data.augment.crop=none", "data.seed=1", "training.batch_size=32"]
short = ["--quiet", *(part for word in words for part in ("--set", word))]


def train(recipe, name, *words):
    assert kdprobe.main(["train", recipe, "--out", f"{runs}/{name}", *short, *words]) == 0
    return f"{runs}/{name}"


few = ["--set", "data.per_class=10", "--set", "training.epochs=12"]
teacher = train("digits/resnet8", "teacher", *few, "--set", "data.seed=0")
more = ["--set", "data.per_class=50", "--set", "training.epochs=4"]
answers = ["--teacher", teacher, "--set", "method.kd_weight=1", "--set", "method.ce_weight=0"]
students = [train("digits/resnet8-kd", f"kd-{seed}", *more, *answers, "--seed", str(seed)) for seed in range(3)]
controls = [train("digits/resnet8", f"plain-{seed}", *more, "--seed", str(seed)) for seed in range(3)]

# %%
# The first quantity to read is *agreement where the teacher is wrong*: how many of its mistakes a student makes.
judged = judge([teacher, *students, *controls])
result = measure_fidelity(judged[0], judged[1:4], judged[4:])
figure = figures.draw(result)
