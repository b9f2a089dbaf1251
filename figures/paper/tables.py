"""Published numbers as tables, alone or beside your own runs, as Markdown, LaTeX and CSV."""

import csv
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from string import ascii_lowercase

import numpy as np

from figures.paper.measured_runs import COSTS, RunGroup, repeats
from kdprobe.formats.tables import as_latex

_LONG = 30  # lines from which on a table is set smaller, so that it stays within a page


@dataclass(frozen=True)
class PrintedNumber:
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
    cells: tuple[PrintedNumber, ...]

    @property
    def rows(self) -> list[str]:
        """Names of the rows in the order of their first number."""
        return list(dict.fromkeys(cell.row for cell in self.cells))

    @property
    def columns(self) -> list[str]:
        """Names of the columns in the order of their first number."""
        return list(dict.fromkeys(cell.column for cell in self.cells))

    @property
    def turned(self) -> bool:
        """Whether `grid` has the rows as columns, so that a table with many columns stays within a page."""
        return len(self.columns) > len(self.rows)

    @property
    def heads(self) -> list[str]:
        """Heads of the columns of `grid`, columns of names first."""
        return ["", *(self.rows if self.turned else self.columns)]

    @property
    def n_texts(self) -> int:
        """How many columns of `grid` hold names."""
        return 1

    @cached_property
    def notes(self) -> dict[str, str]:
        """Footnotes by their letter, in reading order; equal ones share a letter."""
        cells = sorted(self.cells, key=lambda cell: self.columns.index(cell.column)) if self.turned else self.cells
        return dict(zip(ascii_lowercase, dict.fromkeys(cell.note for cell in cells if cell.note), strict=False))

    @property
    def sources(self) -> dict[str, str]:
        """Where numbers come from that are not printed in the supplement: source -> numbers."""
        named: dict[str, dict[str, list[str]]] = {}
        for cell in self.cells:
            if not cell.source.startswith("supplement"):
                named.setdefault(cell.source, {}).setdefault(cell.row, []).append(cell.column)
        return {
            source: "; ".join(f"{row}: {', '.join(columns)}" for row, columns in places.items())
            for source, places in named.items()
        }

    def marked(self, cell: PrintedNumber, mark: Callable[[str], str]) -> str:
        """A number and, as `mark` writes it, the letter of its footnote."""
        letters = {note: letter for letter, note in self.notes.items()}
        return cell.value + (mark(letters[cell.note]) if cell.note else "")

    def grid(self, mark: Callable[[str], str]) -> list[list[str]]:
        """Rows of texts, each with its name first."""
        found = {(cell.row, cell.column): self.marked(cell, mark) for cell in self.cells}
        if self.turned:
            return [[column, *(found.get((row, column), "") for row in self.rows)] for column in self.columns]
        return [[row, *(found.get((row, column), "") for column in self.columns)] for row in self.rows]


@dataclass(frozen=True)
class ComparedTable(PublishedTable):
    """A line for each published number and each group of runs that repeats it.

    Attributes:
        groups: your own runs, whether or not they repeat anything.
    """

    groups: Sequence[RunGroup] = field(default_factory=tuple)

    @property
    def turned(self) -> bool:
        """Never: there is a line for each number."""
        return False

    @property
    def heads(self) -> list[str]:
        """The same for every table."""
        return ["", "", "published", "measured", "difference", "95 % interval", "runs"]

    @property
    def n_texts(self) -> int:
        """Two: the row, and the column with what tells groups of runs apart."""
        return 2

    @property
    def used(self) -> list[RunGroup]:
        """The groups that repeat a number."""
        return [group for group in self.groups if any(self._quantity(group, cell) for cell in self.cells)]

    @cached_property
    def notes(self) -> dict[str, str]:
        """Footnotes by their letter, also those of what was measured alone."""
        return dict(
            zip(ascii_lowercase, dict.fromkeys(cell.note for cell, *_ in self.lines() if cell.note), strict=False)
        )

    def lines(self) -> list[tuple[PrintedNumber, str, list[str]]]:
        """Each number with the name of a group, if there are several, and what the group measured.

        Measured are the mean, its difference from the published number, the ends of its interval and the number of
        runs; they are empty where there is none. Latencies, which are not published, follow the costs of their row:
        the median, and the quartiles as the ends.
        """
        found = []
        for row in self.rows:
            cells = [cell for cell in self.cells if cell.row == row]
            for cell in cells:
                measured = [(group, quantity) for group in self.groups if (quantity := self._quantity(group, cell))]
                for group, quantity in measured:
                    texts = _measured(float(cell.value), *group.interval(quantity))
                    found.append((cell, _configuration(group, of=len(measured)), texts))
                if not measured:
                    found.append((cell, "", [""] * 5))
            timed = [group for group in self.groups if any(self._quantity(group, cell) for cell in cells)]
            if COSTS.keys() & {*self.columns}:
                found += [line for group in timed for line in _latency_lines(row, group, of=len(timed))]
        return found

    def grid(self, mark: Callable[[str], str]) -> list[list[str]]:
        """Rows of texts: row, column, published, measured, difference, interval, runs."""
        rows, previous = [], None
        for cell, name, (mean, difference, low, high, count) in self.lines():
            interval = f"[{low}, {high}]" if low else "all equal" if count not in ("", "1") else ""
            what = f"{cell.column} ({name})" if name else cell.column
            first = cell.row if cell.row != previous else ""
            rows.append([first, what, self.marked(cell, mark), mean, difference, interval, count])
            previous = cell.row
        return rows

    def csv(self) -> str:
        """The same with full names, sources and notes."""
        text = io.StringIO()
        heads = ["published", "configuration", "measured", "difference", "low", "high", "n", "source", "note"]
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["row", "column", *heads])
        for cell, name, measured in self.lines():
            writer.writerow([cell.row, cell.column, cell.value, name, *measured, cell.source, cell.note])
        return text.getvalue()

    def _quantity(self, group: RunGroup, cell: PrintedNumber) -> str | None:
        """The quantity by which a group repeats a number, if it does."""
        return repeats(group, self.name, cell.row, cell.column)


def markdown(table: PublishedTable) -> str:
    """A table as Markdown, footnotes and sources below."""
    rule = "|---" * table.n_texts + "|---:" * (len(table.heads) - table.n_texts) + "|"
    lines = [f"**{table.name}.** {table.caption}", "", _row(table.heads), rule]
    lines += [_row(row) for row in table.grid(lambda letter: f" <sup>{letter}</sup>")]
    lines += ["", *(f"<sup>{letter}</sup> {note}  " for letter, note in table.notes.items())]
    lines += [f"From the {source}: {places}.  " for source, places in table.sources.items()]
    return "\n".join(lines).rstrip() + "\n"


def latex(table: PublishedTable) -> str:
    """A table as LaTeX for the package booktabs: of two names of a row the first has its own line; notes are below."""
    n = table.n_texts
    notes = [f"$^{letter}$ {as_latex(note)}" for letter, note in table.notes.items()]
    notes += [f"From the {as_latex(source)}: {as_latex(places)}." for source, places in table.sources.items()]
    below = [r"\par\smallskip", r"\parbox{\linewidth}{\footnotesize", r" \\".join(notes) + "}"] if notes else []
    n_columns = len(table.heads) - n + 1
    body = []
    for row in table.grid(lambda letter: f"$^{letter}$"):
        *groups, name = row[:n]
        body += [rf"\multicolumn{{{n_columns}}}{{l}}{{\emph{{{as_latex(group)}}}}} \\" for group in groups if group]
        body.append(" & ".join([as_latex(name), *map(_number, row[n:])]) + r" \\")
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering" + (r"\footnotesize" if len(body) > _LONG else r"\small"),
            rf"\caption{{{as_latex(table.caption)}.}}",
            rf"\label{{tab:{table.name}}}",
            rf"\begin{{tabular}}{{l{'r' * (n_columns - 1)}}}",
            r"\toprule",
            " & ".join(map(_head, table.heads[n - 1 :])) + r" \\",
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            *below,
            r"\end{table}",
            "",
        ]
    )


def _configuration(group: RunGroup, *, of: int) -> str:
    """What tells a group of runs from the others of the same method; empty if it is the only one."""
    return group.name.removeprefix(f"{group.trained['method']}, ") if of > 1 else ""


def _latency_lines(row: str, group: RunGroup, *, of: int) -> list[tuple[PrintedNumber, str, list[str]]]:
    name = _configuration(group, of=of)
    return [
        (PrintedNumber(row, column, "", "", words), name, [f"{value:.2f}", "", f"{low:.2f}", f"{high:.2f}", ""])
        for column, (value, low, high), words in group.latencies
    ]


def _measured(published: float, interval: tuple[float, float, float], count: int) -> list[str]:
    mean, *ends = interval
    shown = ["" if np.isnan(end) else f"{end:.2f}" for end in ends]
    return [f"{mean:.2f}", f"{mean - published:+.2f}", *shown, str(count)]


def _row(texts: Sequence[str]) -> str:
    return "| " + " | ".join(map(_marked, texts)) + " |"


def _marked(text: str) -> str:
    """A cell of a Markdown table: one line, without tags but those of footnotes."""
    line = " ".join(text.split()).replace("|", r"\|")
    return re.sub(r"<(?!sup>[a-z]</sup>|/sup>)", "&lt;", line)


def _head(text: str) -> str:
    """A column's name for LaTeX; a pair's is on two lines."""
    teacher, to, student = text.partition(" to ")
    return rf"\shortstack[r]{{{as_latex(teacher)}\\to {as_latex(student)}}}" if to else as_latex(text)


def _number(text: str) -> str:
    """A number for LaTeX, its minus sign as wide as its plus sign."""
    return f"${text}$" if text.startswith(("+", "-")) else text
