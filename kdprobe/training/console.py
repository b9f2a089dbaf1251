"""What a run shows while it goes on: a bar, a line per epoch, metrics, and event files on request."""

from collections.abc import Iterable, Iterator
from typing import Any

from kdprobe.config import RunConfig
from kdprobe.data.loaders import Batch
from kdprobe.errors import ConfigError
from kdprobe.runs.folder import RunFolder
from kdprobe.terminal.progress import progress, say
from kdprobe.training.state import Position


class Watch:
    """Shows progress on standard error.

    Args:
        folder: of the run.
        config: of the run.
        quiet: show nothing.
        tensorboard: write event files.

    Raises:
        ConfigError: if event files are wanted and TensorBoard is not installed.
    """

    def __init__(self, folder: RunFolder, config: RunConfig, *, quiet: bool, tensorboard: bool) -> None:
        self.n_epochs, self.quiet = config.training.epochs, quiet
        self.event_path, self.event_writer = folder.path / "tensorboard", _event_writer() if tensorboard else None
        self.events: Any = None

    def say(self, text: str) -> None:
        """One line on standard error."""
        if not self.quiet:
            say(text)

    def progress(self, batches: Iterable[Batch], position: Position, n_images: int) -> Iterator[Batch]:
        """Pass batches on, showing images, images/s and the time left."""
        label, after = f"epoch {position.epoch + 1}/{self.n_epochs}", self.n_epochs - position.epoch - 1
        with progress(label, n_images, after=after * n_images, quiet=self.quiet) as shown:
            for batch in batches:
                yield batch
                shown(len(batch.labels))

    def epoch(
        self,
        position: Position,
        losses: dict[str, float | None],
        accuracy: float,
        seconds: float,
        *,
        rate: float,
        n_images: int,
        steps: int,
    ) -> dict[str, Any]:
        """Show and return the record of an epoch.

        Args:
            position: after the epoch.
            losses: mean of each term; None where no step's loss was finite.
            accuracy: on the evaluation images, a fraction.
            seconds: of training.
            rate: learning rate of the last step.
            n_images: trained on.
            steps: in the epoch.
        """
        means = {name: value for name, value in losses.items() if value is not None}
        loss, speed = sum(means.values()) if means else None, n_images / seconds
        left = (self.n_epochs - position.epoch) * position.seconds / position.epoch
        terms = "  ".join(f"{name} {value:.3f}" for name, value in means.items()) if len(means) > 1 else ""
        shown = "not finite" if loss is None else f"{loss:.3f}"
        self.say(
            f"epoch {position.epoch}/{self.n_epochs}  loss {shown}  accuracy {accuracy:.4f}  "
            f"{speed:,.0f} images/s  {left:.0f} s left  {terms}".rstrip()
        )
        summed = {} if loss is None else {"loss": loss}
        self._write_events(position.epoch, {**summed, "accuracy": accuracy, "lr": rate, **means})
        return {
            "epoch": position.epoch,
            "steps": steps,
            "images": n_images,
            "lr": rate,
            "loss": loss,
            "terms": losses,
            "accuracy": accuracy,
            "seconds": round(seconds, 3),
            "images_per_second": round(speed, 1),
        }

    def skipped(self, n_training: int, n_evaluation: int) -> dict[str, int]:
        """Say how many images could not be decoded, if any, and return it for the record."""
        if n_training or n_evaluation:
            self.say(f"skipped {n_training} training and {n_evaluation} evaluation images that cannot be decoded")
        return {"skipped": n_training, "skipped_in_evaluation": n_evaluation}

    def _write_events(self, epoch: int, values: dict[str, float]) -> None:
        if self.event_writer is None:
            return
        self.events = self.events or self.event_writer(str(self.event_path))
        for name, value in values.items():
            self.events.add_scalar(name, value, epoch)
        self.events.flush()


def _event_writer() -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ConfigError("TensorBoard is not installed: pip install 'kdprobe[tensorboard]'") from error
    return SummaryWriter
