"""Reading JSON from files, in one place."""

import json
import math
from pathlib import Path
from typing import Any

from kdprobe.errors import KdprobeError
from kdprobe.files import read_text
from kdprobe.formats.parsing import parsing

_DEEPEST = 100  # levels; no file of kdprobe's has more than ten
_LARGEST = 2**64  # of whole numbers: seeds are the largest that are stored


def read_json(path: str | Path, error: type[KdprobeError], *, expected: str) -> Any:
    """Read a file of UTF-8 JSON text.

    Args:
        path: the file.
        error: the class to raise.
        expected: what the file should be, with an article.

    Raises:
        KdprobeError: of the given class, naming the file, if it cannot be read or `parse_json` refuses it.

    Example:
        >>> from pathlib import Path
        >>> from kdprobe import KdprobeError
        >>> from kdprobe.formats import read_json
        >>> _ = Path("facts.json").write_text('{"seed": 1}')
        >>> read_json("facts.json", KdprobeError, expected="facts")
        {'seed': 1}
    """
    with parsing(path, error, expected=expected):
        return parse_json(read_text(Path(path)), finite=True)


def parse_json(text: str, *, finite: bool = False) -> Any:
    """Read JSON text in which each key of a mapping appears once.

    Args:
        text: as `json.dumps` writes it.
        finite: refuse NaN and numbers too large for a float.

    Raises:
        ValueError: for anything else, and for deeper nesting or larger whole numbers than kdprobe ever writes.

    Example:
        >>> from kdprobe.formats import parse_json
        >>> parse_json('{"seed": 1, "seed": 2}')
        Traceback (most recent call last):
        ValueError: the key 'seed' appears twice
    """
    try:
        value = json.loads(
            text, object_pairs_hook=_mapping, parse_int=_whole, parse_float=_finite if finite else float,
            parse_constant=_no_constant if finite else float,
        )  # fmt: skip
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    _check_depth(value, _DEEPEST)
    return value


def _mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(name for name in names if names.count(name) > 1)!r} appears twice")
    return found


def _whole(text: str) -> int:
    value = int(text) if len(text) <= 21 else _LARGEST
    if abs(value) >= _LARGEST:
        raise ValueError(f"the number {text[:24]} is too large")
    return value


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text[:24]} is too large")
    return value


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is not a number")


def _check_depth(value: Any, left: int) -> None:
    if not left:
        raise ValueError("it is nested too deeply")
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            _check_depth(item, left - 1)
