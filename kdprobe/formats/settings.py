"""What was tuned, in words."""

from collections.abc import Mapping
from typing import Any


def worded_settings(settings: Mapping[str, Any]) -> str:
    """Dotted keys and values in one line, those of the training first: `lr=0.05 kd_weight=0.3`."""
    ordered = sorted(settings.items(), key=lambda item: (not item[0].startswith("training."), item[0]))
    return " ".join(
        f"{key.rpartition('.')[2]}={f'{value:.4g}' if isinstance(value, float) else value}" for key, value in ordered
    )
