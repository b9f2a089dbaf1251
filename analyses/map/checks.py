"""What keeps networks from being compared, found before anything is written."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch

from analyses.cka.minibatch_classes import warn_of_few_classes
from analyses.map.members import Member
from analyses.map.pairs import Comparison, layers_of
from analyses.map.showing import ROLE, seen_by, views_of
from analyses.map.tiles import open_side, require_comparable
from analyses.stored_pair import SeenSamples, StoredNetwork, require_same
from kdprobe.errors import AnalysisError
from kdprobe.features.hsic import MIN_SAMPLES
from kdprobe.features.minibatches import fixed_order


def check_members(
    members: Sequence[Member], measure: Comparison, *, rule: str, batch_size: int, shown: Mapping[str, Any] | None
) -> None:
    """Refuse networks that cannot be compared, and warn of dumps whose minibatches hold few classes.

    Args:
        members: networks to be shown the images, and dumps.
        measure: what they are to be compared by.
        rule: for their layers.
        batch_size: samples in a minibatch.
        shown: the first network that is in no dump, as `analyses.map.showing.prepare_network` takes it; None if all
            are in dumps.

    Raises:
        StoreError: for dumps of other images, of Gram matrices where features are needed, or of other minibatches.
        AnalysisError: for dumps that hold different things of each layer, or not the layers, or too few images.
    """
    samples = _samples_of(shown) if shown else None
    if samples:
        _require_enough(samples, measure)
    dumps = [one for one in members if one.file]
    for dump in dumps:
        with ExitStack() as stack:
            first, other = (open_side(one.file, one.role, measure, stack) for one in (dumps[0], dump))
            _require_enough(SeenSamples.of(other), measure)
            require_comparable(first, other)
            if dump is dumps[0] and measure.grams:  # compared by minibatches
                warn_of_few_classes(torch.split(other.store.labels, batch_size), stacklevel=4)
            if samples:
                require_same(samples, SeenSamples.of(other))
                _require_means(samples, other)
            for layer in layers_of(other, rule):
                other.minibatch(layer, 0, batch_size)  # Gram matrices are of minibatches of one size


def _samples_of(shown: Mapping[str, Any]) -> SeenSamples:
    views = views_of(shown)
    identity, labels = views.shown[ROLE].identity, views.splits[ROLE].labels
    order = fixed_order(views.n_samples)  # in which `Views.minibatches` shows them
    return SeenSamples(shown["spec"], views.data, identity, seen_by(views), order, labels[order])


def _require_enough(samples: SeenSamples, measure: Comparison) -> None:
    if (n := len(samples.index)) < MIN_SAMPLES:
        raise AnalysisError(
            f"{measure.title} needs at least {MIN_SAMPLES} images, but {samples.name} is of {n}; give more"
        )


def _require_means(samples: SeenSamples, dump: StoredNetwork) -> None:
    if (reduce := dump.store.reduce) != "gap":
        raise AnalysisError(
            f"{samples.name} is compared by its means over positions (gap), but {dump.store.path} holds "
            f"{reduce.replace('whole', 'flatten')} of each layer; dump with --reduce gap"
        )
