"""Whether the best dropout rates can be told from their neighbours."""

from collections.abc import Iterator

import numpy as np

from figures.report.elements import CARE, DIFFER, NEXT, Finding, Results
from figures.report.findings.wording import several
from kdprobe.mean_interval import clearness


def rates_findings(results: Results) -> Iterator[Finding]:
    """Of results of kind "dropout-sweep": the best cell beside those around it, and what is missing."""
    for name, result in results:
        facts, n_seeds = result.facts, result.arrays["accuracy"].shape[2]
        best = facts.get("best")
        kind = facts["kind"]
        if best and best["distinguishable"] is not None:
            rates = f"teacher {best['teacher_rate']:g}, student {best['student_rate']:g}"
            least = min(best["neighbours"], key=clearness)
            shown = f"{100 * least['difference']:+.1f} points [{100 * least['low']:.1f}, {100 * least['high']:.1f}]"
            verdict = "stand out from" if best["distinguishable"] else "are not shown to be better than"
            around = "their neighbours" if best["distinguishable"] else "all their neighbours"
            text = f"The best {kind} dropout rates ({rates}) {verdict} {around}; their least certain lead is {shown}."
            how = (
                f"{several(n_seeds, 'seed')}, paired; intervals corrected for "
                f"{several(len(best['neighbours']), 'neighbour')}; they flatter the best, chosen for being it."
            )
            yield Finding(DIFFER, text, name, how)
        elif best and n_seeds < 2:
            yield Finding(
                CARE, f"The grid of {kind} dropout rates has one seed a cell: nothing tells rates apart.", name
            )
            yield Finding(NEXT, f"Train more seeds of the {kind} dropout rates (`sweep-dropout --seeds`).", name)
        if missing := int(np.isnan(result.arrays["accuracy"]).sum()):
            total = result.arrays["accuracy"].size
            text = f"{missing} of {total} trainings of the grid of {kind} dropout rates are missing."
            yield Finding(CARE, text, name)
