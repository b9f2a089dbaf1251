"""kdprobe: train students by knowledge distillation and look inside both networks.

The public names are loaded on first use, so that importing the package costs nothing.
"""

from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_PUBLIC = {
    "load": "kdprobe.models.checkpoint",
    "capture": "kdprobe.features.capturing",
    "FeatureStore": "kdprobe.features.store",
    "KdprobeError": "kdprobe.errors",
}

__all__ = ["FeatureStore", "KdprobeError", "capture", "load", "main"]

if TYPE_CHECKING:
    from kdprobe.errors import KdprobeError as KdprobeError
    from kdprobe.features.capturing import capture as capture
    from kdprobe.features.store import FeatureStore as FeatureStore
    from kdprobe.models.checkpoint import load as load


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line, such as `["train", "digits/resnet8"]`, as the console script does.

    Args:
        arguments: of `kdprobe`; those of this process if not given.

    Returns:
        the exit status: 0 if it succeeded; every error that a user can cause is one line on standard error.
    """
    from kdprobe.cli.entry import exit_status

    return exit_status(arguments)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'kdprobe' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
