"""What to try first where something stands out in a run."""

from collections.abc import Iterator

from figures.report.elements import NEXT, Finding, Results

_HOW = "This rests on a rule of thumb, not on a test: it says where to look first."


def diagnosis_findings(results: Results) -> Iterator[Finding]:
    """Of results of kind "diagnosis": what stands out, and what to try."""
    for name, result in results:
        for one in result.facts["findings"]:
            text = f"In {result.facts['run']} {one['sentence']}; to try: {one['advice']}."
            yield Finding(NEXT, text, name, _HOW)
