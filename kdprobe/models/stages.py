"""What distillation methods see of a network: stage maps, tokens, pooled features and logits of one forward pass.

Stage maps are what the network itself offers: what timm's `forward_intermediates` returns, or the outputs of the
modules that its `feature_info` names. Token grids become maps [B, c, h, w], channels-last maps become channels-first.

They are not the ends of stages that `kdprobe.capture` takes, which `kdprobe.models.facts` finds in any network by
watching it run. In most of timm's families both are the same to the bit (`tests/kdprobe/models/test_families.py` names
those in which they are not), but methods are published for what the network offers, and must not be refused where
skip connections lead around a stage, as in HRNet.
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from kdprobe.errors import KdprobeError, ModelError
from kdprobe.models.creation import model_info, unwrap
from kdprobe.models.facts import FeaturePlace, made_up_images
from kdprobe.models.hooks import KeptHooks, in_evaluation, inputs_of, outputs_of, outputs_of_all_calls
from kdprobe.models.layout import as_map
from kdprobe.models.outputs import answer_in
from kdprobe.models.watched.offered import (
    Collected,
    Collector,
    Final,
    alone,
    before_activation,
    by_modules,
    collector_of,
    declared_ends,
    declared_maps,
    final_activation,
    last_attention,
    map_names,
    split_qkv,
    told_classifiers,
    unsettled,
)
from kdprobe.models.watched.parts import IN_MAPS, Parts, find_parts

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

    Example:
        >>> import torch
        >>> from kdprobe.models import Stages, create
        >>> model = create("resnet8", n_classes=10, image_size=16)
        >>> features = Stages(model)(torch.rand(2, 3, 16, 16))
        >>> features.logits.shape, features.pooled, features.maps
        (torch.Size([2, 10]), None, ())
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
        linear: whether the (first) classifier is a linear layer.
        averaged: whether it is applied to the plain mean of the last map, so that it also classifies its places.
        described: whether the stages are those that `kdprobe.describe` was given.
        class_token: which of the prefix tokens is the class token; None where none is known.

    Example:
        >>> from kdprobe.models import create
        >>> from kdprobe.models.stages import measure
        >>> shapes = measure(create("resnet8", n_classes=10, image_size=16))
        >>> shapes.names, shapes.maps[-1], shapes.width
        (('act1', 'layer1', 'layer2', 'layer3'), (64, 4, 4), 64)
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
    linear: bool = False
    averaged: bool = False
    described: bool = False
    class_token: int | None = None


class Stages(nn.Module):
    """Calls a network and returns the features that are needed.

    Args:
        model: the network, from `create` or `load`, or described by `kdprobe.describe`. Where neither its description
            nor timm's methods tell what is needed, it is watched once, with two made-up images.
        needs: which features to return; logits always are.
        parts: where they are; found out if not given.

    Raises:
        ModelError: if maps, tokens, pooled features or an attention are needed, and it is not known where they are.

    Example:
        >>> import torch
        >>> from kdprobe.models import Stages, create
        >>> model = create("resnet8", n_classes=10, image_size=16)
        >>> features = Stages(model, needs=("maps", "pooled"))(torch.rand(2, 3, 16, 16))
        >>> [list(one.shape) for one in features.maps], features.pooled.shape
        ([[2, 16, 16, 16], [2, 16, 16, 16], [2, 32, 8, 8], [2, 64, 4, 4]], torch.Size([2, 64]))
    """

    def __init__(self, model: nn.Module, *, needs: Collection[Need] = LOGITS, parts: Parts | None = None) -> None:
        super().__init__()
        self.model = model
        self.needs = frozenset(needs)
        self.parts = parts = find_parts(model, self.needs) if parts is None else parts
        name, in_maps = type(unwrap(model)).__name__, bool(self.needs & IN_MAPS)
        if in_maps and parts.no_maps:
            raise ModelError(
                f"{name} offers no stage maps: {parts.no_maps}; name the modules that end its stages, as stages of "
                "kdprobe.describe or as model.stages, or use a method that needs none, such as 'kd'"
            )
        if self.needs & {"pooled", "head"} and parts.no_pooled:
            raise ModelError(
                f"the pooled features of {name} are not known: {parts.no_pooled}; name the module that they enter, as "
                "classifier of kdprobe.describe or as model.classifier"
            )
        self._collect: Collector = (in_maps and not parts.stages and collector_of(model)) or alone
        self._kept: _Kept | None = None
        self._activations = _last_activations(model, parts.stages) if "preacts" in self.needs else []
        self._attention: Any = last_attention(model) if "qkv" in self.needs else None
        if self._attention is None and "qkv" in self.needs:
            raise ModelError(f"{name} has no attention with queries, keys and values in one layer qkv")
        if any(self._activations):
            self._activations = self._that_end_stages()

    def _that_end_stages(self) -> list[nn.Module | None]:
        """Of these activations those that are the last to run, as made-up images show: they give the stage's map."""
        with torch.no_grad(), in_evaluation(self.model), self._watched() as seen:
            maps = self._maps(self._collect(self.model, made_up_images(self.model))[1], seen)
            stages = zip(self._activations, before_activation(maps, seen.before), maps, strict=False)
            return [one if one and torch.equal(one(before.clone()), after) else None for one, before, after in stages]

    @property
    def n_prefix(self) -> int:
        """Number of class, distillation and register tokens in front of the patch tokens."""
        stages = self.parts.stages
        return stages[-1].layout.n_prefix if stages else int(getattr(self.model, "num_prefix_tokens", 0))

    @property
    def class_token(self) -> int | None:
        """Place of the class token among the tokens; None where none is known."""
        if stages := self.parts.stages:
            return stages[-1].layout.class_token
        return 0 if self.n_prefix and getattr(self.model, "cls_token", None) is not None else None

    def forward(self, images: Tensor) -> Features:
        """Normalised images [B, 3, s, s] -> their features."""
        if self._kept is None or not self._kept.hooks.is_open:
            with self._watched() as seen:
                found = self._collect(self.model, images)
            return self._features(*found, seen)
        found = self._kept.collect(self.model, images)
        features = self._features(*found, self._kept.seen())
        self._kept.hooks.clear()
        return features

    def keep_hooks(self) -> KeptHooks:
        """Make the hooks once; inside `with` they are used in each pass, as a compiler needs it."""
        self._kept = self._kept or _Kept(self)
        return self._kept.hooks

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": None}  # hooks are of these modules, not of copies

    @contextmanager
    def _watched(self) -> Iterator["_Seen"]:
        """Inside `with`, what is seen of the modules in one pass."""
        places = self._places()
        keep = [partial(place.within, with_gradients=torch.is_grad_enabled()) for place in places]
        with (
            inputs_of(self._entered()) as entered,
            inputs_of(self._activations) as before,
            outputs_of([getattr(self._attention, "qkv", None)]) as qkv,
            outputs_of_all_calls(self._modules_at(places), keep) as outputs,
        ):
            yield _Seen(entered, before, qkv, outputs)

    def _features(self, output: Any, maps: list[Tensor], final: "Final | None", seen: "_Seen") -> Features:
        info = model_info(self.model)
        maps = self._maps(maps, seen)
        final = final if self.parts.tokens is None else self._places()[-1].among(seen.outputs[-1])
        answer = answer_in(output, info)
        return Features(
            logits=answer if info.n_classes else answer.new_empty(len(answer), 0),
            pooled=self._pooled(answer, seen.entered) if "pooled" in self.needs else None,
            maps=tuple(maps) if "maps" in self.needs else (),
            preacts=before_activation(maps, seen.before),
            tokens=final if isinstance(final, Tensor) and final.ndim == 3 and "tokens" in self.needs else None,
            qkv=None if seen.qkv[0] is None else split_qkv(seen.qkv[0], self._attention.num_heads),
            n_prefix=self.n_prefix,
            heads=self._classifiers() if "head" in self.needs and info.n_classes else (),
        )

    def _maps(self, maps: list[Tensor], seen: "_Seen") -> list[Tensor]:
        """Those that the network offers itself, or else those that were seen."""
        places = zip(self.parts.stages, seen.outputs, strict=False)
        return [*maps, *(as_map(place.among(outputs), place.layout) for place, outputs in places)]

    def _places(self) -> list[FeaturePlace]:
        tokens = self.parts.tokens
        return [*self.parts.stages, *([] if tokens is None else [tokens])]

    def _modules_at(self, places: Sequence[FeaturePlace]) -> list[nn.Module]:
        return [unwrap(self.model).get_submodule(place.module) for place in places]

    def _entered(self) -> tuple[nn.Module, ...]:
        """The classifier whose input is the pooled features, if these are needed."""
        return self._classifiers()[:1] if "pooled" in self.needs else ()

    def _classifiers(self) -> tuple[nn.Module, ...]:
        if self.parts.classifiers:
            return tuple(unwrap(self.model).get_submodule(name) for name in self.parts.classifiers)
        return told_classifiers(self.model) if model_info(self.model).n_classes else ()

    def _pooled(self, answer: Tensor, entered: list[Tensor | None]) -> Tensor:
        if entered:
            if entered[0] is None:
                raise ModelError(f"the classifier of {type(unwrap(self.model)).__name__} did not run; name another one")
            return entered[0].flatten(1)
        layout = self.parts.answer
        if layout.kind == "tokens":
            return answer[:, layout.n_prefix :].mean(1)
        return answer if layout.kind == "vector" else as_map(answer, layout).mean((2, 3))


class _Seen(NamedTuple):
    """Of modules in one pass: inputs of the classifier and of activations, the attention's output, stages' outputs."""

    entered: list[Tensor | None]
    before: list[Tensor | None]
    qkv: list[Any]
    outputs: list[list[Any]]


class _Kept:
    """What `Stages` watches, by hooks that are kept."""

    def __init__(self, stages: Stages) -> None:
        self.hooks = hooks = KeptHooks()
        places = stages._places()
        self._entered = hooks.inputs_of(stages._entered())
        self._before = hooks.inputs_of(stages._activations)
        self._qkv = hooks.outputs_of([getattr(stages._attention, "qkv", None)])
        self._outputs = hooks.outputs_of(stages._modules_at(places), [place.within for place in places])
        self._collect = stages._collect
        self._ends = hooks.outputs_of(declared_ends(stages.model) if self._collect is by_modules else [])

    def collect(self, model: nn.Module, images: Tensor) -> "Collected":
        """As `Collector`."""
        if self._collect is not by_modules:
            return self._collect(model, images)
        return model(images), declared_maps(model, [one[-1] for one in self._ends]), None

    def seen(self) -> _Seen:
        """What was seen, once the network has run."""
        entered, before, qkv = (
            [one[-1] if one else None for one in some] for some in (self._entered, self._before, self._qkv)
        )
        return _Seen(entered, before, qkv, self._outputs)


def measure(model: nn.Module) -> Shapes:
    """Run two made-up images through a network and note the sizes of its features; none of those it does not offer."""
    info = model_info(model)
    parts = find_parts(model, ("maps", "tokens", "pooled", "head"))
    needs: tuple[Need, ...] = ("logits",)
    needs += () if parts.no_pooled else ("pooled", "head")
    needs += () if parts.no_maps else ("maps", "tokens")
    has_tokens = getattr(model, "num_prefix_tokens", None) is not None or parts.tokens is not None
    needs += ("qkv",) if has_tokens and last_attention(model) else ()
    view = Stages(model, needs=needs, parts=parts)
    images = made_up_images(model)
    try:
        with torch.no_grad(), in_evaluation(model):
            features = view(images)
            averaged = _averages(features) and _classifies(features)
            averaged = averaged and _averages(functional_call(view, unsettled(view), (images,)))
    except (KdprobeError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # of a network of the user's own
        told = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise ModelError(
            f"network {info.name!r} fails on two images of {info.image_size} px ({told}); if it takes those of another "
            "side or other channels, kdprobe.describe(model, image_size=..., mean=..., std=...) says so"
        ) from error
    if info.n_classes and features.logits.shape != (len(images), info.n_classes):
        raise ModelError(
            f"network {info.name!r} gives {list(features.logits.shape)} for two images, but logits "
            f"[2, {info.n_classes}] are needed for its {info.n_classes} classes; if it has others, "
            "kdprobe.describe(model, n_classes=...) says how many, 0 for features"
        )
    width = 0 if features.pooled is None else features.pooled.shape[1]
    sizes = tuple((m.shape[1], m.shape[2], m.shape[3]) for m in features.maps)
    names = tuple(place.label for place in parts.stages) or map_names(model, len(sizes))
    tokens = None if features.tokens is None else (features.tokens.shape[1], features.tokens.shape[2])
    qkv = None if features.qkv is None else (features.qkv.shape[2], features.qkv.shape[3], features.qkv.shape[4])
    n_heads, linear = max(len(features.heads), 1), isinstance(features.head, nn.Linear)
    sure = {"linear": linear, "averaged": averaged, "described": info.stages is not None}
    shapes = Shapes(info.name, names, sizes, width, info.n_classes, tokens, view.n_prefix, n_heads, qkv, **sure)
    return replace(shapes, class_token=view.class_token)


def _averages(features: Features) -> bool:
    """Whether a linear classifier is given the mean of the last map."""
    if features.pooled is None or not features.maps or not isinstance(features.head, nn.Linear):
        return False
    mean = features.maps[-1].mean((2, 3))
    return mean.shape == features.pooled.shape and _are_near(mean, features.pooled)


def _classifies(features: Features) -> bool:
    """Whether the classifier's answers are the logits, but for a shift, such as that of a log-softmax."""
    assert features.head is not None
    answers = (features.head(features.pooled), features.logits)
    return _are_near(*(one - one.mean(1, keepdim=True) for one in answers))


def _are_near(found: Tensor, expected: Tensor) -> bool:
    difference = torch.linalg.vector_norm((found - expected).float())
    return bool(difference <= 1e-3 * torch.linalg.vector_norm(expected.float()))


def _last_activations(model: nn.Module, stages: Sequence[FeaturePlace]) -> list[nn.Module | None]:
    """The activation that each stage ends with; None for a stage that ends otherwise."""
    modules = dict(unwrap(model).named_modules())
    names = [place.module for place in stages] or [str(info["module"]) for info in getattr(model, "feature_info", [])]
    return [final_activation(modules[name]) if name in modules else None for name in names]
