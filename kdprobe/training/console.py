"""What a run shows while it goes on: a bar, and a line per epoch, which loggers get too."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from kdprobe.data.loaders import Batch
from kdprobe.terminal.progress import progress, say
from kdprobe.training.loggers import Logger
from kdprobe.training.state import Position


class Watch:
    """Shows progress on standard error.

    Args:
        n_epochs: epochs of the run.
        quiet: show nothing.
        loggers: what else is told each epoch's metrics.
    """

    def __init__(self, n_epochs: int, *, quiet: bool, loggers: Sequence[Logger] = ()) -> None:
        self.n_epochs, self.quiet, self.loggers = n_epochs, quiet, loggers

    def say(self, text: str) -> None:
        """One line on standard error."""
        if not self.quiet:
            say(text)

    def progress(self, batches: Iterable[Batch], position: Position, n_images: int) -> Iterator[Batch]:
        """Pass batches on, showing images, images/s and the time left."""
        label, left = f"epoch {position.epoch + 1}/{self.n_epochs}", self.n_epochs - position.epoch - 1
        return self.passing(label, batches, n_images, after=left * n_images)

    def passing(self, label: str, batches: Iterable[Batch], n_images: int, *, after: int = 0) -> Iterator[Batch]:
        """Pass batches on, showing images, images/s and the time left, with that of so many images that come after."""
        with progress(label, n_images, after=after, quiet=self.quiet) as shown:
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
        self._log(position.epoch, {"loss": loss, **accuracy, "lr": record["lr"], **terms})

    def skipped(self, n_training: int, n_evaluation: int) -> dict[str, int]:
        """Report how many images could not be decoded, if any, and return the numbers for the record."""
        if n_training or n_evaluation:
            self.say(f"skipped {n_training} training and {n_evaluation} evaluation images that cannot be decoded")
        return {"skipped": n_training, "skipped_in_evaluation": n_evaluation}

    def _log(self, epoch: int, values: Mapping[str, float]) -> None:
        for logger in self.loggers:
            logger.epoch(epoch, values)
