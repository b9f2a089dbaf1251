"""What the gallery needs: pictures of figures, what each example must keep to, and the order of the examples."""

import os
import weakref
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from sphinx_gallery.scrapers import figure_rst

ORDER = Path(__file__).parents[1] / "gallery" / "ORDER"
MOST_SECONDS = 30  # of processor time, which other work on the machine does not lengthen as it does the clock's
_seen: "weakref.WeakSet[Figure]" = weakref.WeakSet()
_began = [0.0]


class GalleryError(Exception):
    """An example that is not what the gallery promises; no cache keeps it, so that the next build runs it again."""


def scrape(block: tuple[str, str, int], block_vars: dict[str, Any], gallery_conf: dict[str, Any]) -> str:
    """Save each figure that a block of code left in a variable, once.

    Raises:
        GalleryError: if the example has taken too long, or its last block makes no picture.
    """
    source = Path(block_vars["src_file"])
    if (seconds := _processor_seconds() - _began[0]) > MOST_SECONDS:
        raise GalleryError(f"{source.name} takes {seconds:.0f} s of processor time; at most {MOST_SECONDS} are allowed")
    paths = []
    for value in list(block_vars["example_globals"].values()):
        if isinstance(value, Figure) and value not in _seen:
            _seen.add(value)
            path = next(block_vars["image_path_iterator"])
            value.savefig(path, dpi=150, bbox_inches="tight")
            paths.append(path)
    if not paths and source.read_text(encoding="utf-8").rstrip().endswith(block[1].rstrip()):
        raise GalleryError(
            f"{source.name} does not end in a picture: its last block leaves no new figure in a variable"
        )
    return figure_rst(paths, gallery_conf["src_dir"]) if paths else ""


def reset(gallery_conf: dict[str, Any], name: str | None) -> None:
    """Each example begins with torch's random numbers and one thread."""
    import torch

    torch.manual_seed(0)
    torch.set_num_threads(1)
    _began[0] = _processor_seconds()


def _processor_seconds() -> float:
    """Of this process, all its threads, and all processes that it started and that have ended."""
    return sum(os.times()[:4])


class InOrder:
    """Examples in the order of the file `ORDER`."""

    def __init__(self, folder: str) -> None:
        self.names = ORDER.read_text(encoding="utf-8").split()

    def __call__(self, name: str) -> int:
        """The place of an example."""
        return self.names.index(name)
