"""What was compared, on what and with which versions; and the command behind each result."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdprobe.kinds import KINDS
from kdprobe.results import Result

_APART = ("versions", "command")  # provenance that is shown in places of its own


@dataclass(frozen=True)
class Origin:
    """Where a result comes from.

    Attributes:
        kind: the result's kind.
        path: its file.
        command: what made it; empty if none is stored.
        facts: the rest of its provenance.
    """

    kind: str
    path: str
    command: str
    facts: dict[str, Any]


def tiles(results: Sequence[tuple[str, Result]]) -> list[tuple[str, str]]:
    """The facts of all results, each with a name of its own, at a glance: their names and values."""
    named = [one for one in results if one[1].kind in KINDS]  # elsewhere the same names may mean anything
    known = [result for _, result in named]
    found = [
        ("Data", _where([(name, [result.facts.get("data")]) for name, result in named])),
        ("Teacher", _teachers(known)),
        ("Students", _students(known)),
        ("Methods", _distinct([*_listed(known, "methods"), *_groups(known, "student")])),
        ("Controls", _distinct(_groups(known, "control"))),
        ("Seeds", _distinct(sorted(_listed(known, "seeds"), key=_by_number))),
        ("Epochs", _epochs(results)),
        ("Images", _where([(name, _images(result)) for name, result in named])),
        ("Input", _distinct(_sizes(known))),
        ("Results", [str(len(results))]),
    ]
    return [(label, _enumerated(values)) for label, values in found if values]


def package_versions(results: Sequence[Result]) -> str:
    """Packages with their versions; with several if results differ."""
    found: dict[str, list[Any]] = {}
    for result in results:
        for package, version in result.provenance.get("versions", {}).items():
            found.setdefault(package, []).append(version)
    return ", ".join(f"{package} {' and '.join(_distinct(of_package))}" for package, of_package in found.items())


def origins(results: Iterable[tuple[Path, Result]]) -> list[Origin]:
    """Each result's file, command and origin."""
    return [
        Origin(
            result.kind,
            str(path),
            str(result.provenance.get("command") or ""),
            {key: value for key, value in result.provenance.items() if key not in _APART},
        )
        for path, result in results
    ]


def _teachers(results: Sequence[Result]) -> list[str]:
    """Models; if the results know only the teacher's run, the name of its folder."""
    found = _distinct(_model(result.provenance.get("teacher")) or result.facts.get("teacher") for result in results)
    models = [name for name in found if "/" not in name]
    return models or _distinct(Path(name).name for name in found)


def _students(results: Sequence[Result]) -> list[str]:
    """Networks that are compared with another one, by whichever analysis."""
    named = [name for result in results for name in result.facts.get("students", [result.facts.get("student")])]
    return _distinct(name for name in named if name)


def _model(origin: Any) -> str | None:
    return origin.get("model") if isinstance(origin, dict) else None


def _groups(results: Sequence[Result], role: str) -> list[str]:
    """The methods whose fidelity was measured, as students or as controls."""
    found = (result.facts for result in results if result.kind == "fidelity")
    return [
        name
        for facts in found
        for name, its_role in zip(facts["groups"], facts["group_roles"], strict=True)
        if its_role == role
    ]


def _epochs(results: Sequence[tuple[str, Result]]) -> list[str]:
    """For how many epochs the runs with known curves were trained; in which result, where results differ."""
    found = {name: _trained(result.arrays) for name, result in results if result.kind == "training"}
    if len(set(found.values())) <= 1:
        return list(dict.fromkeys(found.values()))
    return [f"{epochs} ({name})" for name, epochs in found.items() if epochs]


def _trained(arrays: Mapping[str, NDArray[Any]]) -> str:
    """The different numbers of epochs of runs, such as "2, 12"; empty if none has any."""
    trained = ~np.isnan(arrays["accuracy"])
    return ", ".join(map(str, sorted({int(arrays["epoch"][row].max()) for row in trained if row.any()})))


def _sizes(results: Sequence[Result]) -> Iterator[str]:
    """How large the images are that the networks see: those of a pair, or of what runs trained."""
    for result in results:
        pair = {who: _size(result.provenance.get(who)) for who in ("student", "teacher")}
        for sizes in (pair, *result.facts.get("sizes", [])):
            student, teacher = (sizes.get(who) for who in ("student", "teacher"))
            if student and teacher and student != teacher:
                yield f"student {student} px, teacher {teacher} px"
            elif student or teacher:
                yield f"{student or teacher} px"


def _size(network: Any) -> int | None:
    return network.get("image_size") if isinstance(network, dict) else None


def _listed(results: Sequence[Result], fact: str) -> list[Any]:
    return [item for result in results for item in result.facts.get(fact, [])]


def _by_number(seed: Any) -> tuple[float, str]:
    return (seed if isinstance(seed, int) else math.inf), str(seed)


def _images(result: Result) -> list[Any]:
    n_images = result.facts.get("n_images")
    counts = [result.facts.get("n_samples"), *(n_images if isinstance(n_images, list) else [n_images])]
    return [*counts, *([result.arrays["targets"].size] if "targets" in result.arrays else [])]


def _where(found: Sequence[tuple[str, Sequence[Any]]], most: int = 3) -> list[str]:
    """The different values; of several, each with the names of the results that have it."""
    names: dict[str, list[str]] = {}
    for name, values in found:
        for value in _distinct(values):
            names.setdefault(value, []).append(name)
    if len(names) < 2:
        return list(names)
    return [
        f"{value} ({', '.join(of[:most])}{f' and {len(of) - most} more' if len(of) > most else ''})"
        for value, of in names.items()
    ]


def _distinct(values: Iterable[Any]) -> list[str]:
    return list(dict.fromkeys(str(value) for value in values if value is not None))


def _enumerated(values: Sequence[str], most: int = 8) -> str:
    between = "; " if any("," in value for value in values) else ", "
    return between.join(values[:most]) + (f" and {len(values) - most} more" if len(values) > most else "")
