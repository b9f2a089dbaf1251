"""Write the tables of `docs/reference/methods.md` from the methods themselves and from what was measured.

    python docs/reference/methods/page.py ["digits, ViT teaches=comparison.npz" ...]

Beside this file lie the measured numbers: `costs.csv` by `make bench-methods`, and `accuracies.csv`, to which results
of `kdprobe compare` are added under the name that their columns shall have.
"""

import csv
import sys
from pathlib import Path

from kdprobe.distillers import DISTILLERS
from kdprobe.distillers.described import NETWORK_PAIRS, describe_method, summary_of
from kdprobe.mean_interval import worded_interval
from kdprobe.results import load_result

HERE = Path(__file__).parent
PAGE = HERE.with_suffix(".md")
BEGIN, END = "<!-- table: made by docs/reference/methods/page.py -->", "<!-- end of the table -->"
INTRODUCTION = (
    "Accuracy in % on the test images, mean and 95 % interval over three seeds, of trainings of a few hundred steps, "
    "far fewer than the published weights were made for. *Tuned* is the best of equally many trials on held-out images "
    "(`kdprobe compare`), the published setting among them; all other columns are of the published settings."
)
HEAD = ("method", "reads of teacher / student", "extra parameters", "published", "over `kd`", "defaults", "reference")


def page() -> str:
    """The page with the table of today."""
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    return before + "\n".join([BEGIN, *summaries(), "", *table(), *accuracies(), END]) + rest.split(END)[1]


def summaries() -> list[str]:
    """What each method minimises."""
    return _markdown(("method", "minimises"), [(f"`{name}`", summary_of(kind)) for name, kind in DISTILLERS.items()])


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


def add(column: str, comparison: str) -> None:
    """Keep what a result of `kdprobe compare` says, in place of what stood in these columns before."""
    result = load_result(comparison, kind="tuned-comparison")
    settings = {"published": "published", "tuned": "accuracy"}
    columns = {key: f"{column}, {setting}" for setting, key in settings.items()}
    kept, rows = [row for row in _rows("accuracies.csv") if row["setting"] not in columns.values()], []
    for key, setting in columns.items():
        for method, values in zip(result.facts["methods"], result.arrays[key], strict=True):
            text = worded_interval(values, scale=100, digits=1, n_images=result.facts["n_images"])
            rows.append({"method": method, "setting": setting, "accuracy": text})
    with (HERE / "accuracies.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ("method", "setting", "accuracy"), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows + kept)


def _rows(name: str) -> list[dict[str, str]]:
    with (HERE / name).open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _markdown(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    lines = [head, tuple("---" for _ in head), *rows]
    return ["| " + " | ".join(cells) + " |" for cells in lines]


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        add(*argument.rsplit("=", 1))
    PAGE.write_text(page(), encoding="utf-8")
