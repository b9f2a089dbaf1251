"""The publication's tables and figures from the numbers kept in `published/`, each with its source.

The publication is the supplement of DropKD (WACV 2025). Misprints and unlike comparisons are told
in footnotes; where a number comes from elsewhere, its source says so.
"""

import csv
import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import ascii_lowercase

import numpy as np

from figures.dropout import draw
from figures.style import save
from kdprobe.results import Result

TABLES = {
    "table1": "CIFAR-100, pairs of CNNs: top-1 accuracy in %",
    "table2": "RAF-DB, Transformer to Transformer: top-1 accuracy in %",
    "table3": "RAF-DB, CNN to Transformer: top-1 accuracy in %",
    "table4": "RAF-DB, methods for facial expressions: top-1 accuracy in % and cost at 224 x 224",
    "table5": "RAF-DB, compound expressions scored with a model of the seven basic ones, in %",
    "imagenet": "ImageNet, the pairs of the recipes (not in the supplement): top-1 accuracy in %",
}
GRIDS = {"figure2": "feature", "figure3": "logit"}
NOT_DRAWN = (
    "figure4 (confusion matrices and UAR) is published as a picture without numbers; "
    "kdprobe evaluate draws it for networks of your own"
)


@dataclass(frozen=True)
class Cell:
    """One published number, as it is printed."""

    row: str
    column: str
    value: str
    source: str
    note: str


@dataclass(frozen=True)
class PublishedTable:
    """A table of published numbers."""

    name: str
    caption: str
    cells: tuple[Cell, ...]

    @property
    def rows(self) -> list[str]:
        """Names of the rows in the order of their first number."""
        return list(dict.fromkeys(cell.row for cell in self.cells))

    @property
    def columns(self) -> list[str]:
        """Names of the columns in the order of their first number."""
        return list(dict.fromkeys(cell.column for cell in self.cells))

    @property
    def notes(self) -> dict[str, str]:
        """Footnotes by their letter; the same words are noted once."""
        return dict(zip(ascii_lowercase, dict.fromkeys(cell.note for cell in self.cells if cell.note), strict=False))

    @property
    def sources(self) -> dict[str, str]:
        """Which numbers come from where, for all that the supplement does not print."""
        named: dict[str, dict[str, list[str]]] = {}
        for cell in self.cells:
            if not cell.source.startswith("supplement"):
                named.setdefault(cell.source, {}).setdefault(cell.row, []).append(cell.column)
        return {
            source: "; ".join(f"{row}: {', '.join(columns)}" for row, columns in places.items())
            for source, places in named.items()
        }

    def grid(self, mark: Callable[[str], str]) -> list[list[str]]:
        """Rows of texts, the row's name first; `mark` words the letter of a footnote."""
        letters = {note: letter for letter, note in self.notes.items()}
        found = {
            (cell.row, cell.column): cell.value + (mark(letters[cell.note]) if cell.note else "") for cell in self.cells
        }
        return [[row, *(found.get((row, column), "") for column in self.columns)] for row in self.rows]


def published_table(name: str) -> PublishedTable:
    """Read one of `TABLES`."""
    rows = csv.DictReader(io.StringIO(_read(name)))
    return PublishedTable(name, TABLES[name], tuple(Cell(**row) for row in rows))


def published_grid(name: str) -> Result:
    """Read one of `GRIDS` as a sweep of one seed; cells that were left out are NaN."""
    head, *rows = csv.reader(io.StringIO(_read(name)))
    accuracy = np.array([[float(value) / 100 if value else np.nan for value in row[1:]] for row in rows])
    facts = {
        "kind": GRIDS[name],
        "rates_teacher": [float(row[0]) for row in rows],
        "rates_student": [float(rate) for rate in head[1:]],
        "data": "RAF-DB, published",
    }
    return Result("dropout-sweep", {"accuracy": accuracy[..., None]}, facts, {"source": "supplement of DropKD"})


def markdown(table: PublishedTable) -> str:
    """A table as Markdown, footnotes and sources below."""
    columns = table.columns
    lines = [f"**{table.name}.** {table.caption}", "", f"| | {' | '.join(columns)} |", "|---|" + "---:|" * len(columns)]
    lines += [f"| {' | '.join(row)} |" for row in table.grid(lambda letter: f" <sup>{letter}</sup>")]
    lines += ["", *(f"<sup>{letter}</sup> {note}  " for letter, note in table.notes.items())]
    lines += [f"From the {source}: {places}.  " for source, places in table.sources.items()]
    return "\n".join(lines).rstrip() + "\n"


def latex(table: PublishedTable) -> str:
    """A table as LaTeX for the package booktabs, footnotes and sources in the caption."""
    notes = [f"$^{letter}$ {_tex(note)}" for letter, note in table.notes.items()]
    notes += [f"From the {_tex(source)}: {_tex(places)}." for source, places in table.sources.items()]
    body = [" & ".join([_tex(row[0]), *row[1:]]) + r" \\" for row in table.grid(lambda letter: f"$^{letter}$")]
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{' '.join([_tex(table.caption) + '.', *notes])}}}",
            rf"\label{{tab:{table.name}}}",
            rf"\begin{{tabular}}{{l{'r' * len(table.columns)}}}",
            r"\toprule",
            " & ".join(["", *map(_tex, table.columns)]) + r" \\",
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def write_paper(out: Path, formats: Iterable[str]) -> list[Path]:
    """Write all tables (LaTeX, Markdown, CSV) and the figures whose numbers are published.

    Args:
        out: folder.
        formats: of the figures: `pdf`, `png`, `svg`.

    Returns:
        the files written.
    """
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for name in TABLES:
        table = published_table(name)
        for ending, text in {"tex": latex(table), "md": markdown(table), "csv": _read(name)}.items():
            written.append(out / f"{name}.{ending}")
            written[-1].write_text(text, encoding="utf-8")
    for name in GRIDS:
        figure = draw(published_grid(name))
        for ending in dict.fromkeys(formats):
            written.append(out / f"{name}.{ending}")
            save(figure, written[-1])
    return written


def _tex(text: str) -> str:
    return "".join(f"\\{sign}" if sign in "&%$#_{}" else sign for sign in text)


def _read(name: str) -> str:
    return files("figures").joinpath("published", f"{name}.csv").read_text(encoding="utf-8")
