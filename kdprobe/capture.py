"""Features of chosen layers, taken by forward hooks that exist only inside a `with` block.

    with capture(model, "stages", reduce="gap") as features:
        model(images)
        features["layer4"]  # [B, c]

A feature is copied or reduced inside the hook, before an in-place operation behind the layer can
overwrite it. A module that runs several times in one forward pass gives one layer per call, named
`relu#1`, `relu#2` and so on.
"""

import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from fnmatch import fnmatchcase
from types import ModuleType, TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from kdprobe.errors import AnalysisError, CaptureError, near_matches
from kdprobe.features import REDUCERS, Layout, layout_of
from kdprobe.models.create import unwrap

GROUPS = ("stages", "leaves", "all")


def capture(
    model: nn.Module,
    layers: str | Sequence[str] = "stages",
    *,
    reduce: str | Callable[[Tensor], Tensor] = "flatten",
    evaluate: bool = True,
    detach: bool = True,
) -> "Capture":
    """Take the outputs of layers while the model runs inside `with`.

    Args:
        model: any network; compiled ones run uncompiled inside the block, wrapped ones are looked through.
        layers: module names, globs (`*` spans dots), `stages` (stage or block outputs), `leaves` (modules without
            children that are not identities or dropouts), `all`; `!glob` leaves out; `NAME#2` is the second
            call alone.
        reduce: `flatten` [B, d]; `gap` or `mean` [B, c], over positions without prefix tokens; `cls` [B, d];
            `tokens` [B, n, d] without prefix; `gram` [B, B] float64 of centred features; `whole`;
            or a function of the output.
        evaluate: put the model into evaluation mode inside the block.
        detach: cut the features off the autograd graph.

    Returns:
        a mapping of layer name -> feature of the last forward pass, in the order of execution.

    Raises:
        CaptureError: for an unknown layer or reducer, or a network on several devices; while running, for a chosen
            layer or call of it that did not run, or that gave no tensor with a row per image.
    """
    return Capture(model, layers, reduce=reduce, evaluate=evaluate, detach=detach)


def select_layers(model: nn.Module, layers: str | Sequence[str]) -> list[str]:
    """Resolve layer choices to module names.

    Args:
        model: the network, unwrapped.
        layers: as `capture` takes them.

    Returns:
        names in the order of `named_modules`; a chosen single call keeps its `#number`.

    Raises:
        CaptureError: if a name or glob matches nothing, with near matches, or nothing remains.
    """
    names = [name for name, _ in model.named_modules() if name]
    choices = [layers] if isinstance(layers, str) else list(layers)
    chosen: dict[str, None] = {}
    for choice in choices:
        if choice.startswith("!"):
            for name in _matching(choice[1:], names, model):
                chosen.pop(name, None)
        else:
            chosen.update(dict.fromkeys(_matching(choice, names, model)))
    if not chosen:
        raise CaptureError(f"no layer is chosen by {choices}{near_matches('', names)}")
    position = {name: index for index, name in enumerate(names)}
    return sorted(chosen, key=lambda name: (position[_module_name(name)], name))


class Capture(Mapping[str, Tensor]):
    """Features of the last forward pass by layer name; made by `capture`.

    Attributes:
        layouts: what each feature's output looked like before it was reduced.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: str | Sequence[str],
        *,
        reduce: str | Callable[[Tensor], Tensor],
        evaluate: bool,
        detach: bool,
    ) -> None:
        if isinstance(model, nn.DataParallel) and len(model.device_ids) > 1:
            raise CaptureError("a DataParallel network runs in parts on several devices; capture its `module`")
        self._model = unwrap(model)
        self._selected = select_layers(self._model, layers)
        self._named = _named_exactly(layers)
        self._reduce = _reducer(reduce)
        self._evaluate, self._detach = evaluate, detach
        self._compiled = any(_is_compiled(module) for module in model.modules())
        self._exit = ExitStack()
        self._outputs: list[tuple[str, Tensor, Layout]] = []
        self._features: dict[str, Tensor] = {}
        self._batch: int | None = None
        self._running = False
        self.layouts: dict[str, Layout] = {}

    def __enter__(self) -> "Capture":
        with ExitStack() as stack:
            if self._compiled:
                stack.enter_context(torch.compiler.set_stance("force_eager"))
            if self._evaluate:
                stack.callback(_set_modes, [(module, module.training) for module in self._model.modules()])
                self._model.eval()
            handles = [
                self._model.register_forward_pre_hook(self._start, with_kwargs=True),
                *(self._hook(name) for name in dict.fromkeys(map(_module_name, self._selected))),
                self._model.register_forward_hook(self._finish),
            ]
            for handle in handles:
                stack.callback(handle.remove)
            self._exit = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exit.close()

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._features:
            ran = near_matches(name, self._features) if self._features else "; the model has not run yet"
            raise CaptureError(f"no feature of layer {name!r}{ran}")
        return self._features[name]

    def __contains__(self, name: object) -> bool:
        return name in self._features

    def __iter__(self) -> Iterator[str]:
        return iter(self._features)

    def __len__(self) -> int:
        return len(self._features)

    def _hook(self, name: str) -> torch.utils.hooks.RemovableHandle:
        module = self._model.get_submodule(name)
        parent = self._model.get_submodule(name.rpartition(".")[0])
        return module.register_forward_hook(lambda _module, _inputs, output: self._take(name, module, parent, output))

    def _start(self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        inputs = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor) and value.ndim]
        self._batch = inputs[0].shape[0] if inputs else None
        self._outputs, self._features, self._running = [], {}, True

    def _take(self, name: str, module: nn.Module, parent: nn.Module, output: Any) -> None:
        if not self._running:
            raise CaptureError(f"layer {name!r} ran outside a call of the model; call the model itself")
        tensor = _tensor_in(output, name, self._batch)
        if self._batch is not None and (tensor.ndim < 2 or tensor.shape[0] != self._batch):
            raise CaptureError(
                f"layer {name!r} gives {list(tensor.shape)} for {self._batch} images, not one row per image; "
                f"leave it out with '!{name}'"
            )
        layout = layout_of(self._model, module, tensor, parent=parent)
        try:
            feature = self._reduce(tensor.detach() if self._detach else tensor, layout)
        except (AnalysisError, CaptureError) as error:
            raise type(error)(f"layer {name!r}: {error}") from error
        self._outputs.append((name, feature, layout))

    def _finish(self, _module: nn.Module, _inputs: Any, _output: Any) -> None:
        self._running = False
        total = Counter(name for name, _, _ in self._outputs)
        seen: Counter[str] = Counter()
        for name, feature, layout in self._outputs:
            seen[name] += 1
            label = name if total[name] == 1 else f"{name}#{seen[name]}"
            if name in self._selected or f"{name}#{seen[name]}" in self._selected:
                self._features[label], self.layouts[label] = feature, layout
        self._outputs = []
        silent = [name for name in self._named if not total[_module_name(name)]]
        if silent:
            raise CaptureError(f"layer {silent[0]!r} exists but did not run{near_matches(silent[0], total)}")
        for name in self._named:
            module, number = _module_name(name), _call_number(name)
            if number is not None and not 1 <= number <= total[module]:
                raise CaptureError(f"there is no call {name!r}: {module!r} ran {total[module]} times, counted from 1")


def _matching(choice: str, names: list[str], model: nn.Module) -> list[str]:
    if choice == "stages":
        return stage_names(model)
    if choice == "leaves":
        return [name for name in names if _is_leaf(model.get_submodule(name))]
    if choice == "all":
        return names
    if choice in names or _module_name(choice) in names:
        return [choice]
    found = [name for name in names if fnmatchcase(name, choice)] if _is_glob(choice) else []
    if not found:
        raise CaptureError(f"no layer {choice!r} in {type(model).__name__}{near_matches(choice, [*names, *GROUPS])}")
    return found


def _is_leaf(module: nn.Module) -> bool:
    """No children, and more than handing on what comes in, as identities and inactive dropouts do."""
    hands_on = isinstance(module, nn.Identity | nn.modules.dropout._DropoutNd) or type(module).__name__ == "DropPath"
    return not hands_on and not any(module.children())


def stage_names(model: nn.Module) -> list[str]:
    """Modules that end a stage, shallow to deep.

    Those of timm's `feature_info`; without it the network's sequences of blocks, or where there is only
    one such sequence, its blocks.
    """
    modules = dict(model.named_modules())
    listed = [str(info["module"]) for info in getattr(model, "feature_info", None) or [] if info["module"]]
    if listed and all(name in modules for name in listed):
        return [_last_that_runs(name, modules[name]) for name in dict.fromkeys(listed)]
    top = [name for name, child in model.named_children() if isinstance(child, nn.Sequential)]
    if len(top) > 1:
        return top
    sequences = [(name, m) for name, m in modules.items() if isinstance(m, nn.Sequential | nn.ModuleList)]
    name, longest = max(sequences, key=lambda item: len(item[1]), default=("", model))
    return [f"{name}.{child}".lstrip(".") for child, _ in longest.named_children()]


def _last_that_runs(name: str, module: nn.Module) -> str:
    """A list of modules is never called itself: its last one is."""
    return f"{name}.{len(module) - 1}" if isinstance(module, nn.ModuleList) else name


def _named_exactly(layers: str | Sequence[str]) -> list[str]:
    choices = [layers] if isinstance(layers, str) else layers
    return [name for name in choices if name not in GROUPS and not name.startswith("!") and not _is_glob(name)]


def _is_glob(choice: str) -> bool:
    return any(sign in choice for sign in "*?[")


def _module_name(layer: str) -> str:
    return re.sub(r"#\d+$", "", layer)


def _call_number(layer: str) -> int | None:
    call = re.search(r"#(\d+)$", layer)
    return int(call[1]) if call else None


def _reducer(reduce: str | Callable[[Tensor], Tensor]) -> Callable[[Tensor, Layout], Tensor]:
    if not isinstance(reduce, str):
        return lambda output, _layout: reduce(output)
    if reduce not in REDUCERS:
        raise CaptureError(f"no reducer {reduce!r}{near_matches(reduce, REDUCERS)}")
    return REDUCERS[reduce]


def _tensor_in(output: Any, name: str, batch: int | None) -> Tensor:
    """The first floating tensor of a tuple, a mapping or a model output; if possible one with a row per image."""
    parts = list(output.values()) if isinstance(output, Mapping) else output
    parts = list(parts) if isinstance(parts, tuple | list) else [parts]
    tensors = [part for part in parts if isinstance(part, Tensor) and part.is_floating_point()]
    if not tensors:
        raise CaptureError(f"layer {name!r} gives {type(output).__name__}, in which there is no floating tensor")
    return next((tensor for tensor in tensors if tensor.shape[:1] == (batch,)), tensors[0])


def _is_compiled(module: nn.Module) -> bool:
    return hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None


def _set_modes(modes: list[tuple[nn.Module, bool]]) -> None:
    for module, training in modes:
        module.training = training


class _CallableModule(ModuleType):
    """`kdprobe.capture` is this module as soon as it is imported: called, it is its function."""

    def __call__(self, *args: Any, **kwargs: Any) -> Capture:
        return capture(*args, **kwargs)


sys.modules[__name__].__class__ = _CallableModule
