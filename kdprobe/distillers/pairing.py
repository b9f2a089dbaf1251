"""Which stage of the student learns from which stage of the teacher."""

from collections.abc import Sequence
from itertools import takewhile
from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from kdprobe.distillers.base import needs_maps
from kdprobe.errors import ModelError
from kdprobe.models.stages import Shapes

#: beginnings of the names of a stem's output
STEM = ("act", "bn", "conv", "norm", "stem")
#: stages of the usual networks, without the stem
N_STAGES = 4

Pairs = tuple[tuple[int, int], ...]


def levels(shapes: Shapes) -> tuple[int, ...]:
    """The stages that distillation looks at, shallow to deep: not the stem, at most the four deepest of a CNN.

    Of a transformer these are all blocks, which `spread` thins out; of a described network all stages that are named.
    """
    found = tuple(range(len(shapes.maps)))
    if shapes.described:
        return found
    if _first_name(shapes.names).startswith(STEM):
        found = found[1:]
    return found if shapes.tokens is not None else found[-N_STAGES:]


def _first_name(names: Sequence[str]) -> str:
    """The name of the first stage, without the modules around all of them, such as `backbone`."""
    words = [name.split(".") for name in names]
    around = list(takewhile(lambda level: len(set(level)) == 1, zip(*words, strict=False))) if len(words) > 1 else []
    return ".".join(words[0][len(around) :]) if words else ""


def spread(stages: Sequence[int], count: int) -> tuple[int, ...]:
    """This many of the stages at equal distances, the deepest among them."""
    return tuple(stages[round((place + 1) / count * len(stages)) - 1] for place in range(count))


def stage_pairs(method: str, student: Shapes, teacher: Shapes, chosen: Pairs | None = None) -> Pairs:
    """(student stage, teacher stage), shallow to deep, at the same relative depths.

    Args:
        method: its name, for messages.
        student: sizes of the student's stages.
        teacher: sizes of the teacher's stages.
        chosen: pairs of stage numbers to use instead.

    Raises:
        ModelError: if a network has no stages, or not the chosen ones.
    """
    needs_maps(method, student, teacher)
    if chosen is not None:
        for pair in chosen:
            check_stage(method, pair[0], student)
            check_stage(method, pair[1], teacher)
        return chosen
    ours, theirs = levels(student), levels(teacher)
    count = min(len(ours), len(theirs), N_STAGES)
    return tuple(zip(spread(ours, count), spread(theirs, count), strict=True))


def at_equal_depth(method: str, stages: Sequence[int], student: Shapes, teacher: Shapes) -> Pairs:
    """(student stage, teacher stage) for chosen stages of the student, counted as Python does.

    The teacher's stage is the one at the same relative depth, of all of its stages.

    Raises:
        ModelError: if a network has no stages, or the student not the chosen ones.
    """
    needs_maps(method, student, teacher)
    pairs = []
    for stage in stages:
        check_stage(method, stage, student)
        place = stage % len(student.maps)
        other = round((place + 1) / len(student.maps) * len(teacher.maps)) - 1
        pairs.append((place, max(other, 0)))
    return tuple(pairs)


def check_stage(method: str, stage: int, shapes: Shapes) -> None:
    """Check that a network has a stage of this number, counted as Python does.

    Raises:
        ModelError: naming its stages.
    """
    if not -len(shapes.maps) <= stage < len(shapes.maps):
        raise ModelError(f"{method}: there is no stage {stage}, {shapes.model} has stages 0 to {len(shapes.maps) - 1}")


def resized(maps: Tensor, size: tuple[int, int], how: Literal["auto", "pool", "bilinear"] = "auto") -> Tensor:
    """Maps [B, c, h, w] on another grid.

    Args:
        maps: a stage's.
        size: (h, w) of the grid.
        how: `pool` averages, `bilinear` interpolates, `auto` averages maps that are larger on both sides.
    """
    if (maps.shape[2], maps.shape[3]) == tuple(size):
        return maps
    if how == "pool" or (how == "auto" and maps.shape[2] >= size[0] and maps.shape[3] >= size[1]):
        return F.adaptive_avg_pool2d(maps, size)
    return F.interpolate(maps, size, mode="bilinear", align_corners=False)
