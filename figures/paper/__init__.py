"""The publication's tables and figures, alone or beside your own runs."""

from figures.paper.write import published_grid, published_table, write_paper

__all__ = ["published_grid", "published_table", "write_paper"]
