"""Networks out of kdprobe: files that other programs run, each compared with the network before it is kept."""

from typing import TYPE_CHECKING

from kdprobe import face

if TYPE_CHECKING:
    from kdprobe.exports.writing import EXPORTERS as EXPORTERS
    from kdprobe.exports.writing import Exported as Exported
    from kdprobe.exports.writing import export as export

__all__ = ["EXPORTERS", "Exported", "export"]

__getattr__, __dir__ = face(
    __name__,
    {
        "EXPORTERS": "kdprobe.exports.writing",
        "Exported": "kdprobe.exports.writing",
        "export": "kdprobe.exports.writing",
    },
)
