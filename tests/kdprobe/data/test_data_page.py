"""The page on data of one's own: what it shows works."""

import re
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from kdprobe.data import ImageFiles, load_data
from kdprobe.data.decode import decode

PAGE = Path(__file__).parents[3] / "docs/howto/own-images.md"


def photographs(folder):
    """One that lies on its side, one with transparent parts, one of a palette, one in grey."""
    noise = Image.effect_noise((90, 50), 80)
    colours = Image.merge(
        "RGB", [noise, noise.rotate(90).resize(noise.size), noise.transpose(Image.Transpose.FLIP_TOP_BOTTOM)]
    )
    exif = Image.Exif()
    exif[0x0112] = 6
    clear = colours.copy()
    clear.putalpha(noise)
    images = {"lying.jpg": colours, "clear.png": clear, "palette.gif": colours.quantize(16), "grey.png": noise}
    for name, image in images.items():
        image.save(folder / name, **({"exif": exif} if name == "lying.jpg" else {}))
        yield folder / name


def test_what_the_page_shows_works(tmp_path, monkeypatch):
    first, pixels, module = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    shown = {}
    exec(first, shown)
    exec(pixels, shown)
    for path in photographs(tmp_path):
        for side, fraction in ((32, 1.0), (24, 0.875)):
            ours = decode(ImageFiles((str(path),), crop_fraction=fraction), 0, image_size=side)
            assert np.array_equal(shown["pixels"](path, side, fraction), ours.astype(np.float32) / 255), path.name
    assert (len(shown["data"].train), len(shown["data"].test)) == (200, 50)
    assert shown["data"].classes == ("horizontal", "vertical")
    assert (len(shown["half"].train), shown["half"].image_size) == (100, 16)
    one, other = (shown["data"].train.images[number, 0].float() for number in (0, 1))
    assert torch.equal(one.std(0), torch.zeros(32)) != torch.equal(other.std(0), torch.zeros(32))
    (tmp_path / "stripes_of_the_page.py").write_text(first + module)
    monkeypatch.syspath_prepend(tmp_path)
    assert torch.equal(load_data("stripes_of_the_page:stripes").train.images, shown["data"].train.images)
