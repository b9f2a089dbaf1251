"""At which side training images are made when two networks of different input sizes see the same view.

Crop, flip and colours are made once; each network then resizes the view to its own size
(`kdprobe.models.ModelInfo.prepare`). The view is as large as the student's input, or as the larger of both where the
images hold more than the student sees, so that a larger network is never shown upsampled images where there is more to
see. Evaluation images stay at the student's size.
"""

from contextlib import suppress
from dataclasses import replace
from functools import partial
from statistics import median

from torch import Tensor

from kdprobe.data.dataset import DataSet, Pictures, Split
from kdprobe.data.decode import image_side, in_turn
from kdprobe.errors import DataError

#: pictures whose sides are looked at, at equal distances
LOOKED_AT = 1024


def shared_view(data: DataSet, teacher_size: int) -> DataSet:
    """A data set whose training images are made for a student and for a teacher of another input size.

    Args:
        data: made for the student.
        teacher_size: side of the teacher's input in pixels.
    """
    own = data.image_size
    if teacher_size <= own or held_side(data.train) <= own:
        return data
    return replace(data, train=replace(data.train, image_size=teacher_size, student_size=own))


def held_side(split: Split) -> float:
    """The side of what the images hold when nothing is varied, in pixels.

    Of images in memory it is that at which they are stored, of pictures the median over at most 1,024 of them; 0 where
    not one of these can be read, which decoding reports.
    """
    pictures = split.images
    if isinstance(pictures, Tensor):
        return pictures.shape[-1]
    places = range(0, len(pictures), -(-len(pictures) // LOOKED_AT))
    sides = [*filter(None, in_turn(pictures, partial(_side, pictures), places))]
    return pictures.crop_fraction * median(sides or [0])


def _side(pictures: Pictures, place: int) -> int:
    with suppress(DataError):
        return image_side(pictures, place)
    return 0
