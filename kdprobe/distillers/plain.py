"""Plain training on labels: for teachers, and the baseline of every comparison."""

from typing import ClassVar

from kdprobe.config import Section
from kdprobe.distillers.base import Method


class PlainOptions(Section):
    """Plain training has no options of its own."""


class Plain(Method):
    """Cross entropy with the labels, nothing else."""

    Options: ClassVar[type[Section]] = PlainOptions
    uses_teacher = False
    student_needs = teacher_needs = ()
