"""What was tuned, in words."""

from collections.abc import Mapping
from typing import Any


def worded_values(settings: Mapping[str, Any]) -> dict[str, str]:
    """Values as text, by the last parts of their dotted keys; those of the training first."""
    ordered = sorted(settings.items(), key=lambda item: (not item[0].startswith("training."), item[0]))
    return {
        key.rpartition(".")[2]: f"{value:.4g}" if isinstance(value, float) else str(value) for key, value in ordered
    }


def worded_settings(settings: Mapping[str, Any]) -> str:
    """The same in one line: `lr=0.05 kd_weight=0.3`."""
    return " ".join(f"{key}={value}" for key, value in worded_values(settings).items())
