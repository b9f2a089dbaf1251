"""What a run shows while it goes on: a bar, a line per epoch, metrics, and event files on request."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from kdprobe.data.loaders import Batch
from kdprobe.errors import ConfigError
from kdprobe.terminal.progress import progress, say
from kdprobe.training.state import Position


class Watch:
    """Shows progress on standard error.

    Args:
        n_epochs: epochs of the run.
        quiet: show nothing.
        events: folder of event files for TensorBoard; none are written if it is not given.

    Raises:
        ConfigError: if event files are wanted and TensorBoard is not installed.
    """

    def __init__(self, n_epochs: int, *, quiet: bool, events: Path | None = None) -> None:
        self.n_epochs, self.quiet, self.events = n_epochs, quiet, events
        self._writer = None if events is None else _event_writer()
        self._opened: Any = None

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

    def passing(self, label: str, batches: Iterable[Batch], n_images: int) -> Iterator[Batch]:
        """Pass batches on, showing images and the time left."""
        with progress(label, n_images, quiet=self.quiet) as shown:
            for batch in batches:
                yield batch
                shown(len(batch.labels))

    def epoch(self, record: Mapping[str, Any], position: Position) -> None:
        """Show the metrics of an epoch.

        Args:
            record: what `tally.epoch_record` returned.
            position: that after the epoch.
        """
        loss, terms = record["loss"], record["terms"]
        accuracy = {} if record["accuracy"] is None else {"accuracy": record["accuracy"]}
        left = (self.n_epochs - position.epoch) * position.seconds / position.epoch
        each = "  ".join(f"{name} {value:.3f}" for name, value in terms.items()) if len(terms) > 1 else ""
        self.say(
            f"epoch {position.epoch}/{self.n_epochs}  loss {loss:.3f}  "
            f"{''.join(f'accuracy {share:.4f}  ' for share in accuracy.values())}"
            f"{record['images_per_second']:,.0f} images/s  {left:.0f} s left  {each}".rstrip()
        )
        self._write_events(position.epoch, {"loss": loss, **accuracy, "lr": record["lr"], **terms})

    def skipped(self, n_training: int, n_evaluation: int) -> dict[str, int]:
        """Report how many images could not be decoded, if any, and return the numbers for the record."""
        if n_training or n_evaluation:
            self.say(f"skipped {n_training} training and {n_evaluation} evaluation images that cannot be decoded")
        return {"skipped": n_training, "skipped_in_evaluation": n_evaluation}

    def _write_events(self, epoch: int, values: Mapping[str, float]) -> None:
        if self._writer is None:
            return
        self._opened = self._opened or self._writer(str(self.events))
        for name, value in values.items():
            self._opened.add_scalar(name, value, epoch)
        self._opened.flush()


def _event_writer() -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ConfigError("TensorBoard is not installed: pip install 'kdprobe[tensorboard]'") from error
    return SummaryWriter
