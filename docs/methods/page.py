"""Write the table of `docs/methods.md` from the methods themselves and from what was measured.

    python docs/methods/page.py

Beside this file lie the measured numbers: `costs.csv` by `make bench-methods`, `accuracies.csv` from comparisons.
"""

import csv
from pathlib import Path

from kdprobe.distillers import DISTILLERS
from kdprobe.distillers.described import NETWORK_PAIRS, describe_method

HERE = Path(__file__).parent
PAGE = HERE.with_suffix(".md")
BEGIN, END = "<!-- table: made by docs/methods/page.py -->", "<!-- end of the table -->"
INTRODUCTION = (
    "Accuracy in % of ResNet8, mean and 95 % interval over three seeds, by each method's published weights and "
    "the same learning rate, in trainings of a few hundred steps, far fewer than they were made for."
)
HEAD = ("method", "reads of teacher / student", "extra parameters", "published", "over `kd`", "defaults", "reference")


def page() -> str:
    """The page with the table of today."""
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    return before + "\n".join([BEGIN, *table(), *accuracies(), END]) + rest.split(END)[1]


def table() -> list[str]:
    """What each method reads, adds and costs."""
    costs = {row["method"]: f"{100 * float(row['over_kd']):+.0f} %" for row in _rows("costs.csv")}
    lines = []
    for name in DISTILLERS:
        found = describe_method(name)
        pair = "" if found.pair == next(iter(NETWORK_PAIRS)) else f" ({found.pair})"
        reads = f"{found.teacher_reads} / {found.student_reads}"
        cells = (f"`{name}`", reads, f"{found.extra_parameters:,}{pair}", found.method.published, costs.get(name, ""))
        lines.append((*cells, found.method.source, found.method.reference))
    return _markdown(HEAD, lines)


def accuracies() -> list[str]:
    """What each method reached, in each of the settings that were tried."""
    rows = _rows("accuracies.csv")
    settings = list(dict.fromkeys(row["setting"] for row in rows))
    found = {(row["method"], row["setting"]): row["accuracy"] for row in rows}
    lines = [(f"`{name}`", *(found.get((name, setting), "") for setting in settings)) for name in DISTILLERS]
    return ["", "## What they reached", "", INTRODUCTION, "", *_markdown(("method", *settings), lines)]


def _rows(name: str) -> list[dict[str, str]]:
    with (HERE / name).open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _markdown(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    lines = [head, tuple("---" for _ in head), *rows]
    return ["| " + " | ".join(cells) + " |" for cells in lines]


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
