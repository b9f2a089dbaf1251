"""What docstrings and help texts mean to Sphinx: indented blocks are code, types link to what stands in these pages."""

import re
import tempfile
from typing import Any

from docutils.nodes import Element, TextElement
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

#: kinds of references that signatures make; all others are written by hand, and must be found
OF_SIGNATURES = ("class", "obj", "exc", "data", "attr")
_COLON = re.compile(r"(?<!:):$")
_ARRAY = re.compile(
    r"~?(?:numpy\.)?ndarray\[tuple\[~?(?:typing\.)?Any, \.\.\.\], ~?(?:numpy\.)?dtype\[~?[\w.]+(?:\[[^\]]*\])?\]\]"
)


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.connect("missing-reference", as_text)
    app.connect("source-read", no_folders)
    app.connect("autodoc-process-docstring", docstring, priority=100)  # before napoleon
    app.connect("autodoc-process-signature", signature)
    app.connect("sphinx-click-process-description", help_text)
    app.connect("sphinx-click-process-options", lambda app, context, lines: no_addresses(lines))
    app.connect("sphinx-click-process-arguments", lambda app, context, lines: no_addresses(lines))
    return {"parallel_read_safe": True}


def as_text(app: Sphinx, env: BuildEnvironment, node: pending_xref, text: TextElement) -> Element | None:
    """Leave types of other packages, type variables and shapes as text."""
    return text if node.get("refdomain") == "py" and node.get("reftype") in OF_SIGNATURES else None


def docstring(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Make a block that is indented after a blank line a literal one, as Markdown does."""
    for number in range(len(lines) - 2):
        here, blank, block = lines[number : number + 3]
        if here.strip() and not blank.strip() and _indent(block) >= _indent(here) + 4:
            lines[number] = _COLON.sub("::", here)
    no_addresses(lines)


def signature(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, arguments: str | None, returned: str | None
) -> tuple[str | None, str | None]:
    """Arrays by the name that the code gives them; `<factory>` cannot be parsed."""
    short = [text and _ARRAY.sub("NDArray", text).replace("<factory>", "...") for text in (arguments, returned)]
    return short[0], short[1]


def help_text(app: Sphinx, context: Any, lines: list[str]) -> None:
    """The example of a command as a block of code."""
    for number, line in enumerate(lines):
        if line.lstrip().startswith("| Example"):
            lines[number] = line.replace("| ", "", 1) + ":"
            if lines[number + 1].startswith("| "):
                lines.insert(number + 1, "")
        elif line.startswith("|   "):
            lines[number] = "    " + line.removeprefix("|   ")
    no_addresses(lines)


def no_addresses(lines: list[str]) -> None:
    """Keep NAME@FILE from becoming an address of electronic mail."""
    lines[:] = [re.sub(r"(?<=\b[A-Z]{4})@(?=[A-Z])", r"\@", line) for line in lines]


def no_folders(app: Sphinx, name: str, source: list[str]) -> None:
    """Files that an example made, without the temporary folder that they lay in."""
    if name.startswith("examples/"):
        source[0] = re.sub(re.escape(tempfile.gettempdir()) + r"/tmp\w+/", "", source[0])


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip()) if line.strip() else 0
