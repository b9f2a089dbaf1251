"""Pictures of results, one file per kind, and which kind is drawn by what."""

from figures.pictures.by_kind import FIGURES, draw
from figures.pictures.write import draw_files

__all__ = ["FIGURES", "draw", "draw_files"]
