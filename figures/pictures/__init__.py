"""Pictures of results, one file per kind, and which kind is drawn by what.

A package that registers a kind of results (`kdprobe.kinds`) may bring a function that draws it, a result to a
matplotlib figure, by the entry point `kdprobe.figures`.
"""

from figures.pictures.by_kind import FIGURES, draw
from figures.pictures.write import draw_files

__all__ = ["FIGURES", "draw", "draw_files"]
