"""What is remarkable about the networks behind results of any kind: weights of unfinished runs, or random ones."""

from collections.abc import Iterator

from figures.remarks import of_networks
from figures.report.elements import CARE, Finding, Results
from figures.report.findings.wording import capital, enumerated, several


def network_findings(results: Results) -> Iterator[Finding]:
    """Each remark on weights once, and how many results are about such a network."""
    about: dict[str, list[str]] = {}
    for name, result in results:
        for remark in dict.fromkeys(of_networks(result.provenance)):
            about.setdefault(remark, []).append(name)
    for remark, names in about.items():
        which = enumerated(names, 3) if len(names) <= 3 else several(len(names), "result")
        yield Finding(CARE, f"{capital(remark.rstrip('.'))}: this is behind {which}.")
