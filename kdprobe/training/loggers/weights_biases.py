"""Weights & Biases, offline unless the environment says otherwise."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kdprobe.errors import ConfigError
from kdprobe.training.loggers.run_id import run_id


class WeightsAndBiases:
    """Files in the folder `wandb` of the run, which `wandb sync` uploads; online where `WANDB_MODE` is `online`.

    All processes of a run have one id. Each writes all epochs, so that offline the newest file alone is the whole run;
    online only those are sent that the server does not have.

    Raises:
        ConfigError: if W&B is not installed.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        try:
            import wandb
        except ImportError as error:
            raise ConfigError("Weights & Biases is not installed: pip install 'kdprobe[wandb]'") from error
        self._wandb, self._folder, self._settings = wandb, folder, settings
        self._run: Any = None

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Log an epoch as a step; the first one opens the run."""
        if self._run is None:
            self._run = self._opened()
        if not self._run.resumed or step >= self._run.starting_step:
            self._run.log(dict(values), step=step, commit=True)

    def _opened(self) -> Any:
        wandb = self._wandb
        return wandb.init(
            project=os.environ.get("WANDB_PROJECT", "kdprobe"),
            name=os.environ.get("WANDB_NAME", self._folder.resolve().name),
            dir=str(self._folder),
            id=run_id(self._folder),
            resume="allow",
            mode=os.environ.get("WANDB_MODE", "offline"),
            config=dict(self._settings),
            # the terminal is the training's, and what it says is not what is measured
            settings=wandb.Settings(silent=True, console="off", x_disable_stats=True),
        )

    def close(self) -> None:
        """Write what is left."""
        if self._run is not None:
            self._run.finish()
