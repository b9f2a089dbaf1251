"""Where a run's teacher, data and first weights are, and what to give if they have moved."""

import os
from collections.abc import Iterator
from pathlib import Path

from kdprobe.config import RunConfig
from kdprobe.data import DATASETS
from kdprobe.errors import RunError


def require_inputs(
    config: RunConfig, whose: str | Path, *, download: bool = False, begun: bool = False, what: str = "go on"
) -> None:
    """Check that what a run or sweep that is to go on learns from is still where it was.

    Args:
        config: the run's.
        whose: folder of the run or sweep.
        download: whether data that are not there are fetched.
        begun: whether all that it trains has begun, so that nothing starts from the first weights any more.
        what: what it cannot do without.

    Raises:
        RunError: naming each input that is not there, and the option that says where it is now.
    """
    if missing := [*_missing(config, download=download, begun=begun)]:
        raise RunError(
            f"{whose} cannot {what}: {' and '.join(missing)}; what moved is known by its content, and other content is "
            "refused"
        )


def _missing(config: RunConfig, *, download: bool, begun: bool) -> Iterator[str]:
    if config.teacher is not None and (teacher := missing_teacher(config.teacher)):
        yield teacher
    if not begun and missing_weights(config):
        yield (
            f"its first weights {config.model.weights} are not there, say with --set model.weights=FILE where they are "
            "now"
        )
    name, _, place = config.data.spec.partition(":")
    if name in DATASETS and place and not download and _gone(os.path.expanduser(place)):
        yield f"its data {config.data.spec} are not there, say with --data {name}:DIR where they are now"


def missing_weights(config: RunConfig) -> bool:
    """Whether the weights that a run starts from are not where they were."""
    weights = config.model.weights
    return weights is not None and _gone(weights) and _gone(weights.rpartition("#")[0])


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
