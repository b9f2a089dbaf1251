"""Items of datasets of one's own: what is an image, what a label, and what is said of anything else."""

from io import BytesIO
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from kdprobe.data.dataset import ImageItems
from kdprobe.data.decode import decode, image_side, picture
from kdprobe.data.items import Columns, columns_of, item_label
from kdprobe.data.rgb import rgb_of
from kdprobe.errors import DataError

COLOURS = np.random.default_rng(0).integers(0, 256, (6, 4, 3), dtype=np.uint8)
GREY = COLOURS[..., 0]


def truncated() -> Image.Image:
    """A Pillow image that is opened, but whose pixels are not all there."""
    buffer = BytesIO()
    Image.effect_noise((64, 64), 50).save(buffer, "png")
    return Image.open(BytesIO(buffer.getvalue()[:1000]))


@pytest.mark.parametrize(
    "image",
    [
        Image.fromarray(COLOURS),
        COLOURS,
        COLOURS.astype(np.float32) / 255,
        torch.from_numpy(COLOURS).movedim(-1, 0),
        torch.from_numpy(COLOURS).movedim(-1, 0) / 255,
        (torch.from_numpy(COLOURS).movedim(-1, 0).double() / 255).requires_grad_(),
    ],
)
def test_colours_are_the_same_in_every_form(image: object) -> None:
    assert np.array_equal(np.asarray(rgb_of(image, "x")), COLOURS)


@pytest.mark.parametrize(
    "image",
    [
        Image.fromarray(GREY),
        GREY,
        GREY[..., None],
        torch.from_numpy(GREY.copy()),
        torch.from_numpy(GREY.copy())[None],
        GREY / 255,
    ],
)
def test_one_channel_is_grey(image: object) -> None:
    assert np.array_equal(np.asarray(rgb_of(image, "x")), np.stack([GREY] * 3, -1))


def test_half_precision_is_rounded_to_the_nearest_level() -> None:
    levels = torch.arange(256).view(1, 16, 16)
    for dtype in (torch.float16, torch.float32):
        assert np.array_equal(np.asarray(rgb_of((levels / 255).to(dtype), "x"))[..., 0], levels[0].numpy())


@pytest.mark.parametrize(
    ("image", "said"),
    [
        ("cat.png", r"an image of type str, which must be a Pillow image, an array"),
        (np.zeros((3, 6, 4), np.uint8), r"an image of shape \[3, 6, 4\], but an array must be \[h, w\], \[h, w, 1\]"),
        (torch.zeros(6, 4, 3), r"an image of shape \[6, 4, 3\], but a tensor must be \[h, w\], \[1, h, w\] or \[3, h"),
        (torch.zeros(3, 0, 4), r"an image of shape \[3, 0, 4\]"),
        (torch.zeros(2, 4, dtype=torch.int64), r"an image of int64, which must be uint8, or floats from 0 to 1"),
        (torch.tensor([[0.0, torch.nan]]), r"an image with NaN or infinity in it"),
        (np.array([[0.0, np.inf]]), r"an image with NaN or infinity in it"),
        (
            torch.tensor([[-2.25, 1.0]]),
            r"an image of floats from -2\.25 to 1, which must be from 0 to 1: images are stan",
        ),
        (np.array([[0.0, 255.0]]), r"an image of floats from 0 to 255, which must be from 0 to 1"),
    ],
)
def test_what_is_no_image_is_refused(image: object, said: str) -> None:
    with pytest.raises(DataError, match=f"^item 7 of my set has {said}"):
        rgb_of(image, "item 7 of my set")


class Items(list[Any]):
    """A dataset, some of whose items raise an error."""

    def __getitem__(self, number: Any) -> Any:
        found = super().__getitem__(number)
        if isinstance(found, Exception):
            raise found
        return found


def items(*found: Any, column: int | str | None = 0, numbers: list[int] | None = None) -> ImageItems:
    index = torch.tensor(range(len(found)) if numbers is None else numbers)
    return ImageItems(Items(found), index, column, "my set")


def test_an_item_is_decoded_like_a_file() -> None:
    photo = Image.effect_noise((30, 20), 80).convert("RGB")
    pictures = items((photo, 0))
    expected = photo.resize((8, 8), Image.Resampling.BICUBIC, box=(5, 0, 25, 20))
    assert np.array_equal(decode(pictures, 0, image_size=8), np.asarray(expected).transpose(2, 0, 1))
    assert image_side(pictures, 0) == 20


def test_places_are_those_of_the_items_that_were_taken() -> None:
    pictures = items(*([[value]] for value in range(9)), numbers=[8, 2, 5]).take(torch.tensor([2, 0]))
    assert (len(pictures), pictures.name(0), pictures.name(1)) == (2, "item 5 of my set", "item 8 of my set")
    shown = items(*((np.full((1, 1), value, np.uint8), 0) for value in range(9)), numbers=[8, 2, 5])
    assert [np.asarray(picture(shown, place)).max() for place in range(3)] == [8, 2, 5]


@pytest.mark.parametrize(
    ("item", "said"),
    [
        (ValueError("no\nsuch   thing"), r"cannot be read \(ValueError: no such thing\)$"),
        (KeyError(), r"cannot be read \(KeyError\)$"),
        ((truncated(), 0), r"cannot be decoded as an image \(OSError\)$"),
        ((), r"is not like the first item: it has no 0$"),
        ({"image": 1}, r"is not like the first item: it has no 0$"),
    ],
)
def test_whatever_an_item_does_is_said_in_one_line(item: Any, said: str) -> None:
    with pytest.raises(DataError, match=f"^item 0 of my set {said}"):
        picture(items(item), 0)


def test_a_label_is_a_whole_number() -> None:
    for label in (3, np.int64(3), torch.tensor(3), torch.tensor([3]), np.uint8(3)):
        assert item_label((None, label), 1, "x") == 3
    for label in ("cat", 3.0, None, torch.tensor(3.0), torch.tensor([3, 4])):
        with pytest.raises(
            DataError, match=r"^item 0 has the label .*, which must be a whole number: that of its class"
        ):
            item_label((None, label), 1, "item 0")


class Feature:
    def __init__(self, *names: str) -> None:
        if names:
            self.names = list(names)


@pytest.mark.parametrize(
    ("first", "features", "expected"),
    [
        (COLOURS, None, Columns(None, None)),
        ((COLOURS,), None, Columns(0, None)),
        ((COLOURS, 1, "more"), None, Columns(0, 1)),
        ({"image": COLOURS, "label": 1}, None, Columns("image", "label")),
        ({"id": 7, "photo": COLOURS, "target": 1}, None, Columns("photo", "target")),
        ({"mask": GREY, "image": COLOURS, "id": 1}, None, Columns("image", None)),
        ({"img": COLOURS, "kind": 1}, {"img": Feature(), "kind": Feature("a", "b")}, Columns("img", "kind")),
        (
            {"img": COLOURS, "coarse": 1, "label": 1},
            {"coarse": Feature("a"), "label": Feature("b")},
            Columns("img", "label"),
        ),
    ],
)
def test_where_image_and_label_are(first: object, features: object, expected: Columns) -> None:
    dataset = Items()
    dataset.features = features  # type: ignore[attr-defined]
    assert columns_of(dataset, first, "my set") == expected


@pytest.mark.parametrize(
    ("first", "said"),
    [
        (3, r"^an item of my set must be \(image, label\), a mapping of these, or an image, but is of type int$"),
        ({"a": 1, "b": "x"}, r"^items of my set have the keys 'a', 'b', but none holds images$"),
        ({"a": GREY, "b": GREY}, r"have several images, 'a' and 'b'; leave only one of them, or call it 'image'$"),
        (
            {"image": GREY, "fine": 1, "coarse": 0},
            r"have several labels, 'fine' and 'coarse'; leave only one of them, or call it 'label'$",
        ),
    ],
)
def test_what_cannot_be_known_of_an_item_is_said(first: object, said: str) -> None:
    dataset = Items()
    dataset.features = {"fine": Feature("a"), "coarse": Feature("b")}  # type: ignore[attr-defined]
    with pytest.raises(DataError, match=said):
        columns_of(dataset, first, "my set")
