"""What distillation methods see of a network: stage maps, tokens, pooled features and logits of one forward pass.

Stage maps are what the network itself offers: what timm's `forward_intermediates` returns, or the outputs of the
modules that its `feature_info` names. Token grids become maps [B, c, h, w], channels-last maps become channels-first.

They are not the ends of stages that `kdprobe.capture` takes, which `kdprobe.models.facts` finds in any network by
watching it run. In most of timm's families both are the same to the bit (`tests/kdprobe/models/test_families.py` names
those in which they are not), but methods are published for what the network offers, and must not be refused where
skip connections lead around a stage, as in HRNet.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from kdprobe.errors import ModelError
from kdprobe.models.creation import model_info
from kdprobe.models.facts import made_up_images
from kdprobe.models.hooks import inputs_of, outputs_of
from kdprobe.models.layout import Layout, as_map

Need = Literal["logits", "pooled", "maps", "preacts", "tokens", "qkv", "head"]
LOGITS: tuple[Need, ...] = ("logits",)


@dataclass(frozen=True)
class Features:
    """The results of one forward pass; a field that was not asked for is None or empty.

    Attributes:
        logits: [B, C].
        pooled: [B, d], the classifier's input.
        maps: stage outputs [B, c, h, w], shallow to deep; of a ViT the patch tokens of each block as a grid,
            before the final norm.
        preacts: the maps before the activation that ends their stage; the maps themselves where no activation does.
        tokens: [B, n_prefix + n, d] after the final norm, for networks with tokens; prefix tokens first.
        qkv: queries, keys and values of the last attention, [3, B, heads, n_prefix + n, d / heads].
        n_prefix: number of class, distillation and register tokens in front.
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
    """Measured sizes of a network's features, for building auxiliary modules.

    Attributes:
        model: its name.
        names: module paths of the stages, shallow to deep.
        maps: (c, h, w) of each stage map; empty if the network offers none.
        width: d of the pooled features; 0 where they are not known.
        n_classes: C.
        tokens: (n_prefix + n, d), or None for networks without tokens.
        n_prefix: prefix tokens.
        n_heads: classifiers, two of distilled networks.
        qkv: (attention heads, n_prefix + n, width of a head) of the last attention, or None.
        averaged: whether the network applies a linear layer to the plain mean of its last map, so that this layer also
            gives the logits of each place of that map.
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
        ModelError: if maps or tokens are needed and the network has neither `forward_intermediates` nor
            `feature_info`, or if pooled features or an attention are needed and it does not say where they are.
    """

    def __init__(self, model: nn.Module, *, needs: Collection[Need] = LOGITS) -> None:
        super().__init__()
        self.model = model
        self.needs = frozenset(needs)
        self.n_prefix = int(getattr(model, "num_prefix_tokens", 0))
        self._collect = _collector(model) if self.needs & {"maps", "preacts", "tokens"} else None
        if self._collect is None and self.needs & {"maps", "preacts", "tokens"}:
            raise ModelError(
                f"{type(model).__name__} offers no stage maps: it has neither forward_intermediates nor "
                "feature_info, so only methods that need logits alone can use it"
            )
        self._activations = _last_activations(model) if "preacts" in self.needs else []
        self._attention: Any = last_attention(model) if "qkv" in self.needs else None
        if self._attention is None and "qkv" in self.needs:
            raise ModelError(f"{type(model).__name__} has no attention with queries, keys and values in one layer qkv")

    def forward(self, images: Tensor) -> Features:
        """Normalised images [B, 3, s, s] -> their features."""
        classifier = _classifiers(self.model)[0] if "pooled" in self.needs else None
        with (
            inputs_of([classifier]) as entered,
            inputs_of(self._activations) as before,
            outputs_of([getattr(self._attention, "qkv", None)]) as qkv,
        ):
            if self._collect is None:
                maps: list[Tensor] = []
                logits, final = self.model(images), None
            else:
                logits, maps, final = self._collect(images)
        logits = one_tensor(logits, model_info(self.model).name)
        single = final if isinstance(final, Tensor) else None
        tokens = single if single is not None and single.ndim == 3 and "tokens" in self.needs else None
        return Features(
            logits=logits,
            pooled=None if entered[0] is None else entered[0].flatten(1),
            maps=tuple(maps) if "maps" in self.needs else (),
            preacts=_before_activation(maps, before),
            tokens=tokens,
            qkv=None if qkv[0] is None else split_qkv(qkv[0], self._attention.num_heads),
            n_prefix=self.n_prefix,
            heads=_classifiers(self.model) if "head" in self.needs else (),
        )


def one_tensor(output: Any, name: str) -> Tensor:
    """A network's output, which must be nothing but its logits.

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
    """Run two made-up images through a network and note the sizes of its features; no maps where it offers none."""
    info = model_info(model)
    needs: tuple[Need, ...] = ("logits",)
    needs += ("pooled", "head") if hasattr(model, "get_classifier") else ()
    needs += ("maps", "tokens") if _collector(model) is not None else ()
    needs += ("qkv",) if getattr(model, "num_prefix_tokens", None) is not None and last_attention(model) else ()
    view = Stages(model, needs=needs)
    images = made_up_images(model)
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            features = view(images)
    finally:
        model.train(was_training)
    width = 0 if features.pooled is None else features.pooled.shape[1]
    sizes = tuple((m.shape[1], m.shape[2], m.shape[3]) for m in features.maps)
    names = _map_names(model, len(sizes))
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


def _last_activations(model: nn.Module) -> list[nn.Module | None]:
    """The activation that each stage of `feature_info` ends with; None for a stage that ends otherwise."""
    modules = dict(model.named_modules())
    names = [str(info["module"]) for info in getattr(model, "feature_info", [])]
    return [final_activation(modules[name]) if name in modules else None for name in names]


_ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.SiLU, nn.GELU, nn.Hardswish)


def final_activation(stage: nn.Module) -> nn.Module | None:
    """The activation that a stage ends with, as the residual networks' do; None where it ends otherwise."""
    if isinstance(stage, _ACTIVATIONS):
        return stage
    children = list(stage.children())
    activations = [child for child in children if isinstance(child, _ACTIVATIONS)]
    if activations and not isinstance(stage, nn.Sequential):
        return activations[-1]
    return final_activation(children[-1]) if children else None


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
    infos = list(model.feature_info)  # type: ignore[arg-type]
    with outputs_of([model.get_submodule(info["module"]) for info in infos]) as outputs:
        logits = model(images)
    prefix = int(getattr(model, "num_prefix_tokens", 0))
    layouts = [declared_layout(output, info["num_chs"], prefix) for output, info in zip(outputs, infos, strict=True)]
    return logits, [as_map(output, layout) for output, layout in zip(outputs, layouts, strict=True)], None


def declared_layout(output: Tensor, channels: int, n_prefix: int) -> Layout:
    """The layout of a stage's output whose number of channels the network declares, as `feature_info` does.

    Args:
        output: output of the stage.
        channels: c.
        n_prefix: tokens in front of the patch tokens.
    """
    if output.ndim == 4 and output.shape[1] == channels:
        return Layout("NCHW")
    if output.ndim == 4 and output.shape[3] == channels:
        return Layout("NHWC")
    return Layout("tokens", n_prefix) if output.ndim == 3 else Layout("other")


def _classifiers(model: Any) -> tuple[nn.Module, ...]:
    if not hasattr(model, "get_classifier"):
        raise ModelError(f"{type(model).__name__} has no get_classifier(), so its pooled features are not known")
    found = model.get_classifier()
    return tuple(found) if isinstance(found, tuple | list | nn.ModuleList) else (found,)


def last_attention(model: nn.Module) -> Any:
    """The last attention of a transformer that makes queries, keys and values by one layer `qkv`; else None."""
    found = [m for m in model.modules() if hasattr(m, "num_heads") and isinstance(getattr(m, "qkv", None), nn.Linear)]
    return found[-1] if found else None


def split_qkv(output: Tensor, n_heads: int) -> Tensor:
    """[B, n, 3 h d] -> [3, B, h, n, d]."""
    batch, n_tokens, width = output.shape
    return output.reshape(batch, n_tokens, 3, n_heads, width // (3 * n_heads)).permute(2, 0, 3, 1, 4)


def _map_names(model: nn.Module, count: int) -> tuple[str, ...]:
    infos = list(getattr(model, "feature_info", []))
    names = tuple(str(info["module"]) for info in infos)
    return names if len(names) == count else tuple(f"stage{index}" for index in range(count))
