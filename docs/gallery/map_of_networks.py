"""
A map of many networks
======================

Do networks that learnt in the same way end up alike, or those that began alike? Eight networks, trained by two methods
from the same four seeds, their teacher, and the similarity of all pairs.
"""

import tempfile
from pathlib import Path

import figures
import kdprobe
from analyses.map import find_members, measure_map

# %%
# Short trainings: vanilla KD beside RKD, which compares distances between images.
folder = Path(tempfile.mkdtemp())
words = ["data.image_size=8", "data.augment.crop=none", "training.batch_size=32", "training.epochs=4"]
short = ["--quiet", *(part for word in words for part in ("--set", word))]


def train(name, *words):
    """Train a network; the folder of its run."""
    assert kdprobe.main(["train", "digits/methods", "--out", f"{folder}/{name}", *short, *words]) == 0
    return f"{folder}/{name}"


teacher = train("teacher")
for method in ("kd", "rkd"):
    for seed in range(4):
        chosen = ["--method", method, "--teacher", teacher, "--seed", str(seed), "--set", "data.per_class=40"]
        train(f"students/{method}-{seed}", *chosen)

# %%
# The command is `kdprobe map students --out map`; here in Python. The teacher that the runs name is shown beside them.
result = measure_map(find_members([f"{folder}/students"]), folder / "map", slots=1)

# %%
# Which grouping explains the distances? Each is tested by permutation inside the groups of the other.
for grouping in result.facts["groupings"]:
    print(
        f"{grouping['of']} explain {100 * grouping['share']:.0f} % of the squared distances, "
        f"p = {grouping['p_value']:.3f} (at best {grouping['smallest_p']:.3f})"
    )

# %%
# Above the matrix of all pairs and its tree, below the map: the nearer two points, the more alike two networks are.
figure = figures.draw(result)
