"""What the small files of a run hold, checked where they are read."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kdprobe.errors import RunError
from kdprobe.files import read_text
from kdprobe.formats.jsons import parse_json

#: what each line of `metrics.jsonl` holds at least
RECORDED = ("epoch", "images", "lr", "loss", "accuracy", "seconds")

_Count = Annotated[int, Field(ge=0, lt=2**53)]
_Share = Annotated[float, Field(ge=0, le=1)]
_Seconds = Annotated[float, Field(ge=0, lt=1e12)]


class _Stored(BaseModel):
    """Numbers are numbers and texts are texts; what is not named here may be there too."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)


class Epoch(_Stored):
    """A line of `metrics.jsonl`; the loss is null where none was finite. Its epoch is its place."""

    images: _Count
    lr: float
    loss: float | None
    accuracy: _Share
    seconds: _Seconds
    terms: dict[str, float | None] = {}


class RunResult(_Stored):
    """`result.json`, of which the results of other tasks than a training have a part."""

    model: str = ""
    method: str = ""
    teacher: str | None = None
    teacher_sha256: str | None = None
    data: str = ""
    data_sha256: str | None = None
    evaluated_on: str = ""
    evaluated_images: _Count = 0
    seed: Annotated[int, Field(ge=0, lt=2**64)] = 0
    epochs: _Count = 0
    images_seen: _Count = 0
    accuracy: _Share = 0.0
    best_accuracy: Annotated[float, Field(ge=-1, le=1)] = 0.0
    best_epoch: _Count = 0
    parameters: _Count = 0
    auxiliary_parameters: _Count = 0
    seconds: _Seconds = 0.0
    sha256: dict[str, str] = {}


def lacking(record: type[_Stored], values: Any, needed: Iterable[str] = ()) -> str:
    """What is wrong with a record, in words; empty if nothing is.

    Args:
        record: what it should be.
        values: what was read.
        needed: keys that must be there besides the record's own.
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
