"""The page on data of one's own: what it shows works."""

import re
from pathlib import Path

import torch

from kdprobe.data import load_data

PAGE = Path(__file__).parents[3] / "docs/howto/own-images.md"


def test_what_the_page_shows_works(tmp_path, monkeypatch):
    first, module = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    shown = {}
    exec(first, shown)
    assert (len(shown["data"].train), len(shown["data"].test)) == (200, 50)
    assert shown["data"].classes == ("horizontal", "vertical")
    assert (len(shown["half"].train), shown["half"].image_size) == (100, 16)
    one, other = (shown["data"].train.images[number, 0].float() for number in (0, 1))
    assert torch.equal(one.std(0), torch.zeros(32)) != torch.equal(other.std(0), torch.zeros(32))
    (tmp_path / "stripes_of_the_page.py").write_text(first + module)
    monkeypatch.syspath_prepend(tmp_path)
    assert torch.equal(load_data("stripes_of_the_page:stripes").train.images, shown["data"].train.images)
