"""The errors that a user can cause, each reported in one sentence.

The command line prints a `KdprobeError` as one line and exits with status 2; every other
exception is a defect of ours and keeps its traceback.
"""

from collections.abc import Iterable


class KdprobeError(Exception):
    """Base of every error that says what was wrong, what was seen and what is allowed.

    Attributes:
        status: exit status of the command line.

    Example:
        >>> import kdprobe
        >>> from kdprobe.results import load_result
        >>> try:
        ...     load_result("nowhere.npz")
        ... except kdprobe.KdprobeError as error:
        ...     print(error)
        there is no result nowhere.npz
    """

    status = 2


class ConfigError(KdprobeError):
    """A configuration, recipe or command-line option that cannot be used."""


class DataError(KdprobeError):
    """A data set that is missing, empty, damaged or of another shape than promised."""


class NoTestImages(DataError):
    """A data set without test images, and with none held out."""


class ModelError(KdprobeError):
    """A network that is unknown or does not offer what is asked of it."""


class CheckpointError(KdprobeError):
    """A checkpoint that is missing, damaged, foreign or unsafe to load."""


class ExportError(KdprobeError):
    """A network that cannot be exported, or a file that is not the network."""


class CaptureError(KdprobeError):
    """A layer that is unknown or whose output cannot be captured."""


class TrustError(KdprobeError):
    """Code that a received file names and that is not trusted."""


class StoreError(KdprobeError):
    """A feature file that is missing, foreign, partial or damaged."""


class FileError(KdprobeError, OSError):
    """A file that the system does not let be written: number and text of its reason, and the file."""

    def __str__(self) -> str:
        return f"{self.filename} cannot be written: {self.strerror}"


class OutputError(KdprobeError):
    """A file that would be overwritten, but that kdprobe did not write as this output."""


class ResultError(KdprobeError):
    """A saved result that is missing, foreign or of another kind."""


class RunError(KdprobeError):
    """A run folder that is missing, taken, or cannot be continued."""


class Diverged(RunError):
    """A training whose loss or logits are not finite."""


class WeightsLost(RunError):
    """A run whose weights, of epochs that are done, are missing or damaged."""


class SweepError(KdprobeError):
    """A sweep's folder or engine that cannot be used, or cells that failed."""


class Stopped(RunError):
    """A run that was asked to stop and saved what it needs to continue."""

    status = 130


class AnalysisError(KdprobeError):
    """Inputs for which a quantity is not defined."""


class Undefined(AnalysisError):
    """A quantity that is not defined for some features, with the reason; for others of the same analysis it may be."""


class DeviceError(KdprobeError):
    """A device that does not exist on this machine."""


_LONGEST = 200  # characters: longer names are not compared, and are shown cut off


def near_matches(name: str, choices: Iterable[str], *, limit: int = 3) -> str:
    """Suggest alternatives to a mistyped name, in words.

    Args:
        name: what was given.
        choices: the names that exist.
        limit: the most near matches to show.

    Returns:
        `"; did you mean 'a' or 'b'?"` where something is near, else `"; known: ..."` with up
        to twelve names.
    """
    names = sorted(set(choices))
    if close := meant(name, names, limit=limit):
        return close
    shown = ", ".join(map(_short, names[:12])) + (", ..." if len(names) > 12 else "")
    return f"; known: {shown}" if names else ""


def meant(name: str, choices: Iterable[str], *, limit: int = 3) -> str:
    """As `near_matches`, for what may also have a name that is not among `choices`: empty where nothing is near."""
    from difflib import get_close_matches  # not at the top: a help looks for no matches

    alike = sorted({choice for choice in choices if max(len(choice), len(name)) <= _LONGEST})  # by every two letters
    close = get_close_matches(name, alike, n=limit, cutoff=0.6) if alike else []
    return "; did you mean " + " or ".join(map(repr, close)) + "?" if close else ""


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST else f"{name[:_LONGEST]}..."
