"""What a run shows while it goes on: a bar, and a line per epoch, which loggers get too."""

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from kdprobe.data.loaders import Batch
from kdprobe.terminal.progress import progress, say, worded_time
from kdprobe.training.loggers.contract import Logger
from kdprobe.training.loggers.making import Listeners
from kdprobe.training.state import Position


class Watch:
    """Shows progress on standard error.

    Args:
        n_epochs: epochs of the run.
        quiet: show nothing.
        loggers: what else is told each epoch's metrics, by name.
    """

    def __init__(self, n_epochs: int, *, quiet: bool, loggers: Mapping[str, Logger] = MappingProxyType({})) -> None:
        self.n_epochs, self.quiet, self.told = n_epochs, quiet, Listeners(loggers, say)

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
        loss, terms, accuracy = record["loss"], record["terms"], record["accuracy"]
        left = (self.n_epochs - position.epoch) * record["seconds"]
        each = "  ".join(f"{name} {value:.3f}" for name, value in terms.items()) if len(terms) > 1 else ""
        self.say(
            f"epoch {position.epoch}/{self.n_epochs}  loss {loss:.3f}  "
            f"{'' if accuracy is None else f'accuracy {accuracy:.4f}  '}"
            f"{record['images_per_second']:,.0f} images/s  {worded_time(left)} left  {each}".rstrip()
        )
        self.log(record)

    def skipped(self, n_training: int, n_evaluation: int) -> dict[str, int]:
        """Report how many images could not be decoded, if any, and return the numbers for the record."""
        if n_training or n_evaluation:
            self.say(
                f"skipped {n_training} training and {n_evaluation} evaluation images that cannot be decoded (kdprobe "
                "data check names them)"
            )
        return {"skipped": n_training, "skipped_in_evaluation": n_evaluation}

    def log(self, record: Mapping[str, Any]) -> None:
        """Tell the loggers of an epoch.

        Args:
            record: what `tally.epoch_record` returned.
        """
        accuracy = {} if record["accuracy"] is None else {"accuracy": record["accuracy"]}
        values = {"loss": record["loss"], **accuracy, "lr": record["lr"], **record["terms"]}
        self.told.log(values, record["epoch"])
