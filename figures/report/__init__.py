"""The report: one self-contained page about any number of saved results."""

from figures.report.elements import Chart, Gallery, KindSection, Panel, Picture, Table
from figures.report.page import SECTIONS
from figures.report.write import write_report

__all__ = ["SECTIONS", "Chart", "Gallery", "KindSection", "Panel", "Picture", "Table", "write_report"]
