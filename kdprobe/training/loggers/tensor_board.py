"""Event files for TensorBoard."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kdprobe.errors import ConfigError


class TensorBoard:
    """Event files in the folder `tensorboard` of the run.

    TensorBoard leaves out what earlier processes of the run wrote, as the later ones are told all of it again.

    Raises:
        ConfigError: if TensorBoard is not installed.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ConfigError("TensorBoard is not installed: pip install 'kdprobe[tensorboard]'") from error
        self._open, self._folder, self._settings = SummaryWriter, folder / "tensorboard", settings
        self._opened: Any = None

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Add one point to each curve; the first one creates the folder."""
        if self._opened is None:
            self._opened = self._open(str(self._folder), purge_step=step)
            rows = "\n".join(f"| {key} | {value} |" for key, value in self._settings.items())
            self._opened.add_text("configuration", f"| key | value |\n|---|---|\n{rows}", step)
        for name, value in values.items():
            self._opened.add_scalar(name, value, step)
        self._opened.flush()

    def close(self) -> None:
        """Close the event file."""
        if self._opened is not None:
            self._opened.close()
