"""Text in tables: CSV that a spreadsheet shows as it is, LaTeX that prints it, and columns for a terminal."""

import csv
import io
import re
import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

_FORMULA = re.compile(r"\s*[=+\-@\uff1d\uff0b\uff0d\uff20]|[\t\r\n]")  # also in full width
_QUOTED = re.compile(r"[,;|\"\t\r\n\v\f\x1c-\x1e\x85\u2028\u2029]")
_WORDS = {"\\": "backslash", "~": "asciitilde", "^": "asciicircum", "<": "less", ">": "greater", "|": "bar"}
_SPECIAL = {sign: rf"\text{word}{{}}" for sign, word in _WORDS.items()} | {sign: f"\\{sign}" for sign in "&%$#_{}"}

_WIDEST = 60  # of a name on one line


def aligned(columns: Mapping[Any, Iterable[object]]) -> str:
    """Lines of text for a terminal: the first column, names, to the left and folded where long, others to the right."""
    names, *numbers = ([str(head), *map(str, cells)] for head, cells in columns.items())
    folded = [textwrap.wrap(name, _WIDEST, subsequent_indent="  ", break_on_hyphens=False) or [""] for name in names]
    widest = max(len(line) for lines in folded for line in lines)
    rooms = [max(map(len, cells)) for cells in numbers]
    found = []
    for (first, *rest), *cells in zip(folded, *numbers, strict=True):
        padded = [f"{text:>{room}}" for text, room in zip(cells, rooms, strict=True)]
        found += ["  ".join([f"{first:<{widest}}", *padded]).rstrip(), *rest]
    return "\n".join(found)


def as_latex(text: str) -> str:
    """Any text as LaTeX that prints it, on one line: an empty one would end a table."""
    return "".join(_SPECIAL.get(sign, sign) for sign in " ".join(text.split()))


def safe_csv(text: str) -> str:
    """CSV in which no cell is a formula: an apostrophe stands before a name that a spreadsheet would compute.

    Numbers stay as they are, and so does everything else. Cells that contain what some programs take for their end
    are quoted.

    Example:
        >>> from kdprobe.formats import safe_csv
        >>> safe_csv("=1+1,-0.5").strip()
        "'=1+1,-0.5"
    """
    rows = csv.reader(io.StringIO(text, newline=""))
    return "".join(_line(row) for row in rows)


def _line(row: list[str]) -> str:
    cells = [_quoted(cell if _is_number(cell) else re.sub(f"^(?={_FORMULA.pattern})", "'", cell)) for cell in row]
    return ('""' if cells == [""] else ",".join(cells)) + "\n"


def _quoted(cell: str) -> str:
    return '"' + cell.replace('"', '""') + '"' if _QUOTED.search(cell) else cell


def _is_number(cell: str) -> bool:
    if cell != cell.strip():
        return False
    try:
        float(cell)
    except ValueError:
        return False
    return True
