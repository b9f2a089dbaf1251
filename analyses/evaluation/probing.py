"""Networks judged by their features: a simple classifier learns from training images what they tell apart.

This is how networks without a head are judged, and how networks with different classes are compared.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from analyses.evaluation.classifiers import HELD_OUT, TEMPERATURE, linear_probe, nearest_neighbours
from analyses.evaluation.predictions import Judged, Opened, open_networks
from kdprobe.data import Split
from kdprobe.devices import exact_float32
from kdprobe.errors import AnalysisError
from kdprobe.features.shared_images import shown_batches
from kdprobe.models import Stages
from kdprobe.models.stages import Need

Probe = Literal["linear", "knn"]
_NAMES = {"linear": "linear probe", "knn": "kNN"}


@exact_float32
def judge_by_probe(
    checkpoints: str | Path | Sequence[str | Path],
    spec: str | None = None,
    *,
    probe: Probe,
    neighbours: int = 20,
    batch_size: int = 256,
    workers: int | None = None,
    quiet: bool = True,
    **options: Any,
) -> tuple[list[Judged], dict[str, Any]]:
    """Predict the test images of one data set from the pooled features of several networks.

    Training and test images are shown without variations, at each network's own size.

    Args:
        checkpoints: one or several of whatever `kdprobe.load` takes, with or without a classifier of their own.
        spec: the data set; the one that the first checkpoint names, if not given.
        probe: `linear`, logistic regression, or `knn`, the nearest training images by cosine.
        neighbours: k of `knn`.
        batch_size: images at a time.
        workers: as `predictions.predict` takes it.
        quiet: no progress on stderr.
        options: `device`, `trust`, `told` and `view`, as `predictions.judge` takes them.

    Returns:
        the networks, each with the logarithms of the classes' probabilities as logits and the probe in its name; and
        how they were judged, as results of kind "evaluation" say it.

    Raises:
        AnalysisError: if there is no data set to take, it has no classes, or features are not known or not finite.

    Example:
        >>> from analyses.evaluation import judge_by_probe
        >>> judge_by_probe(["runs/headless"], "digits", probe="linear")  # doctest: +SKIP
    """
    judged, facts = [], list[dict[str, Any]]()
    reading: dict[str, Any] = {"batch_size": batch_size, "workers": workers, "quiet": quiet}
    for one in open_networks(checkpoints, spec, quiet=quiet, decode=True, **options):
        if one.data.n_classes < 2:
            raise AnalysisError(
                f"a probe needs images of at least two classes, but {one.spec} has {one.data.n_classes}"
            )
        (train, labels), (test, _) = (
            pooled_features(one, split, **reading) for split in (one.data.train, one.data.test)
        )
        if probe == "linear":
            found = linear_probe(train, labels, test, n_classes=one.data.n_classes)
            probabilities = torch.from_numpy(found.probabilities)
            facts.append({"C": found.strength, "converged": found.converged})
        else:
            shares = nearest_neighbours(train, labels, test, n_classes=one.data.n_classes, neighbours=neighbours)
            probabilities = torch.from_numpy(shares)
            facts.append({})
        facts[-1] |= {"n_images": len(labels), "dimension": train.shape[1]}
        judged.append(
            Judged(f"{one.name}, {_NAMES[probe]}", one.checkpoint, one.info, one.data, probabilities.log().float())
        )
    return judged, _facts(probe, facts, neighbours)


def _facts(probe: Probe, facts: Sequence[Mapping[str, Any]], neighbours: int) -> dict[str, Any]:
    """One list per fact of each network, and what holds for all."""
    lists = {key: [one[key] for one in facts] for key in facts[0]}
    common = {"held_out": HELD_OUT} if probe == "linear" else {"neighbours": neighbours, "temperature": TEMPERATURE}
    words = [_words({**one, **common}) for one in facts]
    return {"kind": probe, "words": words, **lists, **common}


def _words(facts: Mapping[str, Any]) -> str:
    of = f"of {facts['n_images']:,} training images, {facts['dimension']} features"
    if "neighbours" in facts:
        return f"votes of the {facts['neighbours']} nearest {of}"
    without = "" if facts["converged"] else ", which did not converge,"
    return f"logistic regression with C = {facts['C']:g}{without} {of}"


@torch.inference_mode()
def pooled_features(
    one: Opened, split: Split, *, batch_size: int, workers: int | None, quiet: bool
) -> tuple[Float32[Tensor, "n d"], Int64[Tensor, " n"]]:
    """What a network's classifier gets, or what one without a classifier gives, and the classes of the images.

    Raises:
        AnalysisError: if it is not finite.
        ModelError: if it is not known where it is, or the classifier does not run.
    """
    needs: tuple[Need, ...] = ("pooled",)
    network, normalise = Stages(one.model, needs=needs), one.info.normalise
    features, labels = [], []
    for batch in shown_batches(
        split, batch_size=batch_size, workers=workers, device=one.device, label=one.info.name, quiet=quiet
    ):
        pooled = network(normalise(batch.images)).pooled
        assert pooled is not None
        features.append(pooled.float().cpu())
        labels.append(batch.labels.cpu())
    found = torch.cat(features)
    if broken := int((~found.isfinite()).any(1).sum()):
        raise AnalysisError(
            f"the features of {one.checkpoint} are NaN or infinite for {broken} of {len(found)} images of {one.spec}"
        )
    return found, torch.cat(labels)
