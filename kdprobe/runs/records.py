"""What the small files of a run hold, checked where they are read."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kdprobe.errors import RunError
from kdprobe.files import read_text, sha256
from kdprobe.formats.jsons import parse_json

#: what each line of `metrics.jsonl` holds at least
RECORDED = ("epoch", "images", "lr", "loss", "accuracy", "seconds")

_Count = Annotated[int, Field(ge=0, lt=2**53)]
_Share = Annotated[float, Field(ge=0, le=1)]
_Seconds = Annotated[float, Field(ge=0, lt=1e12)]


class _Stored(BaseModel):
    """A record of strict types; further fields are allowed."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)


class Epoch(_Stored):
    """A line of `metrics.jsonl`; the loss is null if none was finite, the accuracy without labels.

    Its epoch is the number of the line.
    """

    images: _Count
    lr: float
    loss: float | None
    accuracy: _Share | None
    seconds: _Seconds
    terms: dict[str, float | None] = {}


class RunResult(_Stored):
    """`result.json`; the results of tasks other than training have some of these fields.

    Without labels, what was evaluated and how well is null. Sizes are sides in pixels: of the student's and the
    teacher's input, and of the views that both are made from.
    """

    model: str = ""
    method: str = ""
    teacher: str | None = None
    teacher_sha256: str | None = None
    data: str = ""
    data_sha256: str | None = None
    image_size: _Count | None = None
    view_size: _Count | None = None
    teacher_image_size: _Count | None = None
    weights: str | None = None
    weights_sha256: str | None = None
    evaluated_on: str | None = ""
    evaluated_images: _Count = 0
    seed: Annotated[int, Field(ge=0, lt=2**64)] = 0
    epochs: _Count = 0
    images_seen: _Count = 0
    teacher_images: _Count = 0
    accuracy: _Share | None = 0.0
    best_accuracy: Annotated[float, Field(ge=-1, le=1)] | None = 0.0
    best_epoch: _Count | None = 0
    parameters: _Count = 0
    auxiliary_parameters: _Count = 0
    seconds: _Seconds = 0.0
    sha256: dict[str, str] = {}


def weights_problem(folder: Path, result: Mapping[str, Any], *, hashed: bool = False) -> str:
    """What is wrong with the weights that a result names, in words; empty if nothing is.

    Snapshots and auxiliary modules may be missing, because users remove them to save space; those that exist must be
    unchanged.

    Args:
        folder: the run's folder.
        result: the run's result; without hashes, as for a task that leaves no weights, it names none.
        hashed: read the files and compare their hashes, instead of only checking that they exist and are not cut.
    """
    for name, digest in result.get("sha256", {}).items():
        pure, path = PurePosixPath(name), folder / name
        if pure.is_absolute() or ".." in pure.parts:
            return f"its result.json names weights outside its folder, {name!r:.80}"
        if not os.path.isfile(path):
            if pure.parts[:1] != ("snapshots",) and name != "auxiliary.safetensors":
                return f"its {name:.80} is missing"
        elif _is_cut(path):
            return f"its {name:.80} is damaged: it does not have the length that its header says"
        elif hashed and (wrong := _difference(path, digest)):
            return f"its {name:.80} is damaged or of another run: {wrong}"
    return ""


def _is_cut(path: Path) -> bool:
    """Whether a safetensors file is shorter or longer than it says, which is seen without reading its tensors."""
    from safetensors import SafetensorError, safe_open

    if path.suffix != ".safetensors":
        return False
    try:
        with safe_open(path, framework="numpy"):
            return False
    except (SafetensorError, OSError):
        return True


def _difference(path: Path, digest: str) -> str:
    try:
        found = sha256(path)
    except OSError as error:
        return f"it cannot be read ({error.strerror})"
    return "" if found == digest else f"its sha256 is {found}, but result.json says {digest:.80}"


def lacking(record: type[_Stored], values: Any, needed: Iterable[str] = ()) -> str:
    """What is wrong with a record, in words; empty if nothing is.

    Args:
        record: what it should be.
        values: what was read.
        needed: further keys that must be there.
    """
    if not isinstance(values, dict):
        return f"it is a {type(values).__name__}, not a mapping"
    if missing := [key for key in needed if key not in values]:
        return f"it lacks {', '.join(missing)}"
    try:
        record.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg'][:1].lower()}{first['msg'][1:]}"
    return ""


def text_of(path: Path) -> str:
    """A small file of a run as text.

    Raises:
        RunError: if it is not UTF-8.
    """
    try:
        return read_text(path)
    except UnicodeDecodeError as error:
        raise RunError(f"{path} is damaged: it is not UTF-8 text") from error


def read_epochs(path: Path) -> list[dict[str, Any]]:
    """All whole lines of a `metrics.jsonl`, of epochs 1, 2, 3, ...; none where there is no file.

    Raises:
        RunError: naming a line that is damaged, or of another epoch.
    """
    if not path.is_file():
        return []
    *lines, _ = text_of(path).split("\n")  # a line that a kill cut short has no end
    return [_epoch(line, number, f"{path} is damaged in line {number}") for number, line in enumerate(lines, start=1)]


def _epoch(line: str, number: int, damage: str) -> dict[str, Any]:
    try:
        record: dict[str, Any] = parse_json(line, finite=True)
    except ValueError as error:
        raise RunError(f"{damage}: it is not JSON ({error})") from error
    if wrong := lacking(Epoch, record, RECORDED):
        raise RunError(f"{damage}: {wrong}")
    if type(record["epoch"]) is not int or record["epoch"] != number:
        raise RunError(f"{damage}: it must be of epoch {number}, but is of epoch {record['epoch']!r}")
    return record
