"""General knowledge, which two networks share, and specific knowledge, which only one of them has."""

from typing import TYPE_CHECKING

from kdprobe import face

if TYPE_CHECKING:
    from analyses.knowledge.decomposition import Decomposition as Decomposition
    from analyses.knowledge.decomposition import decompose as decompose
    from analyses.knowledge.dropkd import load_dropkd as load_dropkd
    from analyses.knowledge.layers import decompose_layers as decompose_layers
    from analyses.knowledge.probes import probe_accuracy as probe_accuracy

__all__ = ["Decomposition", "decompose", "decompose_layers", "load_dropkd", "probe_accuracy"]

__getattr__, __dir__ = face(
    __name__,
    {
        "Decomposition": "analyses.knowledge.decomposition",
        "decompose": "analyses.knowledge.decomposition",
        "decompose_layers": "analyses.knowledge.layers",
        "load_dropkd": "analyses.knowledge.dropkd",
        "probe_accuracy": "analyses.knowledge.probes",
    },
)
