"""Where a run's teacher and data are, and what to give if they have moved."""

import os
from collections.abc import Iterator
from pathlib import Path

from kdprobe.config import RunConfig
from kdprobe.data import DATASETS
from kdprobe.errors import RunError


def require_inputs(config: RunConfig, whose: str | Path, *, download: bool = False) -> None:
    """Check that the teacher and the data of a run or sweep that is to go on are still where they were.

    Args:
        config: the run's.
        whose: folder of the run or sweep.
        download: whether data that are not there are fetched.

    Raises:
        RunError: naming each input that is not there, and the option that says where it is now.
    """
    if missing := [*_missing(config, download=download)]:
        raise RunError(
            f"{whose} cannot go on: {' and '.join(missing)}; what moved is known by its content, and other content is "
            "refused"
        )


def _missing(config: RunConfig, *, download: bool) -> Iterator[str]:
    if config.teacher is not None and (teacher := missing_teacher(config.teacher)):
        yield teacher
    name, _, place = config.data.spec.partition(":")
    if name in DATASETS and place and not download and _gone(os.path.expanduser(place)):
        yield f"its data {config.data.spec} are not there, say with --data {name}:DIR where they are now"


def missing_teacher(teacher: str) -> str:
    """That a run's teacher is not where it was, in words; empty if it is."""
    places = {teacher, teacher.partition("@")[2]}
    places |= {place.rpartition("#")[0] for place in places}
    if teacher.startswith("timm:") or not all(map(_gone, places)):
        return ""
    return f"its teacher {teacher} is not there, say with --teacher CKPT where it is now"


def _gone(place: str) -> bool:
    """Whether there is nothing, or an empty folder, as is left where a disk is no longer mounted."""
    try:
        return not (place and os.path.exists(place)) or (os.path.isdir(place) and not os.listdir(place))
    except (OSError, ValueError):
        return False  # reading it will say what is wrong with it
