"""Features of chosen layers, captured by forward hooks that exist only inside a `with` block.

    with capture(model, "stages", reduce="gap") as features:
        model(images)  # or features(minibatch), as a loader gives it
        features["layer4"]  # [B, c]

A feature is copied or reduced inside the hook, before an in-place operation after the layer can overwrite it. A module
that runs several times in one forward pass gives one layer per call, named `relu#1`, `relu#2` and so on. Before the
first pass, two of its images are passed through the network, which is watched to find out what the dimensions of
outputs mean (`kdprobe.models.facts`).
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from kdprobe.errors import AnalysisError, CaptureError, near_matches
from kdprobe.features.minibatches import Forward, feed, n_samples
from kdprobe.features.one_pass import LayerOutput, Pass
from kdprobe.features.reducers import reducer
from kdprobe.models.creation import described, unwrap
from kdprobe.models.facts import layout_of, stage_names, stages_in, watched
from kdprobe.models.hooks import in_evaluation
from kdprobe.models.layers import Layers, as_choices, call_number, module_name, other_names, select
from kdprobe.models.layout import Layout
from kdprobe.models.watched.lineage import counting
from kdprobe.models.watched.samples import copied, few_images, images_in, tensors_in
from kdprobe.models.watched.tracing import Call, Trace, is_watching

_state = threading.local()


def capture(
    model: nn.Module,
    layers: Layers = "stages",
    *,
    reduce: str | Callable[[Tensor], Tensor] = "flatten",
    evaluate: bool = True,
    detach: bool = True,
    forward: Forward | None = None,
) -> "Capture":
    """Capture the outputs of layers while the model runs inside `with`.

    In the first pass with images of a given size, the model runs twice: first with two of the images, without
    gradients, in evaluation mode. Buffers, attributes of its modules and the random state are then restored.

    If a layer's output holds several tensors with a row per image, the one that is a map or tokens is taken. If there
    are several of these, with different shapes, the first is taken for layers that a glob or group chose, and `notes`
    says so; a layer chosen by name is refused, unless `reduce` is a function, which is given the whole output.

    Float32 is computed as the caller has set it in torch, in TF32 too; inside `kdprobe.devices.float32()` exactly.

    Args:
        model: any network that is called with a tensor or a list of images; a compiled network runs uncompiled inside
            the block, and wrappers are looked through.
        layers: module names or modules, globs (`*` spans dots), `stages` (the ends of all stages; the blocks of a
            network of one resolution), `leaves` (modules without children that are not identities or dropouts), `all`;
            `!glob` leaves out; `NAME#2` is the second call alone. A glob or group leaves out layers that did not run or
            have no row per image, such as windows; `left_out` of the result lists them.
        reduce: `flatten` [B, d]; `gap` or `mean` [B, c], over positions without prefix tokens; `cls` [B, d];
            `tokens` [B, n, d] without prefix; `spatial:N` [B, c, N, N], means over areas;
            `gram` [B, B] float64 of centred features; `whole`; or a function of the output.
        evaluate: put the model into evaluation mode inside the block.
        detach: cut the features off the autograd graph.
        forward: `forward(model, batch)` runs the network, or a part of it, when the result is called with a minibatch.

    Returns:
        a mapping of layer name to feature of the last forward pass, in the order of execution. Called with a minibatch
        (`kdprobe.features.minibatches`), it runs the network on it and returns the network's output.

    Raises:
        CaptureError: for an unknown layer or reducer, or a network on several devices; while running, for a layer
            chosen by name that did not run or gave no tensor with a row per image, for stages that cannot be
            determined, and for a reducer that does not suit a layer's output.

    Example:
        >>> import torch
        >>> import kdprobe
        >>> from kdprobe.models import create
        >>> model = create("resnet8", n_classes=10, image_size=16)
        >>> with kdprobe.capture(model, ["layer1", "layer3"], reduce="gap") as features:
        ...     _ = model(torch.rand(4, 3, 16, 16))
        >>> {layer: list(feature.shape) for layer, feature in features.items()}
        {'layer1': [4, 16], 'layer3': [4, 64]}
    """
    return Capture(model, layers, reduce=reduce, evaluate=evaluate, detach=detach, forward=forward)


def select_layers(model: nn.Module, layers: Layers, *, images: Tensor | None = None) -> list[str]:
    """Resolve layer choices to module names.

    Args:
        model: the network, unwrapped.
        layers: as `capture` takes them.
        images: images for finding `stages`; made-up ones of the size in the network's description if not given.

    Returns:
        names in the order of `named_modules`; a chosen single call keeps its `#number`.

    Raises:
        CaptureError: if a name or glob matches nothing, with near matches, or if nothing remains.

    Example:
        >>> from kdprobe.features import select_layers
        >>> from kdprobe.models import create
        >>> model = create("resnet8", n_classes=10, image_size=16)
        >>> select_layers(model, "stages")
        ['act1', 'layer1', 'layer2', 'layer3']
        >>> select_layers(model, "layer1.0.conv*")
        ['layer1.0.conv1', 'layer1.0.conv2']
    """
    choices = as_choices(model, layers)
    return list(select(model, choices, stage_names(model, images) if _asks_for_stages(choices) else ()).names)


class Capture(Mapping[str, Tensor]):
    """Features of the last forward pass by layer name; made by `capture`.

    Attributes:
        left_out: layers that a glob or group chose but that have no feature, with the reason.
        notes: layers for which the first of several equally good tensors was taken, with their shapes.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Layers,
        *,
        reduce: str | Callable[[Tensor], Tensor],
        evaluate: bool,
        detach: bool,
        forward: Forward | None = None,
    ) -> None:
        if isinstance(model, nn.DataParallel) and len(model.device_ids) > 1:
            raise CaptureError("a DataParallel network runs in parts on several devices; capture its `module`")
        self._given, self._model, self._forward = model, unwrap(model), forward
        self._choices = as_choices(self._model, layers)
        self._selection = select(self._model, self._choices, None)
        self._hooked = not _asks_for_stages(self._choices)  # stages are known when the network has run
        self._first_names = other_names(self._model)
        (self._reduce, self._by_layout), self._own = reducer(reduce), not isinstance(reduce, str)
        self._evaluate, self._detach = evaluate, detach
        self._prefix_tokens = info.prefix_tokens if (info := described(self._model)) is not None else None
        self._compiled = any(_is_compiled(module) for module in model.modules())
        self._exit = ExitStack()
        self._pass, self._running, self._by_hand = Pass(), False, False
        self._traces: dict[Any, Trace] = {}
        self._seen, self._needed = Trace((), (False,)), set[str]()
        self._features: dict[str, Tensor] = {}
        self.left_out: dict[str, str] = {}
        self.notes: dict[str, str] = {}

    def __enter__(self) -> "Capture":
        with ExitStack() as stack:
            if self._compiled:
                stack.enter_context(torch.compiler.set_stance("force_eager"))
            if self._evaluate:
                stack.enter_context(in_evaluation(self._model))
            stack.callback(self._model.register_forward_pre_hook(self._start, with_kwargs=True).remove)
            if self._hooked:
                self._hook(stack)
            stack.callback(self._model.register_forward_hook(self._finish).remove)
            _open()[id(self)] = self
            stack.callback(_open().pop, id(self))
            self._exit = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exit.close()

    def __call__(self, batch: Any) -> Any:
        """Run the network on a copy of a minibatch that is on its device, and return its output.

        Raises:
            AnalysisError: if there is no `forward` and it is not clear where the images are.
        """
        forward, given = self._forward, self._given
        if forward is None:
            return feed(given, batch)
        self._begin((batch,), {}, n_samples(batch, forward), call=lambda batch: forward(given, batch))
        self._by_hand = True
        try:
            output = forward(given, copied(batch))
        finally:
            self._by_hand = False
        self._end()
        return output

    def __getitem__(self, name: str) -> Tensor:
        found = self._features.get(name, self._features.get(self._first_name(name)))
        if found is None:
            ran = near_matches(name, self._features) if self._features else "; the model has not run yet"
            raise CaptureError(f"no feature of layer {name!r}{ran}")
        return found

    def __contains__(self, name: object) -> bool:
        return name in self._features or (isinstance(name, str) and self._first_name(name) in self._features)

    def __iter__(self) -> Iterator[str]:
        return iter(self._features)

    def __len__(self) -> int:
        return len(self._features)

    @property
    def stages(self) -> list[str]:
        """The ends of the network's stages, for images such as the last ones."""
        return stages_in(self._model, self._seen)

    @property
    def layouts(self) -> dict[str, Layout]:
        """What each feature's output looked like before it was reduced."""
        outputs = self._pass.labels()
        return {label: self._layout(outputs[label]) for label in self._features}

    def _hook(self, stack: ExitStack) -> None:
        for name in dict.fromkeys(map(module_name, self._selection.names)):
            module = self._model.get_submodule(name)
            handle = module.register_forward_hook(lambda _module, _inputs, out, name=name: self._take(name, out))
            stack.callback(handle.remove)

    def _first_name(self, name: str) -> str:
        module = module_name(name)
        return self._first_names.get(module, module) + name.removeprefix(module)

    def _start(self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not (is_watching() or _in_backward() or self._by_hand):
            self._begin(args, kwargs, images_in(args, kwargs))

    def _begin(
        self,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        n_images: int | None,
        call: Callable[..., Any] | None = None,
    ) -> None:
        self._features, self.left_out, self.notes, self._running = {}, {}, {}, False
        self._pass = Pass(n_images, torch.is_grad_enabled())
        self._seen = self._watch(args, kwargs, call)
        if not self._hooked:
            self._selection = select(self._model, self._choices, stages_in(self._model, self._seen))
            self._hook(self._exit)
            self._hooked = True
        self._needed = set(map(module_name, self._selection.needed))
        self._running = True

    def _watch(self, args: tuple[Any, ...], kwargs: dict[str, Any], call: Callable[..., Any] | None) -> Trace:
        """The network watched with some of these images; with all of them where it takes no fewer."""
        n_images = self._pass.n_images
        key = tuple(dict.fromkeys(value.shape[1:] for value in tensors_in([args, kwargs])))
        if key not in self._traces:
            few = few_images(args, kwargs, n_images, 2) if n_images else (args, kwargs)
            self._traces[key] = watched(self._model, few, (args, kwargs), call=call)
        return self._traces[key]

    def _layout(self, one: LayerOutput) -> Layout:
        return layout_of(self._call(one), one.shape, self._prefix_tokens)

    def _call(self, one: LayerOutput) -> Call | None:
        return self._seen.call(self._first_name(one.name), one.number)

    def _take(self, name: str, output: Any) -> None:
        if is_watching():
            return
        if not self._running:
            self._take_again(name, output)
            return
        one = self._pass.began(name)
        tensor, rivals = self._tensor_in(output, one)
        one.shape = () if tensor is None else tuple(tensor.shape)
        if rivals and name in self._choices and self._own:
            one.feature = self._reduced(output, one)
        elif (reason := self._unfit(output, tensor, one, rivals)) is not None:
            one.refused, one.unfit = reason, True
            if name in self._needed:
                raise CaptureError(f"layer {name!r} {reason}; leave it out with '!{name}'")
        elif tensor is not None:
            try:
                one.feature = self._reduced(tensor, one)
            except AnalysisError as error:
                raise AnalysisError(f"layer {name!r}: {error}") from error
            except CaptureError as error:
                one.refused = str(error)
                if name in self._needed:
                    raise CaptureError(f"layer {name!r}: {error}") from error

    def _tensor_in(self, output: Any, one: LayerOutput) -> tuple[Tensor | None, str]:
        """The floating tensor of nested tuples and mappings that counts; and among which nothing decides."""
        tensors = [part for part in tensors_in(output) if part.is_floating_point()]
        if len(tensors) < 2:
            return (tensors[0] if tensors else None), ""
        call, n_images = self._call(one), self._pass.n_images
        place, rivals = counting([tuple(tensor.shape) for tensor in tensors], n_images, {})
        if call is not None and call.place < len(tensors) and tensors[call.place].shape[:1] == (n_images,):
            place, rivals = call.place, [(n_images or 0, *shape[1:]) for shape in call.rivals]
        return (None if place is None else tensors[place]), ", ".join(str(list(shape)) for shape in rivals)

    def _unfit(self, output: Any, tensor: Tensor | None, one: LayerOutput, rivals: str) -> str | None:
        n_images = self._pass.n_images
        if tensor is None:
            return f"gives {_described(output)}, which holds no dense floating-point tensor"
        if n_images is not None and (tensor.ndim < 2 or tensor.shape[0] != n_images):
            return f"gives {list(tensor.shape)} for {n_images} images, not one row per image"
        if n_images is not None and not self._seen.has_images_first(
            self._first_name(one.name), one.number, one.shape, n_images
        ):
            return (
                f"gives {list(tensor.shape)}, whose first dimension is not that of the {n_images} images, as in "
                "[positions, images, d]: build it with batch_first=True, or choose another layer"
            )
        if rivals:
            self.notes[one.name] = f"gives several tensors with a row per image, {rivals}; the first was taken"
            if module_name(one.name) in map(module_name, self._choices):
                return f"gives several tensors with a row per image, {rivals}: choose one by a function as `reduce`"
        if not self._detach and self._pass.with_gradients and not torch.is_grad_enabled():
            return "runs without gradients, as inside a reentrant checkpoint; use use_reentrant=False, or detach=True"
        return None

    def _reduced(self, tensor: Any, one: LayerOutput) -> Tensor:
        layout = self._layout(one) if self._by_layout else Layout("other")
        return self._reduce(tree_map(_detached, tensor) if self._detach else tensor, layout)

    def _take_again(self, name: str, output: Any) -> None:
        """Activation checkpointing runs a layer again on the way back, and must find the same tensors saved."""
        if any(other._running for other in _open().values()):
            return  # a module of another network as well, which runs
        if not _in_backward():
            raise CaptureError(
                f"layer {name!r} ran outside a call of the model; call the model itself, or give forward= and call "
                "what capture returns with a minibatch"
            )
        first = next((one for one in self._pass.outputs if one.name == name), None)
        tensor = None if first is None else self._tensor_in(output, first)[0]
        if tensor is not None and first is not None and first.feature is not None and not self._detach:
            self._reduced(tensor, first)

    def _finish(self, _module: nn.Module, _inputs: Any, _output: Any) -> None:
        if self._running and not (is_watching() or self._by_hand):
            self._end()

    def _end(self) -> None:
        self._running = False
        chosen, ran = set(self._selection.names), Counter(one.name for one in self._pass.outputs)
        for label, one in self._pass.labels().items():
            if one.feature is not None and (one.name in chosen or f"{one.name}#{one.number}" in chosen):
                self._features[label] = one.feature
        self.left_out = {one.name: one.refused for one in self._pass.outputs if one.unfit}
        self.left_out |= {name: "did not run" for name in self._selection.names if not ran[module_name(name)]}
        self._check_needed(ran)
        self._check_refused()
        self._check_wide()
        for one in self._pass.outputs:
            one.feature = None

    def _check_needed(self, ran: Counter[str]) -> None:
        needed = [name for name in self._selection.names if name in self._selection.needed]
        silent = [name for name in needed if not ran[module_name(name)]]
        if silent:
            verb = "exists" if len(silent) == 1 else "exist"
            absent = self._model.get_submodule(module_name(silent[0]))
            instead = ", as it is a list of modules; choose some of those" if isinstance(absent, nn.ModuleList) else ""
            raise CaptureError(f"layer {', '.join(map(repr, silent))} {verb} but did not run{instead}")
        for name in needed:
            module, number = module_name(name), call_number(name)
            if number is not None and not 1 <= number <= ran[module]:
                raise CaptureError(
                    f"there is no call {name!r}: {module!r} ran {ran[module]} times, and calls count from 1"
                )

    def _check_refused(self) -> None:
        refused = {one.name: one.refused for one in self._pass.outputs if one.refused and not one.unfit}
        if refused:
            (name, reason), advice = next(iter(refused.items())), ", ".join(f"'!{name}'" for name in refused)
            raise CaptureError(f"layer {name!r}: {reason}; or leave out {advice}")

    def _check_wide(self) -> None:
        for choice, names in self._selection.wide.items():
            left = [name for name in names if name in self._selection.names]
            if left and all(name in self.left_out for name in left):
                raise CaptureError(
                    f"no layer that {choice!r} chooses has a feature: {left[0]!r} {self.left_out[left[0]]}, and so on; "
                    "hooks do not run in traced networks, nor in modules that are not called themselves"
                )


def _asks_for_stages(choices: list[str]) -> bool:
    return any(choice.removeprefix("!") == "stages" for choice in choices)


def _detached(value: Any) -> Any:
    return value.detach() if isinstance(value, Tensor) else value


def _described(output: Any) -> str:
    parts = list(output.values()) if isinstance(output, Mapping) else output
    inside = sorted({type(part).__name__ for part in parts}) if isinstance(parts, tuple | list) else []
    return f"{type(output).__name__} of {', '.join(inside)}" if inside else type(output).__name__


def _in_backward() -> bool:  # as when a checkpoint runs again
    return torch._C._current_graph_task_id() != -1


def _open() -> "dict[int, Capture]":
    """The captures that this thread is inside of, by their identity."""
    return vars(_state).setdefault("captures", {})  # type: ignore[no-any-return]


def _is_compiled(module: nn.Module) -> bool:
    return hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None
