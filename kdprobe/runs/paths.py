"""Where the files of a run are in its folder."""

import re
from dataclasses import dataclass
from pathlib import Path

from kdprobe.files import sha256

LOCK = "training.lock"


@dataclass(frozen=True)
class RunPaths:
    """Where the files of one run are.

    Attributes:
        path: the folder.
    """

    path: Path

    def __post_init__(self) -> None:
        """Accept a path that is text as well."""
        object.__setattr__(self, "path", Path(self.path))

    @property
    def config_path(self) -> Path:
        """The resolved configuration."""
        return self.path / "config.yaml"

    @property
    def lock_path(self) -> Path:
        """Held while a process trains in the folder."""
        return self.path / LOCK

    @property
    def inputs_path(self) -> Path:
        """Which teacher and which data the run learns from."""
        return self.path / "inputs.json"

    @property
    def metrics_path(self) -> Path:
        """One JSON line per epoch."""
        return self.path / "metrics.jsonl"

    @property
    def state_path(self) -> Path:
        """Everything needed to continue."""
        return self.path / "state.pt"

    @property
    def result_path(self) -> Path:
        """The final numbers."""
        return self.path / "result.json"

    @property
    def failure_path(self) -> Path:
        """Why the run has no result, if its loss or its logits were not finite."""
        return self.path / "failure.txt"

    def snapshot_path(self, epoch: int) -> Path:
        """The network after this number of epochs."""
        return self.path / "snapshots" / f"epoch-{epoch:04d}.safetensors"

    def snapshots(self) -> dict[int, Path]:
        """The networks that were kept during training, by the number of epochs trained."""
        paths = sorted((self.path / "snapshots").glob("epoch-*.safetensors"))
        epochs = {path.stem.removeprefix("epoch-"): path for path in paths}
        return {int(epoch): path for epoch, path in epochs.items() if re.fullmatch("[0-9]{1,12}", epoch)}

    def weights_sha256(self) -> dict[str, str]:
        """The sha256 of each weights file, snapshots included, by its path in the folder."""
        paths = sorted([*self.path.glob("*.safetensors"), *self.path.glob("snapshots/*.safetensors")])
        return {path.relative_to(self.path).as_posix(): sha256(path) for path in paths}
