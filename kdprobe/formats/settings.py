"""What was tuned, in words."""

from collections.abc import Mapping
from typing import Any


def worded_settings(settings: Mapping[str, Any]) -> str:
    """Dotted keys and values in one line: `lr=0.05 kd_weight=0.3`."""
    return " ".join(
        f"{key.rpartition('.')[2]}={f'{value:.4g}' if isinstance(value, float) else value}"
        for key, value in settings.items()
    )
