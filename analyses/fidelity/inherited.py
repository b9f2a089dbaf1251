"""The images that students get wrong as their teacher does, more often than controls."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from numpy import ndarray
from torch import Tensor

from analyses.evaluation.predictions import Judged
from analyses.knowledge.examples import pixels
from kdprobe.devices import exact_float32
from kdprobe.provenance import provenance
from kdprobe.results import Result


@exact_float32
def inherited_errors(
    fidelity: Result, teacher: Judged, students: Sequence[Judged], *, n_images: int = 8
) -> Result | None:
    """The test images on which each method of students makes a mistake of the teacher's more often than controls.

    Of an image that the teacher gets wrong, the share of a method's networks with the same answer is compared with the
    share of the controls that give it too. Those come first where the difference is largest, and among equal ones those
    of whose wrong answer the students are surest.

    Args:
        fidelity: what `measure_fidelity` found.
        teacher: the network that it was measured for.
        students: those, in their order.
        n_images: of each method, at most.

    Returns:
        a result of kind "inherited-errors" for N images: `images` [N, h, w, 3] uint8; `index`, `labels`, `answers` (the
        wrong one) and `group` [N]; `students` and `controls` [N], the shares of networks that give it (NaN without
        controls); `confidence` [N], the students' mean probability of it; `counts` [groups, 2], the mean numbers of
        mistakes that a network of the method, and a control, has in common with the teacher. None where there is
        no such image.
    """
    arrays, facts = fidelity.arrays, fidelity.facts
    answers, wrong = arrays["teacher_predictions"], arrays["teacher_predictions"] != arrays["targets"]
    same = (arrays["predictions"] == answers) & wrong
    roles, of_group = np.array(facts["roles"]), np.array(facts["of_group"])
    controls = same[roles == "control"]
    of_controls = controls.mean(0) if len(controls) else np.full(len(wrong), np.nan)
    groups = [name for name, role in zip(facts["groups"], facts["group_roles"], strict=True) if role == "student"]
    picked, shares, sure, counts = [], [], [], []
    for name in groups:
        members = np.flatnonzero((roles == "student") & (of_group == name))
        share = same[members].mean(0)
        probability = np.mean([_probability(students[int(place)].logits, answers) for place in members], axis=0)
        above = share - np.nan_to_num(of_controls)
        order = np.lexsort((-probability, -above))
        picked.append(order[above[order] > 0][:n_images])
        shares.append(share)
        sure.append(probability)
        counts.append((share.sum(), of_controls.sum()))
    index = np.concatenate(picked)
    if not len(index):
        return None
    group = np.repeat(np.arange(len(groups)), [len(one) for one in picked])
    found = {
        "images": pixels(teacher.data.test, torch.from_numpy(index)),
        "index": index,
        "group": group,
        "labels": arrays["targets"][index],
        "answers": answers[index],
        "students": np.stack(shares)[group, index],
        "controls": of_controls[index],
        "confidence": np.stack(sure)[group, index],
        "counts": np.array(counts),
    }
    about = {key: facts[key] for key in ("classes", "teacher", "data")}
    about |= {"groups": groups, "n_controls": len(controls), "n_teacher_wrong": int(wrong.sum())}
    origin = {key: fidelity.provenance[key] for key in ("data", "teacher", "models")}
    return Result("inherited-errors", found, about, provenance(**origin))


def inherited_table(result: Result) -> pd.DataFrame:
    """One row for each image."""
    arrays, classes = result.arrays, np.array(result.facts["classes"])
    columns = {"method": np.array(result.facts["groups"])[arrays["group"]], "index": arrays["index"]}
    columns |= {"true_class": classes[arrays["labels"]], "answer": classes[arrays["answers"]]}
    return pd.DataFrame(columns | {key: arrays[key] for key in ("students", "controls", "confidence")})


def _probability(logits: Tensor, answers: ndarray) -> ndarray:
    """What a network gives an image's class in `answers`."""
    shares = logits.double().softmax(1)
    return np.asarray(shares.gather(1, torch.from_numpy(answers)[:, None])[:, 0].numpy())
