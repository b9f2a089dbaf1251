"""Images as a person sees them: orientation, transparency, depth; and files that are none."""

import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from kdprobe.data.dataset import ImageFiles
from kdprobe.data.decode import SUFFIXES, decode, image_side
from kdprobe.errors import DataError

GREY = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
TURNED = {  # how pixels lie in a file of each EXIF orientation
    1: lambda image: image,
    2: np.fliplr,
    3: lambda image: np.rot90(image, 2),
    4: np.flipud,
    5: lambda image: image.swapaxes(0, 1),
    6: np.rot90,
    7: lambda image: np.rot90(image, 2).swapaxes(0, 1),
    8: lambda image: np.rot90(image, -1),
}


def shown(path: Path) -> NDArray[np.uint8]:
    return decode(ImageFiles((str(path),)), 0, image_size=8)


def save(path: Path, pixels: NDArray[Any], **options: Any) -> Path:
    Image.fromarray(np.ascontiguousarray(pixels)).save(path, **options)
    return path


@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize("suffix", ["png", "tiff", "webp", "jpg"])
def test_every_orientation_is_upright(tmp_path: Path, suffix: str, orientation: int) -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    image[:4], image[:4, :4, 0], image[4:, 4:, 2] = 200, 30, 90
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"webp": {"lossless": True}, "jpg": {"quality": 100, "subsampling": 0}}.get(suffix, {})
    path = save(tmp_path / f"x.{suffix}", TURNED[orientation](image), exif=exif, **options)
    tolerance = 12 if suffix == "jpg" else 0
    assert np.abs(shown(path).astype(int) - image.transpose(2, 0, 1)).max() <= tolerance


def test_damaged_remarks_leave_the_image(tmp_path: Path) -> None:
    path = save(tmp_path / "x.png", GREY, exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert np.array_equal(shown(path), np.stack([GREY] * 3))


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("channels", [2, 4])
def test_transparency_lies_over_white(tmp_path: Path, suffix: str, channels: int) -> None:
    alpha = np.where(np.arange(64).reshape(8, 8) % 2, 255, 0).astype(np.uint8)
    path = save(tmp_path / f"x.{suffix}", np.dstack([GREY] * (channels - 1) + [alpha]))
    assert np.array_equal(shown(path), np.stack([np.where(alpha, GREY, 255)] * 3))


def test_transparency_of_one_colour_and_in_part(tmp_path: Path) -> None:
    white = np.stack([np.where(GREY == 40, 255, GREY)] * 3)
    assert np.array_equal(shown(save(tmp_path / "8.png", GREY, transparency=40)), white)
    deep = GREY.astype(np.uint16) * 257
    assert np.array_equal(shown(save(tmp_path / "16.png", deep, transparency=40 * 257)), white)
    half = np.dstack([GREY * 0] * 3 + [np.full_like(GREY, 128)])
    assert (shown(save(tmp_path / "half.png", half)) == 127).all()


@pytest.mark.parametrize("name", ["f.tif", "f.pfm"])
def test_floats_from_0_to_1(tmp_path: Path, name: str) -> None:
    assert np.array_equal(shown(save(tmp_path / name, (GREY / 255).astype(np.float32))), np.stack([GREY] * 3))


@pytest.mark.parametrize(
    ("pixels", "what"),
    [
        (GREY.astype(np.float32), "floats from 0 to 252"),
        (np.full((8, 8), np.nan, np.float32), "floats from nan to nan"),
        (GREY.astype(np.int32), "integers from 0 to 252"),
        (GREY.astype(np.int32) - 2, "integers from -2 to 250"),
    ],
)
def test_numbers_without_a_white_are_refused(tmp_path: Path, pixels: NDArray[Any], what: str) -> None:
    path = save(tmp_path / "x.tif", pixels)
    with pytest.raises(DataError, match=rf"x\.tif cannot be decoded as an image: it holds {what}, and it is not known"):
        shown(path)


def test_depths_of_grey(tmp_path: Path) -> None:
    expected = np.stack([GREY] * 3)
    deep = GREY.astype(np.uint16) * 257
    for name in ("x.png", "x.tif", "x.pgm", "x.jp2"):
        assert np.array_equal(shown(save(tmp_path / name, deep)), expected), name
    inverted = save(tmp_path / "i.tif", deep, tiffinfo={262: 0})  # where 0 is white
    assert np.array_equal(shown(inverted), 255 - expected)
    black = GREY > 100
    assert np.array_equal(shown(save(tmp_path / "1.png", black)), np.stack([black * np.uint8(255)] * 3))


def test_colours_of_print_and_palettes(tmp_path: Path) -> None:
    image = Image.fromarray(np.stack([GREY] * 3, 2))
    for name, made in (("c.tif", image.convert("CMYK")), ("p.gif", image.convert("L").convert("P"))):
        made.save(tmp_path / name)
        assert np.array_equal(shown(tmp_path / name), np.stack([GREY] * 3)), name


def test_postscript_is_no_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    called = []
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *given, **_options: called.append(given))
    path = tmp_path / "cat.jpg"
    path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n")
    for look in (shown, lambda path: image_side(ImageFiles((str(path),)), 0)):
        with pytest.raises(DataError, match=r"cat\.jpg cannot be decoded as an image \(UnidentifiedImageError\)"):
            look(path)
    assert not called


def test_a_decompression_bomb_is_one_line(tmp_path: Path) -> None:
    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 100_000, 100_000, 8, 0, 0, 0, 0))
    path = tmp_path / "bomb.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b""))
    with pytest.raises(DataError, match=r"bomb\.png cannot be decoded as an image \(DecompressionBombError\)"):
        shown(path)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(DataError, match=r"pipe\.png cannot be decoded as an image \(UnidentifiedImageError\)"):
        shown(tmp_path / "pipe.png")


def test_every_ending_is_of_a_format_that_is_read(tmp_path: Path) -> None:
    written = Image.registered_extensions()
    for suffix in SUFFIXES:
        if suffix in (".pfm", ".apng"):  # which Pillow writes under other names only
            continue
        mode = "1" if suffix == ".pbm" else "L" if suffix == ".pgm" else "RGB"
        path = tmp_path / f"image{suffix}"
        Image.new(mode, (8, 8), 255 if mode == "L" else 1 if mode == "1" else "white").save(path, written[suffix])
        assert shown(path).min() > 250, suffix
