"""What the gallery needs: pictures of figures, also of those made without pyplot, and the order of the examples."""

import weakref
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from sphinx_gallery.scrapers import figure_rst

ORDER = Path(__file__).parents[1] / "gallery" / "ORDER"
_seen: "weakref.WeakSet[Figure]" = weakref.WeakSet()


def scrape(block: tuple[Any, ...], block_vars: dict[str, Any], gallery_conf: dict[str, Any]) -> str:
    """Save each figure that a block of code left in a variable, once."""
    paths = []
    for value in list(block_vars["example_globals"].values()):
        if isinstance(value, Figure) and value not in _seen:
            _seen.add(value)
            path = next(block_vars["image_path_iterator"])
            value.savefig(path, dpi=150, bbox_inches="tight")
            paths.append(path)
    return figure_rst(paths, gallery_conf["src_dir"]) if paths else ""


def reset(gallery_conf: dict[str, Any], name: str) -> None:
    """Each example begins with torch's random numbers and one thread."""
    import torch

    torch.manual_seed(0)
    torch.set_num_threads(1)


class InOrder:
    """Examples in the order of the file `ORDER`."""

    def __init__(self, folder: str) -> None:
        self.names = ORDER.read_text(encoding="utf-8").split()

    def __call__(self, name: str) -> int:
        """The place of an example."""
        return self.names.index(name)
