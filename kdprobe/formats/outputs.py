"""What may be overwritten: a file that kdprobe wrote as the same output and that has not been changed since.

The same output is of the same kind and, if it says which networks and data it is of, of the same ones: those at the
same places, seen from anywhere or from the file itself, whatever they hold by now.

Every output says what it is. Its seal is JSON text with its kind and the sha256 of everything else in the file:
in a PNG a text chunk `kdprobe`, in other formats a comment in the last line. A CSV file can hold no comment, so the
file beside which it is written holds its sha256, as results do in their `meta`.
"""

import json
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from kdprobe.errors import FileError, OutputError
from kdprobe.files import interrupted, replacing, sha256
from kdprobe.formats.tables import safe_csv

PICTURES = ("pdf", "png")  # what is drawn of a result if no formats are given

_COMMENTS = {
    ".html": (b"<!-- ", b" -->\n"),
    ".htm": (b"<!-- ", b" -->\n"),
    ".svg": (b"<!-- ", b" -->\n"),
    ".md": (b"<!-- ", b" -->\n"),
    ".tex": (b"% ", b"\n"),
    ".pdf": (b"% ", b"\n"),
}
_NAME = b"kdprobe "
_TAIL = 1 << 16  # bytes at the end of a file, in which its seal is looked for
_KEYWORD = b"tEXtkdprobe\0"
_END = 12  # bytes of a PNG's last chunk

Seal = dict[str, Any]


class Output(NamedTuple):
    """A file that is to be written.

    Attributes:
        path: its path.
        kind: what it is, in words: "report", "figure of a cka result".
        seal: returns what an existing file's seal says; the file's own seal if not given.
        key: the end of the name of a CSV file beside the one that is sealed.
        of: the networks and data that it is of, described in several ways; one that agrees with the seal is enough.

    Example:
        >>> from pathlib import Path
        >>> from kdprobe.formats import Output, write_sealed
        >>> write_sealed(Path("page.html"), "<p>two epochs</p>", "report")
        >>> Output(Path("page.html"), "report").objection()
        ''
        >>> Output(Path("page.html"), "table of methods").objection()
        'and either kdprobe did not write it as a table of methods or it was changed since'
    """

    path: Path
    kind: str
    seal: Callable[[], Seal | None] | None = None
    key: str = ""
    of: Mapping[str, Any] | None = None

    def objection(self) -> str:
        """Why the existing file may not be replaced by this output; empty if it may."""
        seal = read_seal(self.path) if self.seal is None else self.seal()
        article = "an" if self.kind[:1] in "aeiou" else "a"
        unlike = f"and either kdprobe did not write it as {article} {self.kind} or it was changed since"
        if seal is None or seal.get("kind") != self.kind:
            return unlike
        if self.key and sha256(self.path) != _mapping(seal.get("beside")).get(self.key):
            return unlike
        there = _mapping(seal.get("of"))
        if self.of is None or any(key in there and there[key] == value for key, value in self.of.items()):
            return ""
        return f"the {self.kind} of {_worded(there.get('networks'))}"


def permit(outputs: Iterable[Output], *, overwrite: bool = False) -> None:
    """Check, before anything is written, that all these files may be written.

    A file whose replacement was interrupted may be: that was permitted before.

    Args:
        outputs: the files to be written.
        overwrite: the user consents to losing whatever is there.

    Raises:
        OutputError: naming a file in the way.
        FileError: if a name cannot be a file's.

    Example:
        >>> from pathlib import Path
        >>> from kdprobe.formats import Output, permit
        >>> permit([Output(Path("page.html"), "report")])  # nothing is in the way
        >>> Path("page.html").mkdir()
        >>> permit([Output(Path("page.html"), "report")])
        Traceback (most recent call last):
        kdprobe.errors.OutputError: page.html is in the way and is not a file; choose another --out
    """
    for output in outputs:
        try:
            output.path.lstat()
            if not output.path.is_file():
                raise OutputError(f"{output.path} is in the way and is not a file; choose another --out")
            if overwrite or interrupted(output.path) or not (objection := output.objection()):
                continue
        except FileNotFoundError:
            continue
        except OSError as error:
            raise FileError(error.errno, error.strerror or str(error), str(output.path)) from error
        raise OutputError(
            f"{output.path} already exists, {objection}; choose another --out, or give --overwrite to lose it"
        )


def write_sealed(
    path: Path, content: str | bytes, kind: str, *, tables: Mapping[str, str] | None = None, overwrite: bool = False
) -> None:
    """Write an output with its seal, and CSV tables beside it.

    Args:
        path: ends in .html, .svg, .md, .tex, .pdf or .png.
        content: the content without the seal.
        kind: what it is, in words.
        tables: CSV texts, by the ending that replaces that of `path` in their names.
        overwrite: the user consents to losing what is there.

    Raises:
        OutputError: if something else is in the way.
        FileError: if it cannot be written.

    Example:
        >>> from pathlib import Path
        >>> from kdprobe.formats import write_sealed
        >>> for words in ("one epoch", "two epochs"):  # what kdprobe wrote may be replaced
        ...     write_sealed(Path("page.html"), f"<p>{words}</p>", "report", tables={".csv": "epoch"})
        >>> Path("page.html").read_text()[:17], Path("page.csv").read_text().strip()
        ('<p>two epochs</p>', 'epoch')
    """
    permit([Output(path, kind), *tables_beside(path, kind, tables or ())], overwrite=overwrite)
    data = content.encode("utf-8", "backslashreplace") if isinstance(content, str) else content
    with beside(path, tables or {}) as digests, replacing(path) as temporary:
        temporary.write_bytes(sealed(data, kind, path.suffix, digests))


def tables_beside(
    path: Path,
    kind: str,
    keys: Iterable[str],
    seal: Callable[[], Seal | None] | None = None,
    of: Mapping[str, Any] | None = None,
) -> list[Output]:
    """The CSV files beside an output."""
    given = seal or (lambda: read_seal(path))
    return [Output(path.with_name(path.stem + key), kind, given, key, of) for key in keys]


@contextmanager
def beside(path: Path, tables: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Write CSV files while `path` is written inside the block: all or none, and `path` gets its name first.

    Args:
        path: the output that they belong to.
        tables: CSV texts, by the ending that replaces that of `path` in their names.

    Yields:
        the sha256 of each, for the seal.
    """
    with ExitStack() as stack:
        digests = {}
        for key, text in tables.items():
            temporary = stack.enter_context(replacing(path.with_name(path.stem + key)))
            temporary.write_bytes(safe_csv(text).encode("utf-8", "backslashreplace"))
            digests[key] = sha256(temporary)
        yield digests


def sealed(content: bytes, kind: str, suffix: str, beside: Mapping[str, str] = MappingProxyType({})) -> bytes:
    """A file's content with its seal.

    Args:
        content: the content without the seal.
        kind: what it is.
        suffix: ending of the file's name, which decides its format.
        beside: the sha256 of each CSV file beside it.
    """
    seal = {"kind": kind, "sha256": _digest(content), **({"beside": dict(beside)} if beside else {})}
    text = json.dumps(seal).replace("--", "\\u002d\\u002d").encode()  # which would end a comment
    if suffix == ".png":
        chunk = _KEYWORD + text
        framed = struct.pack(">I", len(text) + len(_KEYWORD) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
        return content[:-_END] + framed + content[-_END:]
    before, after = _COMMENTS[suffix.lower()]
    return content + before + _NAME + text + after


def read_seal(path: Path) -> Seal | None:
    """What a file says it is; None if it says nothing, or was changed since."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL))
            if (_KEYWORD if path.suffix == ".png" else _NAME) not in file.read():
                return None
        content, text = _unsealed(path.read_bytes(), path.suffix)
        seal = json.loads(text)
    except (OSError, ValueError, LookupError, RecursionError):
        return None
    return seal if isinstance(seal, dict) and seal.get("sha256") == _digest(content) else None


def _digest(content: bytes) -> str:
    import hashlib  # not at the top: helps and lists hash nothing

    return hashlib.sha256(content).hexdigest()


def _unsealed(data: bytes, suffix: str) -> tuple[bytes, bytes]:
    """Content and text of the seal."""
    if suffix == ".png":
        start = data.rindex(_KEYWORD)
        stop = len(data) - _END - 4
        return data[: start - 4] + data[-_END:], data[start + len(_KEYWORD) : stop]
    before, after = _COMMENTS[suffix.lower()]
    start = data.rindex(before + _NAME)
    return data[:start], data[start + len(before + _NAME) :].removesuffix(after)


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _worded(networks: Any) -> str:
    """Networks and data, as a seal names them."""
    if not isinstance(networks, dict) or not networks:
        return "other networks or data"
    return ", ".join(f"{key} {' and '.join(map(str, texts))}" for key, texts in networks.items())
