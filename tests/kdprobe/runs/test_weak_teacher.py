"""A teacher that knows less than its students, in words."""

import math

import numpy as np
import pytest

from kdprobe.runs.weak_teacher import weak_teacher

ACCURACY = np.array([[0.606, 0.608], [0.71, math.nan], [math.nan, math.nan]])
METHODS = {"none": "plain", "kd, lr=0.1": "kd", "at": "at"}


@pytest.mark.parametrize(
    ("methods", "teacher", "remark"),
    [
        (METHODS, 0.176, "the teacher (17.6 %) is less accurate than none (60.7 %)"),
        (METHODS, 0.65, None),  # a student that is better than its teacher is what distillation may give
        (METHODS | {"none": "rkd"}, 0.65, "the teacher (65.0 %) is less accurate than kd, lr=0.1 (71.0 %)"),
        (METHODS | {"none": "rkd"}, 0.71, None),
        (METHODS, None, None),
    ],
)
def test_a_weak_teacher_is_told_beside_plain_training_or_the_best(methods, teacher, remark):
    assert weak_teacher(methods, ACCURACY, teacher) == remark


def test_without_any_accuracy_nothing_is_known():
    assert weak_teacher(METHODS, np.full((3, 2), math.nan), 0.1) is None
