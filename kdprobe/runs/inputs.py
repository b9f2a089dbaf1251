"""Which teacher, which data and which first weights: identified by their content, not by their path."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kdprobe.errors import RunError
from kdprobe.files import read_text, write_text
from kdprobe.formats.jsons import parse_json
from kdprobe.formats.parsing import parsing

FORMAT = "kdprobe-inputs"
VERSION = 1


@dataclass(frozen=True)
class Inputs:
    """The sha256 of what a training learns from; None if there is none, or if it is not known.

    Attributes:
        teacher: sha256 of the teacher's weights.
        data: sha256 of the data set's images, labels and classes.
        weights: sha256 of the weights file that it starts from; None also once it has begun.

    Example:
        >>> from kdprobe.runs import Inputs
        >>> before, now = Inputs(teacher="ab", data="01"), Inputs(teacher="cd", data="01")
        >>> before.changes(now, teacher="vit.safetensors", data="digits")
        ['the teacher vit.safetensors had the sha256 ab, but now it is cd']
    """

    teacher: str | None = None
    data: str | None = None
    weights: str | None = None

    def changes(self, now: "Inputs", *, teacher: object, data: object, weights: object = None) -> list[str]:
        """A sentence about each input that has changed, naming both hashes.

        Args:
            now: the inputs as they are now.
            teacher: the teacher's path.
            data: the data SPEC.
            weights: path of the weights that it starts from.
        """
        pairs = (
            (f"the teacher {teacher}", self.teacher, now.teacher),
            (f"the data {data}", self.data, now.data),
            (f"the weights {weights}", self.weights, now.weights),
        )
        return [
            f"{what} had the sha256 {before}, but now it is {after}"
            for what, before, after in pairs
            if before is not None and after is not None and before != after
        ]

    def same(self, now: "Inputs") -> set[str]:
        """The keys of a configuration that name inputs whose content is known to be unchanged."""
        pairs = {
            "teacher": (self.teacher, now.teacher),
            "data.spec": (self.data, now.data),
            "model.weights": (self.weights, now.weights),
        }
        return {key for key, (before, after) in pairs.items() if before is not None and before == after}

    def write(self, path: Path) -> None:
        """Write them as JSON."""
        hashes = {key: value for key, value in asdict(self).items() if value is not None or key != "weights"}
        write_text(path, json.dumps({"format": FORMAT, "version": VERSION, **hashes}, indent=1) + "\n")


def read_inputs(path: Path) -> Inputs | None:
    """What `Inputs.write` wrote; None if there is no file.

    Raises:
        RunError: if the file is damaged or foreign.
    """
    if not path.is_file():
        return None
    with parsing(path, RunError, expected="the sha256 of a run's teacher and data"):
        return from_json(parse_json(read_text(path)), path)


def from_json(values: Any, source: Path) -> Inputs:
    """Inputs from parsed JSON.

    Raises:
        RunError: if it does not hold inputs.
    """
    known = {"format": FORMAT, "version": VERSION}
    if not isinstance(values, dict) or {key: values.get(key) for key in known} != known:
        raise RunError(f"{source} does not hold {FORMAT!r} version {VERSION}")
    hashes = {key: values.get(key) for key in ("teacher", "data", "weights")}
    if wrong := [key for key, value in hashes.items() if not isinstance(value, str | None)]:
        raise RunError(f"{source} is damaged: {wrong[0]} must be a sha256, but is {hashes[wrong[0]]!r}")
    return Inputs(**hashes)
