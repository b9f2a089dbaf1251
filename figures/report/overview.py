"""What was compared, on what, with which versions; and the command behind each result."""

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from figures.report.chart import breakable
from kdprobe.results import Result

_APART = ("versions", "command")  # of the provenance: shown in places of their own


def overview(results: Sequence[Result]) -> str:
    """The first section's HTML: facts in tiles, versions in a line."""
    tiles = [
        ("Data", _distinct(result.facts.get("data") for result in results)),
        ("Teacher", _teachers(results)),
        ("Students", _distinct(_students(results))),
        ("Methods", _distinct(_listed(results, "methods"))),
        ("Seeds", _distinct(_listed(results, "seeds"))),
        ("Epochs", _distinct(_epochs(results))),
        ("Images", _distinct(_images(results))),
        ("Results", [str(len(results))]),
    ]
    body = "".join(
        f"<div><dt>{label}</dt><dd>{breakable(_enumerated(values))}</dd></div>" for label, values in tiles if values
    )
    return f'<dl class="tiles">{body}</dl>{_versions(results)}'


def reproduce(results: Iterable[tuple[Path, Result]]) -> str:
    """The last section's HTML: each result's file, command and origin."""
    return "".join(_origin(path, result) for path, result in results)


def _origin(path: Path, result: Result) -> str:
    command = result.provenance.get("command")
    shown = (
        f"<pre tabindex='0'><code>{escape(str(command))}</code></pre>" if command else "<p>No command is stored.</p>"
    )
    rest = [(key, value) for key, value in result.provenance.items() if key not in _APART]
    pairs = "".join(f"<div><dt>{escape(key)}</dt><dd>{_value(value)}</dd></div>" for key, value in rest)
    origin = f'<details><summary>Origin</summary><dl class="origin">{pairs}</dl></details>' if pairs else ""
    heading = f'<h3><span class="kind">{escape(result.kind)}</span> {escape(str(path))}</h3>'
    return f"<article>{heading}{shown}{origin}</article>"


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "<br>".join(f"{escape(str(key))}: {_value(item)}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(_value(item) for item in value)
    return escape(str(value))


def _versions(results: Sequence[Result]) -> str:
    found: dict[str, list[Any]] = {}
    for result in results:
        for package, version in result.provenance.get("versions", {}).items():
            found.setdefault(package, []).append(version)
    told = ", ".join(f"{package} {' and '.join(_distinct(versions))}" for package, versions in found.items())
    return f'<p class="versions">{escape(told)}</p>' if told else ""


def _teachers(results: Sequence[Result]) -> list[str]:
    """Models; where results know nothing but the teacher's run, the name of its folder."""
    found = _distinct(result.facts.get("teacher") for result in results)
    models = [name for name in found if "/" not in name]
    return models or _distinct(Path(name).name for name in found)


def _students(results: Sequence[Result]) -> list[Any]:
    return [result.facts.get("student") for result in results if result.kind == "cka"]


def _epochs(results: Sequence[Result]) -> list[int]:
    """How long the runs whose curves are known were trained."""
    found = set()
    for result in results:
        if result.kind == "training" and {"epoch", "accuracy"} <= result.arrays.keys():
            trained = ~np.isnan(result.arrays["accuracy"])
            found |= {int(result.arrays["epoch"][row].max()) for row in trained if row.any()}
    return sorted(found)


def _listed(results: Sequence[Result], fact: str) -> list[Any]:
    return [item for result in results for item in result.facts.get(fact, [])]


def _images(results: Sequence[Result]) -> list[Any]:
    counts = [result.facts.get("n_samples") for result in results]
    counts += [result.arrays["targets"].size for result in results if "targets" in result.arrays]
    return sorted({count for count in counts if count is not None})


def _distinct(values: Iterable[Any]) -> list[str]:
    return list(dict.fromkeys(str(value) for value in values if value is not None))


def _enumerated(values: Sequence[str], most: int = 8) -> str:
    return ", ".join(values[:most]) + (f" and {len(values) - most} more" if len(values) > most else "")
