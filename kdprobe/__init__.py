"""kdprobe: train students by knowledge distillation and look inside both networks.

The public names are loaded on first use, so that importing the package costs nothing.
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kdprobe.cli.entry import main as main
    from kdprobe.errors import KdprobeError as KdprobeError
    from kdprobe.features.capturing import capture as capture
    from kdprobe.features.store import FeatureStore as FeatureStore
    from kdprobe.models.checkpoint import load as load
    from kdprobe.models.description import describe as describe
    from kdprobe.training.distillation import Distillation as Distillation

__version__ = "0.1.0"
__all__ = ["Distillation", "FeatureStore", "KdprobeError", "capture", "describe", "load", "main"]


def face(package: str, homes: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of a package whose public names are loaded on first use.

    Args:
        package: its name.
        homes: the module that defines each public name.
    """

    def load_name(name: str) -> Any:
        if name not in homes:
            from kdprobe.errors import meant

            raise AttributeError(f"module {package!r} has no attribute {name!r}{meant(name, homes)}")
        try:
            module = import_module(homes[name])
        except AttributeError as error:  # which `from package import name` would swallow
            raise ImportError(f"{homes[name]} cannot be imported: {error}") from error
        return getattr(module, name)

    return load_name, lambda: sorted(homes)


__getattr__, __dir__ = face(
    __name__,
    {
        "Distillation": "kdprobe.training.distillation",
        "FeatureStore": "kdprobe.features.store",
        "KdprobeError": "kdprobe.errors",
        "capture": "kdprobe.features.capturing",
        "describe": "kdprobe.models.description",
        "load": "kdprobe.models.checkpoint",
        "main": "kdprobe.cli.entry",
    },
)
