"""One view for two networks of different input sizes: same crop and flip, each at its own size, with real detail."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from kdprobe.config import AugmentConfig
from kdprobe.data import Split, load_data, training_batches
from kdprobe.data.views import held_side, shared_view
from kdprobe.models import create, model_info
from tests.tiny import digits

SIDE, STUDENT, TEACHER = 128, 32, 96


def save_striped(path: Path, *, side: int, seed: int) -> None:
    """An image whose left half is striped every other pixel, and whose right half has one colour."""
    colour = np.random.default_rng(seed).integers(50, 200, 3)
    pixels = np.broadcast_to(colour, (side, side, 3)).copy()
    pixels[:, : side // 2 : 2] = 0
    pixels[:, 1 : side // 2 : 2] = 255
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)


def folder_of(root: Path, *sides: int) -> Path:
    for place, side in enumerate(sides):
        for split in ("train", "test"):
            save_striped(root / split / "ab"[place % 2] / f"{place}.png", side=side, seed=place)
    return root


@pytest.mark.parametrize(
    ("sides", "teacher_size", "view"),
    [
        ((SIDE,) * 6, TEACHER, TEACHER),
        ((SIDE,) * 6, 224, 224),  # still more than the student sees
        ((SIDE,) * 6, STUDENT, STUDENT),
        ((SIDE,) * 6, 16, STUDENT),
        ((STUDENT,) * 6, TEACHER, STUDENT),  # there is no more to see
        ((STUDENT, STUDENT, STUDENT, STUDENT, SIDE, SIDE), TEACHER, STUDENT),
        ((STUDENT, STUDENT, SIDE, SIDE, SIDE, SIDE), TEACHER, TEACHER),
    ],
)
def test_the_view_is_larger_where_most_files_hold_more(tmp_path, sides, teacher_size, view):
    data = load_data(f"folder:{folder_of(tmp_path, *sides)}", image_size=STUDENT, storage="files")
    seen = shared_view(data, teacher_size)
    assert seen.train.image_size == view
    assert (seen.train.student_size or view) == STUDENT
    assert (seen.test.image_size, seen.image_size) == (STUDENT, STUDENT)


def test_images_in_memory_hold_what_they_are_stored_at():
    data = digits(16)
    assert shared_view(data, 64).train.image_size == 16
    large = replace(data, train=replace(data.train, images=digits(48).train.images))
    assert held_side(large.train) == 48
    assert shared_view(large, 64).train.image_size == 64


def test_what_is_never_shown_and_what_cannot_be_read_do_not_count(tmp_path):
    root = folder_of(tmp_path, *(SIDE,) * 4)
    files = load_data(f"folder:{root}", image_size=STUDENT, storage="files").train
    cropped = replace(files, images=replace(files.images, crop_fraction=0.25))
    assert (held_side(files), held_side(cropped)) == (SIDE, SIDE / 4)
    paths = sorted(root.glob("train/*/*.png"))
    for path in paths[:2]:
        path.write_bytes(b"")
    assert held_side(files) == SIDE
    for path in paths:
        path.write_bytes(b"")
    assert held_side(files) == 0


def test_both_networks_see_one_view_the_teacher_in_more_detail(tmp_path):
    data = load_data(f"folder:{folder_of(tmp_path, *(SIDE,) * 8)}", image_size=STUDENT, storage="files")
    seen = shared_view(data, SIDE)
    student = model_info(create("resnet8", n_classes=2, image_size=STUDENT))
    teacher = model_info(create("resnet8", n_classes=2, image_size=SIDE))
    batches = training_batches(seen.train, batch_size=8, augment=AugmentConfig(), seed=0, epoch=0, workers=0)
    images = next(iter(batches)).images
    ours, theirs = student.prepare(images), teacher.prepare(images)
    assert (ours.shape[-1], theirs.shape[-1]) == (STUDENT, SIDE)
    flipped = images[:, 0, SIDE // 2, SIDE // 8 : SIDE // 4].std(1) < 0.1  # the stripes are on the right
    assert 0 < flipped.sum() < len(flipped)
    # the same crop and flip: averaged over squares of its pixels, the teacher's image is the student's
    inside = slice(4, -4)
    coarse = F.interpolate(theirs, (STUDENT, STUDENT), mode="bilinear", antialias=True)
    assert (ours - coarse)[..., inside, inside].abs().max() < 1e-4
    # stripes of one pixel are there for the teacher, and grey for the student, however it might be enlarged
    upright = [torch.where(flipped[:, None, None, None], x.flip(3), x) for x in (theirs, ours)]
    assert upright[0][:, :, SIDE // 2, SIDE // 8 : SIDE // 4].std(2).min() > 1.5
    assert upright[1][:, :, STUDENT // 2, STUDENT // 8 : STUDENT // 4].std(2).max() < 0.3


def test_shifts_are_in_pixels_of_the_student():
    white = Split(torch.full((64, 3, 60, 60), 255, dtype=torch.uint8), torch.arange(64) % 2, 60, student_size=20)
    augment = AugmentConfig(padding=4, flip=False)
    batch = next(iter(training_batches(white, batch_size=64, augment=augment, seed=0, epoch=0, workers=0)))
    borders = (batch.images[:, 0] == 0).all(2).sum(1)  # black rows of each image
    assert borders.max() > 4  # more than the padding in pixels of the view could move it
    assert borders.max() <= 12


def test_a_network_resizes_what_it_is_given_and_leaves_alone_what_fits():
    info = model_info(create("resnet8", n_classes=2, image_size=24))
    images = torch.rand(2, 3, 24, 24)
    assert torch.equal(info.prepare(images), info.normalise(images))
    assert torch.equal(
        info.prepare(images.double()[:, :, :12]),
        info.normalise(F.interpolate(images.double()[:, :, :12], (24, 24), mode="bilinear", antialias=True)),
    )
    halved = model_info(create("resnet8", n_classes=2, image_size=12)).prepare(images)
    assert torch.allclose(
        halved[:, :, 3, 3], info.normalise(images)[:, :, 5:9, 5:9].flatten(2) @ _triangle(), atol=1e-5
    )


def _triangle() -> torch.Tensor:
    """How much the four pixels around the middle of two count, twice as wide as between neighbours."""
    weights = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
    return (weights[:, None] * weights).flatten()
