"""The report: one self-contained page about any number of saved results.

A package that registers a kind of results (`kdprobe.kinds`) may bring the section that shows them, by the entry point
`kdprobe.sections`; without one, the report shows the kind's picture, if it has one, and its numbers as tables:

    # rhymes/section.py
    from figures.report import KindSection, Panel, Table

    def panels(results):  # short file names and results, all of them of this kind
        table = Table(["poem", "purity"], [[name, f"{result.arrays['purity'].mean():.2f}"] for name, result in results])
        return [Panel("", "How pure the rhymes are.", [], tables=[table])]

    SECTION = KindSection("Rhymes", panels)

    # setup.cfg
    [options.entry_points]
    kdprobe.sections =
        rhyme = rhymes.section:SECTION
"""

from figures.report.elements import Chart, Gallery, KindSection, Panel, Picture, Table
from figures.report.page import SECTIONS
from figures.report.write import write_report

__all__ = ["SECTIONS", "Chart", "Gallery", "KindSection", "Panel", "Picture", "Table", "write_report"]
