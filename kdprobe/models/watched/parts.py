"""Where the features are found that timm's own methods do not return, by watching the network once."""

from collections.abc import Collection
from dataclasses import dataclass, replace

from torch import nn

from kdprobe.errors import CaptureError
from kdprobe.models.creation import ModelInfo, model_info, unwrap
from kdprobe.models.facts import (
    FeaturePlace,
    classifiers_in,
    final_tokens,
    layout_of_output,
    made_up_images,
    stage_places,
    watched,
)
from kdprobe.models.layout import Layout
from kdprobe.models.outputs import answer_in
from kdprobe.models.watched.offered import collector_of
from kdprobe.models.watched.tracing import Trace

#: needs that are read where stage maps are found
IN_MAPS = frozenset({"maps", "preacts", "tokens"})
_VECTOR = Layout("vector")


@dataclass(frozen=True)
class Parts:
    """Where the features are found that timm's own methods do not return.

    Attributes:
        stages: where the stage maps are; empty where the network returns them itself.
        tokens: where all tokens are, behind the last norm.
        classifiers: names of the classifiers; empty where the network tells them itself.
        answer: what the dimensions of its output mean, of a network without a classifier.
        no_maps: why stage maps are not known; empty where they are.
        no_pooled: why pooled features are not known; empty where they are.
    """

    stages: tuple[FeaturePlace, ...] = ()
    tokens: FeaturePlace | None = None
    classifiers: tuple[str, ...] = ()
    answer: Layout = _VECTOR
    no_maps: str = ""
    no_pooled: str = ""


def find_parts(model: nn.Module, needs: Collection[str]) -> Parts:
    """Where those features are that timm's own methods do not return; the network is watched if there are any.

    Args:
        model: the network.
        needs: which features are needed.
    """
    needs = frozenset(needs)
    if not needs & (IN_MAPS | {"pooled", "head"}):
        return Parts()
    info = model_info(model)
    classifiers = () if info.classifier is None or not info.n_classes else (info.classifier,)
    in_maps = bool(needs & IN_MAPS) and (info.stages is not None or collector_of(model) is None)
    of_head = (
        bool(needs & {"pooled", "head"})
        and not classifiers
        and not (info.n_classes and hasattr(model, "get_classifier"))
    )
    if not in_maps and not of_head:
        return Parts(classifiers=classifiers)
    seen = watched(network := unwrap(model), ((made_up_images(model),), {}))
    found = Parts(classifiers=classifiers)
    found = _with_stages(found, network, seen) if in_maps else found
    return _with_head(found, network, info, seen) if of_head else found


def _with_stages(found: Parts, network: nn.Module, seen: Trace) -> Parts:
    try:
        stages = stage_places(network, seen)
    except CaptureError as error:
        return replace(found, no_maps=str(error).rpartition("; ")[0] or str(error))
    return replace(found, stages=stages, tokens=final_tokens(seen, stages))


def _with_head(found: Parts, network: nn.Module, info: ModelInfo, seen: Trace) -> Parts:
    """With the classifier, whose input is pooled; without one, what the output itself is."""
    if seen.output is None:
        return replace(found, no_pooled=seen.failure)
    answer = answer_in(seen.output, info)
    if classifiers := classifiers_in(network, seen, answer) if answer.shape[1:] == (info.n_classes,) else ():
        return replace(found, classifiers=classifiers)
    layout = Layout("other") if info.n_classes else layout_of_output(answer, info.prefix_tokens)
    if layout.kind != "other":
        return replace(found, answer=layout)
    what = "its logits" if info.n_classes else f"an output {list(answer.shape)} whose positions are known"
    return replace(found, no_pooled=f"no module gives {what}")
