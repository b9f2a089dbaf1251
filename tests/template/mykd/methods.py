"""A method: loss functions above, the class with its options below."""

import torch.nn.functional as F
from pydantic import Field
from torch import nn

from kdprobe.config import Section
from kdprobe.distillers import Method


class MyKDOptions(Section):
    """Options, with defaults and ranges: keys under `method:`."""

    ce_weight: float = Field(1.0, ge=0)
    weight: float = Field(0.5, ge=0)


class MyKD(Method):
    """The teacher's pooled features, predicted from the student's by a linear layer."""

    Options = MyKDOptions
    reference = "You 2027"
    student_needs = teacher_needs = ("pooled",)

    def __init__(self, options, student, teacher):
        super().__init__(options, student, teacher)
        self.predict = nn.Linear(student.width, teacher.width)

    def forward(self, student, teacher, labels, progress):
        """One term, `predicted`."""
        loss = F.mse_loss(self.predict(student.pooled).float(), teacher.pooled.float())
        return {"predicted": self.options.weight * loss}
