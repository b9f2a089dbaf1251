"""Pictures of saved results, the report about them, and the publication's tables and figures beside your own runs.

In a notebook:

    import figures

    figures.draw("cka.npz")  # into a new matplotlib figure, or one of yours; also a result at hand
    figures.save_figure(figures.draw("cka.npz"), "cka.svg")
    figures.write_report(["results"], "report.html", title="ViT to ResNet8")

The public names are loaded on first use, so that importing the package does not import matplotlib.
"""

from typing import TYPE_CHECKING

from kdprobe import face

if TYPE_CHECKING:
    from figures.paper import write_paper as write_paper
    from figures.pictures import draw as draw
    from figures.pictures import draw_files as draw_files
    from figures.report import write_report as write_report
    from figures.style import drawing_style as drawing_style
    from figures.style import save_figure as save_figure

__all__ = ["draw", "draw_files", "drawing_style", "save_figure", "write_paper", "write_report"]

__getattr__, __dir__ = face(
    __name__,
    {
        "draw": "figures.pictures",
        "draw_files": "figures.pictures",
        "drawing_style": "figures.style",
        "save_figure": "figures.style",
        "write_paper": "figures.paper",
        "write_report": "figures.report",
    },
)
