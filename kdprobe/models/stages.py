"""One view of every network: stage maps, tokens, pooled features and logits of one forward pass.

Through timm's `forward_intermediates` where a network has it; otherwise by capturing the modules that
its `feature_info` names. Token grids become maps [B, c, h, w], channels-last maps become channels-first.
"""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import Any, Literal

import torch
from torch import Tensor, nn

from kdprobe.errors import ModelError
from kdprobe.models.create import describe
from kdprobe.models.taps import final_activation, inputs_of, last_attention, outputs_of, split_qkv

Need = Literal["logits", "pooled", "maps", "preacts", "tokens", "qkv", "head"]
LOGITS: tuple[Need, ...] = ("logits",)


@dataclass(frozen=True)
class Features:
    """What one forward pass gave; a field that was not asked for is None or empty.

    Attributes:
        logits: [B, C].
        pooled: [B, d], the classifier's input.
        maps: stage outputs [B, c, h, w], shallow to deep; of a ViT the patch tokens of each block as a grid,
            before the final norm.
        preacts: the maps before the activation that their stage ends with; the maps themselves where it ends
            with none.
        tokens: [B, n_prefix + n, d] after the final norm, of networks with tokens; prefix tokens first.
        qkv: queries, keys and values of the last attention, [3, B, heads, n_prefix + n, d / heads].
        n_prefix: class, distillation and register tokens in front.
        heads: the classifiers themselves, pooled features [B, d] -> logits [B, C]; two of distilled networks.
    """

    logits: Tensor
    pooled: Tensor | None = None
    maps: tuple[Tensor, ...] = ()
    preacts: tuple[Tensor, ...] = ()
    tokens: Tensor | None = None
    qkv: Tensor | None = None
    n_prefix: int = 0
    heads: tuple[nn.Module, ...] = ()

    @property
    def head(self) -> nn.Module | None:
        """The first classifier, None if it was not asked for."""
        return self.heads[0] if self.heads else None


@dataclass(frozen=True)
class Shapes:
    """Sizes of a network's features, measured, for building auxiliary modules.

    Attributes:
        model: its name.
        names: module paths of the stages, shallow to deep.
        maps: (c, h, w) of each stage map; empty where the network offers no stages.
        width: d of the pooled features; 0 where they are not known.
        n_classes: C.
        tokens: (n_prefix + n, d), or None for networks without tokens.
        n_prefix: prefix tokens.
        n_heads: classifiers, two of distilled networks.
        qkv: (attention heads, n_prefix + n, width of a head) of the last attention, or None.
        averaged: whether the network classifies the plain mean of its last map by a linear layer, so that this layer
            gives the logits of each place of that map too.
    """

    model: str
    names: tuple[str, ...]
    maps: tuple[tuple[int, int, int], ...]
    width: int
    n_classes: int
    tokens: tuple[int, int] | None
    n_prefix: int
    n_heads: int = 1
    qkv: tuple[int, int, int] | None = None
    averaged: bool = False


class Stages(nn.Module):
    """Calls a network and returns the features that are needed.

    Args:
        model: the network, from `create` or `load`.
        needs: which features to return; logits always are.

    Raises:
        ModelError: if more than logits is needed and the network offers neither `forward_intermediates` nor
            `feature_info`.
    """

    def __init__(self, model: nn.Module, *, needs: Collection[Need] = LOGITS) -> None:
        super().__init__()
        self.model = model
        self.needs = frozenset(needs)
        self.n_prefix = int(getattr(model, "num_prefix_tokens", 0))
        self._collect = _collector(model) if self.needs & {"maps", "preacts", "tokens"} else None
        if self._collect is None and self.needs & {"maps", "preacts", "tokens"}:
            raise ModelError(
                f"{type(model).__name__} offers no stages: it has neither forward_intermediates nor feature_info, "
                "so only methods that need logits alone can use it"
            )
        self._ends = _stage_ends(model) if "preacts" in self.needs else []
        self._attention: Any = last_attention(model) if "qkv" in self.needs else None
        if self._attention is None and "qkv" in self.needs:
            raise ModelError(f"{type(model).__name__} has no attention with queries, keys and values in one layer qkv")

    def forward(self, images: Tensor) -> Features:
        """Normalised images [B, 3, s, s] -> their features."""
        with (
            _classifier_input(self.model, wanted="pooled" in self.needs) as pooled,
            inputs_of(self._ends) as before,
            outputs_of(getattr(self._attention, "qkv", None)) as qkv,
        ):
            if self._collect is None:
                maps: list[Tensor] = []
                logits, final = self.model(images), None
            else:
                logits, maps, final = self._collect(images)
        logits = one_tensor(logits, describe(self.model).name)
        single = final if isinstance(final, Tensor) else None
        tokens = single if single is not None and single.ndim == 3 and "tokens" in self.needs else None
        return Features(
            logits=logits,
            pooled=pooled[-1] if pooled else None,
            maps=tuple(maps) if "maps" in self.needs else (),
            preacts=_before_activation(maps, before),
            tokens=tokens,
            qkv=split_qkv(qkv[-1], self._attention.num_heads) if qkv else None,
            n_prefix=self.n_prefix,
            heads=_classifiers(self.model) if "head" in self.needs else (),
        )


def one_tensor(output: Any, name: str) -> Tensor:
    """A network's output, which must be its logits alone.

    Raises:
        ModelError: naming the network and what it gives instead.
    """
    if isinstance(output, Tensor) and output.is_floating_point():
        return output
    kind = type(output).__name__
    if isinstance(output, Tensor):
        raise ModelError(
            f"network {name!r} gives numbers of {output.dtype}, but logits must be real floating-point numbers"
        )
    if isinstance(output, dict):
        kind += f" of {', '.join(map(repr, output))}"
    elif isinstance(output, list | tuple):
        kind += f" of {', '.join(type(part).__name__ for part in output)}"
    raise ModelError(
        f"network {name!r} gives a {kind}, but one tensor of logits [images, classes] is needed; wrap it in a module "
        "that returns the logits alone"
    )


def measure(model: nn.Module) -> Shapes:
    """Run two made-up images through a network and note what its features are; no maps where it has no stages."""
    info = describe(model)
    needs: tuple[Need, ...] = ("logits",)
    needs += ("pooled", "head") if hasattr(model, "get_classifier") else ()
    needs += ("maps", "tokens") if _collector(model) is not None else ()
    needs += ("qkv",) if getattr(model, "num_prefix_tokens", None) is not None and last_attention(model) else ()
    view = Stages(model, needs=needs)
    parameter = next(model.parameters(), torch.empty(0))
    size = (2, len(info.mean), info.image_size, info.image_size)
    images = torch.arange(prod(size)).sin().reshape(size).to(parameter)  # blank ones could make unequal things equal
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            features = view(images)
    finally:
        model.train(was_training)
    width = 0 if features.pooled is None else features.pooled.shape[1]
    sizes = tuple((m.shape[1], m.shape[2], m.shape[3]) for m in features.maps)
    names = _stage_names(model, len(sizes))
    tokens = None if features.tokens is None else (features.tokens.shape[1], features.tokens.shape[2])
    qkv = None if features.qkv is None else (features.qkv.shape[2], features.qkv.shape[3], features.qkv.shape[4])
    n_heads = max(len(features.heads), 1)
    averaged = _averages(features)
    return Shapes(info.name, names, sizes, width, info.n_classes, tokens, view.n_prefix, n_heads, qkv, averaged)


def _averages(features: Features) -> bool:
    if features.pooled is None or not features.maps or not isinstance(features.head, nn.Linear):
        return False
    mean = features.maps[-1].mean((2, 3))
    if mean.shape != features.pooled.shape:
        return False
    difference = torch.linalg.vector_norm((mean - features.pooled).float())
    return bool(difference <= 1e-3 * torch.linalg.vector_norm(features.pooled.float()))


def _stage_ends(model: nn.Module) -> list[nn.Module | None]:
    modules = dict(model.named_modules())
    names = [str(info["module"]) for info in getattr(model, "feature_info", [])]
    return [final_activation(modules[name]) if name in modules else None for name in names]


def _before_activation(maps: list[Tensor], before: list[Tensor | None]) -> tuple[Tensor, ...]:
    if len(maps) != len(before):
        return ()
    return tuple(b if b is not None and b.shape == m.shape else m for m, b in zip(maps, before, strict=True))


_Final = Tensor | list[Tensor]  # a list of networks with several branches
_Collector = Callable[[Tensor], tuple[Tensor, list[Tensor], _Final | None]]


def _collector(model: nn.Module) -> _Collector | None:
    if hasattr(model, "forward_intermediates") and hasattr(model, "forward_head"):
        return lambda images: _by_intermediates(model, images)
    if getattr(model, "feature_info", None):
        return lambda images: _by_modules(model, images)
    return None


def _by_intermediates(model: Any, images: Tensor) -> tuple[Tensor, list[Tensor], _Final]:
    final, maps = model.forward_intermediates(images, output_fmt="NCHW")
    return model.forward_head(final), maps, final


def _by_modules(model: nn.Module, images: Tensor) -> tuple[Tensor, list[Tensor], None]:
    outputs: dict[str, Tensor] = {}
    infos = list(model.feature_info)  # type: ignore[arg-type]
    handles = []
    for info in infos:
        name = info["module"]
        keep = lambda _module, _inputs, output, name=name: outputs.__setitem__(name, output)  # noqa: E731
        handles.append(model.get_submodule(name).register_forward_hook(keep))
    try:
        logits = model(images)
    finally:
        for handle in handles:
            handle.remove()
    prefix = int(getattr(model, "num_prefix_tokens", 0))
    return logits, [as_map(outputs[info["module"]], info["num_chs"], prefix) for info in infos], None


def as_map(output: Tensor, channels: int, n_prefix: int) -> Tensor:
    """A stage's output as a map [B, c, h, w].

    Args:
        output: [B, c, h, w], [B, h, w, c] or tokens [B, n_prefix + h*h, c].
        channels: c.
        n_prefix: tokens to leave out in front.

    Raises:
        ModelError: if the output has none of these forms.
    """
    if output.ndim == 4 and output.shape[1] == channels:
        return output
    if output.ndim == 4 and output.shape[3] == channels:
        return output.permute(0, 3, 1, 2)
    if output.ndim == 3:
        patches = output[:, n_prefix:]
        side = round(patches.shape[1] ** 0.5)
        if side * side == patches.shape[1]:
            return patches.transpose(1, 2).reshape(output.shape[0], channels, side, side)
    raise ModelError(f"a stage output of shape {tuple(output.shape)} is neither a map nor a square grid of tokens")


@contextmanager
def _classifier_input(model: Any, *, wanted: bool) -> Iterator[list[Tensor]]:
    kept: list[Tensor] = []
    if not wanted:
        yield kept
        return
    classifier = _classifiers(model)[0]
    handle = classifier.register_forward_pre_hook(lambda _module, inputs: kept.append(inputs[0].flatten(1)))
    try:
        yield kept
    finally:
        handle.remove()


def _classifiers(model: Any) -> tuple[nn.Module, ...]:
    if not hasattr(model, "get_classifier"):
        raise ModelError(f"{type(model).__name__} has no get_classifier(), so its pooled features are not known")
    found = model.get_classifier()
    return tuple(found) if isinstance(found, tuple | list | nn.ModuleList) else (found,)


def _stage_names(model: nn.Module, count: int) -> tuple[str, ...]:
    infos = list(getattr(model, "feature_info", []))
    names = tuple(str(info["module"]) for info in infos)
    return names if len(names) == count else tuple(f"stage{index}" for index in range(count))
