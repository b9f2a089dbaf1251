"""Training curves of runs, as a result that can be drawn."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from kdprobe.errors import RunError
from kdprobe.files import shortest_names
from kdprobe.formats.counts import counted
from kdprobe.provenance import provenance
from kdprobe.results import Result
from kdprobe.runs.folder import RunFolder


def training_curves(runs: Sequence[RunFolder]) -> tuple[Result, str]:
    """Loss and accuracy of each epoch of runs, finished or not.

    Returns:
        a result of kind "training", with NaN after the last epoch of shorter runs, for the loss of an epoch in which
        none was finite, and for the accuracy without labels, and its table as CSV text. The facts' `remarks` name the
        runs that are not finished.

    Raises:
        RunError: for a run without a finished epoch.

    Example:
        >>> from pathlib import Path
        >>> from kdprobe.config import RunConfig
        >>> from kdprobe.runs import RunFolder, training_curves
        >>> folder = RunFolder(Path("runs/first"))
        >>> folder.claim(RunConfig(data={"spec": "digits"}, model={"name": "resnet8"}), resume=False)
        >>> folder.append_metrics({"epoch": 1, "loss": 2.0, "accuracy": 0.5, "lr": 0.1, "seconds": 1.0, "images": 64})
        >>> result, table = training_curves([folder])
        >>> result.arrays["accuracy"], result.facts["names"]
        (array([[0.5]]), ['first'])
    """
    records = [run.metrics() for run in runs]
    for run, found in zip(runs, records, strict=True):
        if not found:
            raise RunError(f"{run.path} has no finished epoch, so there is no curve")
    n_epochs = max(found[-1]["epoch"] for found in records)
    arrays = {name: np.full((len(runs), n_epochs), math.nan) for name in ("train_loss", "accuracy")}
    for row, found in enumerate(records):
        epochs = [record["epoch"] - 1 for record in found]
        losses = [record["loss"] for record in found]
        arrays["train_loss"][row, epochs] = [math.nan if loss is None else loss for loss in losses]
        shares = [record["accuracy"] for record in found]
        arrays["accuracy"][row, epochs] = [math.nan if share is None else share for share in shares]
    names = shortest_names([run.path.resolve() for run in runs])
    rows = [
        {"run": name, **{key: record[key] for key in ("epoch", "loss", "accuracy", "lr", "seconds")}}
        for name, found in zip(names, records, strict=True)
        for record in found
    ]
    planned = [run.values()["training"]["epochs"] for run in runs]
    remarks = [
        {"reason": f"{name} is {run.state}: {len(found)} of {counted(epochs, 'epoch')}"}
        for name, run, found, epochs in zip(names, runs, records, planned, strict=True)
        if not run.finished
    ]
    facts = {"names": names, "remarks": remarks, "sizes": [_sizes(run) for run in runs]}
    origin = provenance(runs=[str(run.path) for run in runs])
    result = Result("training", {"epoch": np.arange(1, n_epochs + 1), **arrays}, facts, origin)
    return result, pd.DataFrame(rows).to_csv(index=False)


def _sizes(run: RunFolder) -> dict[str, int]:
    """Sides of the images that student and teacher of a run see, in pixels, as far as they are known."""
    result = run.result() if run.finished else {}
    named = {"student": "image_size", "teacher": "teacher_image_size"}
    return {who: result[key] for who, key in named.items() if result.get(key) is not None}
