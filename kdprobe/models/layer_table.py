"""What layers a network has: their outputs, what these mean, which of them end a stage, and their parameters."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from kdprobe.errors import CaptureError, ModelError
from kdprobe.models.creation import ModelInfo, count_parameters, model_info, unwrap
from kdprobe.models.facts import classifiers_in, layout_of, made_up_images, stages_in, watched
from kdprobe.models.layers import Layers, as_choices, module_name, select
from kdprobe.models.outputs import answer_in
from kdprobe.models.watched.tracing import Call, Trace


@dataclass(frozen=True)
class Layer:
    """A module that ran.

    Attributes:
        name: what `--layers` takes; `NAME#2` is the second of several calls.
        kind: the module's class.
        shape: shape of its output for one image, as in `64 x 8 x 8`; with the rows of an image that has several, as
            windows are, in front.
        layout: what its dimensions mean, such as NCHW; `other` if that is not known.
        role: `stage 1` and so on, `classifier`, or nothing.
        parameters: its number of parameters, with those of all that is in it.
    """

    name: str
    kind: str
    shape: str
    layout: str
    role: str
    parameters: int


def layer_table(model: nn.Module, layers: Layers = "all") -> tuple[list[Layer], str]:
    """The layers of a network, from one forward pass of two made-up images.

    Args:
        model: the network, from `create` or `load`, or described by `kdprobe.describe`.
        layers: which ones, as `kdprobe.capture` takes them.

    Returns:
        the layers that ran, in the order of `named_modules`, but stages alone from shallow to deep; and why the stages
        are not known, empty if they are.

    Raises:
        CaptureError: if nothing is chosen, or if no module could be seen running.
        ModelError: if nothing is known about the network's input.
    """
    network, info = unwrap(model), model_info(model)
    seen = watched(network, ((made_up_images(network),), {}))
    if not seen.calls:
        raise CaptureError(f"no module of {info.name} could be seen running: {seen.failure}")
    stages, reason = _stages(network, seen)
    choices = as_choices(network, layers)
    if reason and "stages" in choices:
        raise CaptureError(reason)
    wanted = select(network, choices, stages).names
    roles = dict.fromkeys(_classifiers(network, seen, info), "classifier")
    roles |= {name: f"stage {number}" for number, name in enumerate(stages, start=1)}
    times, modules = Counter(call.name for call in seen.calls), dict(network.named_modules())
    found = {}
    for call in seen.calls:
        name = call.label if times[call.name] > 1 else call.name
        if not {name, call.name} & set(wanted):
            continue
        layout = str(layout_of(call, call.shape, info.prefix_tokens))
        role = roles.get(name, roles.get(call.name, ""))
        size = count_parameters(modules[call.name])
        found[name] = Layer(name, call.kind, _shape(call), layout, role, size)
    if set(found) == set(stages):
        return [found[name] for name in stages], reason
    place = {name: number for number, name in enumerate(modules)}
    return sorted(found.values(), key=lambda layer: place[module_name(layer.name)]), reason


def _stages(network: nn.Module, seen: Trace) -> tuple[Sequence[str], str]:
    try:
        return stages_in(network, seen), ""
    except CaptureError as error:
        return (), str(error)


def _classifiers(network: nn.Module, seen: Trace, info: ModelInfo) -> tuple[str, ...]:
    """The classifier by the description, or the layers that are seen to give the logits."""
    if not info.n_classes or seen.output is None:
        return ()
    if info.classifier is not None:
        return (info.classifier,)
    try:
        return classifiers_in(network, seen, answer_in(seen.output, info))
    except ModelError:
        return ()  # its output is no tensor of logits, as training would say


def _shape(call: Call) -> str:
    """The shape for one of the two images that were shown."""
    rows = call.shape[0] // 2 if call.shape and call.shape[0] % 2 == 0 else 1
    sizes = call.shape[1:] if rows == 1 else (rows, *call.shape[1:])
    return " x ".join(map(str, sizes))
