"""The facts of a network: what its layers' outputs are, which tokens are prefixes, and which modules end its stages.

They are not looked up by class but observed in one forward pass of two images (`kdprobe.models.watched.tracing`), so
they hold for networks from timm, torchvision, transformers and your own code alike, alone or inside another module.
What `kdprobe.describe` was given comes first. What cannot be observed is an error that says what to give instead. Where
timm's `feature_info` names the ends of stages, its names are used. What distillation methods are given are stage maps
instead (`kdprobe.models.stages`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isqrt, prod
from typing import Any

import torch
from torch import Tensor, nn

from kdprobe.errors import CaptureError, ModelError
from kdprobe.models.building import built_for
from kdprobe.models.creation import described, model_info, unwrap
from kdprobe.models.layers import call_number, module_name
from kdprobe.models.layout import Layout
from kdprobe.models.outputs import features_in
from kdprobe.models.watched.axes import CHANNEL, POSITIONS, PREFIX, Meaning
from kdprobe.models.watched.samples import few_images, tensors_in
from kdprobe.models.watched.stage_ends import around, ends_of_stages
from kdprobe.models.watched.tracing import Call, Trace, meaning_of, trace

_BY_NAME = (
    "choose layers by name, or 'leaves' (--teacher-layers, --student-layers or --layers of commands that have them; in "
    "Python arguments), or name the stages by kdprobe.describe(model, stages=[...])"
)


def layout_of(call: Call | None, shape: tuple[int, ...], prefix_tokens: int | None = None) -> Layout:
    """What the dimensions of a layer's output mean.

    Args:
        call: the layer's call in a watched forward pass; None if it was not seen.
        shape: shape of the output, [B, ...], for any number of images.
        prefix_tokens: how many there are, by the network's description; it counts where the meaning is not known.

    Returns:
        the layout; `other` if the meaning of a dimension is not known.
    """
    meaning = call.meaning if call is not None and call.shape[1:] == shape[1:] else None
    return _told_or(meaning, shape, prefix_tokens)


def layout_of_output(output: Tensor, prefix_tokens: int | None = None) -> Layout:
    """What the dimensions of a tensor mean that a watched network gave; `prefix_tokens` as in `layout_of`."""
    return _told_or(meaning_of(output), tuple(output.shape), prefix_tokens)


def _told_or(meaning: Meaning | None, shape: tuple[int, ...], prefix_tokens: int | None) -> Layout:
    """What was seen; where that is not known, tokens, if a description tells how many prefix tokens there are.

    An output that was seen to have its channels before its tokens, as in a mixer, stays unknown.
    """
    found = _meant(meaning, shape)
    if found.kind != "other" or len(shape) != 3 or prefix_tokens is None or prefix_tokens >= shape[1]:
        return found
    turned = meaning is not None and (meaning.labels[1] == CHANNEL or meaning.labels[2] in (*POSITIONS, PREFIX))
    return found if turned else Layout("tokens", prefix_tokens)


def _meant(meaning: Meaning | None, shape: tuple[int, ...]) -> Layout:
    if len(shape) == 2:
        return Layout("vector")
    if meaning is None:
        return Layout("other")
    labels, prefix = meaning.labels, meaning.prefix
    if labels[0] != "b" or meaning.n_positions is None:
        return Layout("tokens", len(prefix), _class_in(prefix)) if labels == ("b", "p", "c") else Layout("other")
    if len(labels) == 4:
        return Layout("NCHW" if labels[1] == "c" else "NHWC" if labels[3] == "c" else "other")
    if len(labels) == 3 and labels[2] == "c":
        return Layout("tokens", len(prefix), _class_in(prefix))
    return Layout("other")


def _class_in(prefix: tuple[str, ...]) -> int | None:
    return prefix.index("class") if "class" in prefix else None


@dataclass(frozen=True)
class FeaturePlace:
    """Where a feature is found in a forward pass.

    Attributes:
        label: what the feature is called: the module's name, with the number of the call where it has several.
        module: name of the module whose output holds it.
        number: the call of this module, from 1.
        tensor: its place among the floating tensors of the output.
        layout: what its dimensions mean.
        copied: whether a later operation changes it in place, so that it must be copied.
    """

    label: str
    module: str
    number: int
    tensor: int
    layout: Layout
    copied: bool

    def within(self, output: Any, *, with_gradients: bool = False) -> Tensor | None:
        """The feature in one output of the module, called in the hook; None if it is not there.

        Raises:
            ModelError: if it has no gradients, but should have.
        """
        if with_gradients and not torch.is_grad_enabled():
            raise ModelError(
                f"stage {self.label!r} runs without gradients, as inside a reentrant checkpoint; use "
                "use_reentrant=False, or name other modules as stages"
            )
        tensors = [one for one in tensors_in(output) if one.is_floating_point()]
        if len(tensors) <= self.tensor:
            return None
        return tensors[self.tensor].clone() if self.copied else tensors[self.tensor]

    def among(self, found: Sequence[Tensor | None]) -> Tensor:
        """The feature among those of all calls of the module.

        Raises:
            ModelError: if the module did not run that often, or gave no such tensor.
        """
        feature = found[self.number - 1] if len(found) >= self.number else None
        if feature is None:
            raise ModelError(
                f"stage {self.label!r} ran in evaluation, but now {self.module!r} ran {len(found)} times, without its "
                "feature; name other modules as stages"
            )
        return feature


def stage_places(model: nn.Module, seen: Trace) -> tuple[FeaturePlace, ...]:
    """Where the outputs of all stages are found, shallow to deep.

    Args:
        model: the network.
        seen: a watched forward pass of it.

    Raises:
        CaptureError: if the stages cannot be determined, or if one did not run or gives neither a map nor tokens.
    """
    return tuple(_stage_place(model, seen, label) for label in stages_in(model, seen))


def _stage_place(model: nn.Module, seen: Trace, label: str) -> FeaturePlace:
    name, info = module_name(label), described(model)
    calls = [call for call in seen.calls if call.name == name]
    call = seen.call(name, call_number(label) or len(calls))
    if call is None:
        raise CaptureError(f"stage {label!r} of {type(model).__name__} did not run; name another module")
    layout = layout_of(call, call.shape, None if info is None else info.prefix_tokens)
    if layout.kind not in ("NCHW", "NHWC", "tokens"):
        raise CaptureError(
            f"stage {label!r} of {type(model).__name__} gives {list(call.shape)}, which is not known to be a map or "
            "tokens; name another module, or say prefix_tokens"
        )
    if layout.kind == "tokens" and isqrt(patches := call.shape[1] - layout.n_prefix) ** 2 != patches:
        raise CaptureError(
            f"stage {label!r} of {type(model).__name__} gives {call.shape[1]} tokens, which without {layout.n_prefix} "
            "in front of them are no square grid; see prefix_tokens, or name another module"
        )
    return FeaturePlace(label, call.name, call.number, call.place, layout, call.overwritten)


def final_tokens(seen: Trace, stages: Sequence[FeaturePlace]) -> FeaturePlace | None:
    """Where all tokens are found last, behind the last norm.

    Args:
        seen: a watched forward pass.
        stages: where the stages are.

    Returns:
        None for a network whose last stage gives no tokens.
    """
    last = seen.call(stages[-1].module, stages[-1].number) if stages else None
    if last is None or stages[-1].layout.kind != "tokens":
        return None
    later = [call for call in seen.calls if call.shape == last.shape and _born(call) > _born(last)]
    later = [call for call in later if layout_of(call, call.shape).kind == "tokens" and not seen.is_head(call)]
    call = max(later, key=_born, default=last)
    return FeaturePlace(call.label, call.name, call.number, call.place, stages[-1].layout, call.overwritten)


def _born(call: Call) -> int:
    return call.meaning.born if call.meaning is not None else -1


def classifiers_in(model: nn.Module, seen: Trace, logits: Tensor) -> tuple[str, ...]:
    """Names of the layers whose outputs are the logits, or their mean.

    Args:
        model: the network.
        seen: a watched forward pass of it.
        logits: in what the network gave.
    """
    meaning, modules = meaning_of(logits), dict(model.named_modules())
    found = [
        call.name
        for call in seen.calls
        if meaning is not None
        and call.meaning is not None
        and call.meaning.heads & meaning.heads
        and any(True for _ in modules[call.name].parameters(recurse=False))
        and call.shape[1:2] == logits.shape[1:]
        and prod(call.shape[2:]) == 1
    ]
    return tuple(dict.fromkeys(found))


def watched(
    model: nn.Module, *inputs: tuple[tuple[Any, ...], Mapping[str, Any]], call: Callable[..., Any] | None = None
) -> Trace:
    """A watched forward pass with the first of several arguments that the network accepts.

    Args:
        model: the network.
        inputs: arguments and keyword arguments.
        call: what is called with them and runs the network; the network itself if not given.

    If it accepts none of them, nothing is seen: the actual pass, with the last of the arguments, will report why.
    """
    failure = ""
    for args, kwargs in inputs:
        try:
            return trace(model, args, kwargs, call=call)
        except Exception as error:
            failure = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    return Trace((), (False,), failure)


def stages_in(model: nn.Module, seen: Trace) -> list[str]:
    """Modules that end a stage, shallow to deep: those of its description, else those that are seen.

    Args:
        model: the network.
        seen: a watched forward pass of it.

    Raises:
        CaptureError: if they cannot be determined, or if those that the network itself names did not run.
    """
    if (info := described(model)) is not None and info.stages is not None:
        return list(info.stages)
    told, name = _told(model), type(model).__name__
    if (info is not None and not info.n_classes) or features_in(seen.output) is not None:
        seen = replace(seen, heads=frozenset())  # what a network without a classifier gives is no map of logits
    calls = {call.name: call for call in seen.calls}
    silent = [one for one in told if one not in calls]
    if not seen.calls:
        raise CaptureError(
            f"no module of {name} could be seen running, so its stages are not known "
            f"({seen.failure or 'hooks do not run in traced networks'}); {_BY_NAME}"
        )
    if silent:
        raise CaptureError(
            f"stages {', '.join(map(repr, silent))} of {name} exist but did not run, as happens with gradient "
            f"checkpointing; turn it off, or {_BY_NAME}"
        )
    maps = [calls[one] for one in told if _is_map(calls[one])]
    if told and len(maps) == len(told) and all(seen.is_cut(call) for call in maps):
        return told
    found = ends_of_stages(seen)
    deepest = min((_positions(call) for call in maps), default=0)
    if found and (not maps or _positions(_called(seen, found[-1])) <= deepest):
        missing = {_positions(call): call.name for call in around(seen, found)}
        if missing and maps and len(maps) == len(told):
            return told  # branches lead around what the network itself calls the ends of its stages
        _refuse_around(missing, found, name)
        return found
    if maps and len(maps) == len(told):
        return told
    raise CaptureError(
        f"the stages of {name} cannot be determined: no module's output is known to be a map, or tokens after "
        f"their prefix, that all later ones build on alone; {_BY_NAME}"
    )


def _refuse_around(missing: dict[int, str], found: list[str], name: str) -> None:
    if missing:
        others = ", ".join(f"{one!r} ({count} positions)" for count, one in missing.items())
        raise CaptureError(
            f"the stages of {name} cannot be determined: later modules build on {', '.join(map(repr, found))} alone, "
            f"but on none of {others} alone, so that something leads around them; {_BY_NAME}"
        )


def _called(seen: Trace, label: str) -> Call:
    return next(call for call in seen.calls if label in (call.name, call.label))


def _is_map(call: Call) -> bool:
    return call.meaning is not None and bool(call.meaning.n_positions) and not call.meaning.pooled


def _positions(call: Call) -> int:
    return (call.meaning.n_positions or 0) if call.meaning is not None else 0


def _told(model: nn.Module) -> list[str]:
    """The modules that timm's `feature_info` names; for a list of modules, which is never called, its last one."""
    modules = dict(model.named_modules())
    telling = [name for name, module in modules.items() if getattr(module, "feature_info", None)]
    outermost = [
        name for name in telling if not any(f"{name}.".startswith(f"{o}.".lstrip(".")) for o in telling if o != name)
    ]
    if len(outermost) != 1:  # of several networks side by side, none knows the stages of the whole
        return []
    infos = modules[outermost[0]].feature_info
    infos = getattr(infos, "info", infos)
    if not isinstance(infos, list | tuple) or not all(isinstance(info, dict) and info.get("module") for info in infos):
        return []
    listed = [f"{outermost[0]}.{info['module']}".lstrip(".") for info in infos]
    return [_last_that_runs(one, modules[one]) for one in dict.fromkeys(listed)] if set(listed) <= set(modules) else []


def _last_that_runs(name: str, module: nn.Module) -> str:
    return f"{name}.{len(module) - 1}" if isinstance(module, nn.ModuleList) else name


def stage_names(model: nn.Module, images: Tensor | None = None) -> list[str]:
    """Modules that end a stage, shallow to deep.

    Args:
        model: the network.
        images: images [B, c, h, w] to show to it; made-up ones of the size in its description if not given.

    Raises:
        CaptureError: if the stages cannot be determined, or if no images are given and its input is not known.
    """
    model = unwrap(model)
    if images is None:
        try:
            images = made_up_images(model)
        except ModelError as error:
            raise CaptureError(
                f"the stages of {type(model).__name__} are found in a forward pass, but {error}; or give images"
            ) from error
    return stages_in(model, watched(model, few_images((images,), {}, len(images), 2), ((images,), {})))


def made_up_images(model: nn.Module) -> Tensor:
    """Two images of the size that a network takes; blank ones could make unequal things equal.

    Raises:
        ModelError: if nothing is known about its input.
    """
    info = model_info(model)
    own = built_for(model) if described(model) is None else None
    size = (2, len(info.mean), *(own or (info.image_size, info.image_size)))
    images = torch.arange(prod(size)).sin().reshape(size)
    for parameter in model.parameters():
        return images.to(parameter)
    return images


def in_precision_of(model: nn.Module, images: Tensor) -> Tensor:
    """Floating images in the precision of the network's parameters, if they share one; autocast chooses by itself."""
    precisions = {parameter.dtype for parameter in model.parameters() if parameter.is_floating_point()}
    cast = len(precisions) == 1 and images.is_floating_point() and not torch.is_autocast_enabled(images.device.type)
    return images.to(precisions.pop()) if cast else images
