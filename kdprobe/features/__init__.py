"""Features: forward hooks, what is taken of an output, Gram matrices, HSIC, and the files that hold them."""

from typing import TYPE_CHECKING

from kdprobe import face

if TYPE_CHECKING:
    from kdprobe.features.capturing import capture as capture
    from kdprobe.features.capturing import select_layers as select_layers
    from kdprobe.features.dump import Dump as Dump
    from kdprobe.features.dump import write_dump as write_dump
    from kdprobe.features.hsic import unbiased_hsic as unbiased_hsic
    from kdprobe.features.store import FeatureStore as FeatureStore
    from kdprobe.features.writer import Network as Network
    from kdprobe.models.layout import Layout as Layout

__all__ = [
    "Dump",
    "FeatureStore",
    "Layout",
    "Network",
    "capture",
    "select_layers",
    "unbiased_hsic",
    "write_dump",
]

__getattr__, __dir__ = face(
    __name__,
    {
        "Dump": "kdprobe.features.dump",
        "FeatureStore": "kdprobe.features.store",
        "Layout": "kdprobe.models.layout",
        "Network": "kdprobe.features.writer",
        "capture": "kdprobe.features.capturing",
        "select_layers": "kdprobe.features.capturing",
        "unbiased_hsic": "kdprobe.features.hsic",
        "write_dump": "kdprobe.features.dump",
    },
)
