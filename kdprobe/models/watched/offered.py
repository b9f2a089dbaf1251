"""What networks offer themselves: stage maps by timm's own methods, the activation of a stage, the last attention."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from kdprobe.models.creation import unwrap
from kdprobe.models.hooks import outputs_of
from kdprobe.models.layout import Layout, as_map

Final = Tensor | list[Tensor]  # a list of networks with several branches
Collected = tuple[Any, list[Tensor], Final | None]
Collector = Callable[[Any, Tensor], Collected]  # of the network, as it may be a copy


def collector_of(model: nn.Module) -> Collector | None:
    """How a network offers its stage maps itself; None if it does not, or runs otherwise than what it inherits."""
    if hasattr(model, "forward_intermediates") and hasattr(model, "forward_head"):
        return None if _runs_otherwise(unwrap(model)) else by_intermediates
    if getattr(model, "feature_info", None):
        return by_modules
    return None


def _runs_otherwise(model: nn.Module) -> bool:
    """Whether a class of one's own changes the pass of timm's from which it inherits `forward_intermediates`."""
    kinds = type(model).__mro__
    inherits = next((place for place, kind in enumerate(kinds) if "forward_intermediates" in vars(kind)), 0)
    changed = ("forward", "forward_features")
    return any(name in vars(one) for one in (model, *kinds[:inherits]) for name in changed)


def alone(model: nn.Module, images: Tensor) -> Collected:
    """A network that is run for its output."""
    return model(images), [], None


def by_intermediates(model: Any, images: Tensor) -> tuple[Tensor, list[Tensor], Final]:
    """A network whose maps timm's `forward_intermediates` returns."""
    final, maps = model.forward_intermediates(images, output_fmt="NCHW")
    return model.forward_head(final), maps, final


def by_modules(model: nn.Module, images: Tensor) -> tuple[Tensor, list[Tensor], None]:
    """A network whose maps are outputs of the modules that its `feature_info` names."""
    with outputs_of(declared_ends(model)) as outputs:
        logits = model(images)
    return logits, declared_maps(model, outputs), None


def declared_ends(model: nn.Module) -> list[nn.Module]:
    """The modules that `feature_info` names."""
    return [model.get_submodule(info["module"]) for info in model.feature_info]  # type: ignore[union-attr]


def declared_maps(model: nn.Module, outputs: Sequence[Tensor]) -> list[Tensor]:
    """Their outputs as maps."""
    infos = list(model.feature_info)  # type: ignore[arg-type]
    prefix = int(getattr(model, "num_prefix_tokens", 0))
    layouts = [declared_layout(output, info["num_chs"], prefix) for output, info in zip(outputs, infos, strict=True)]
    return [as_map(output, layout) for output, layout in zip(outputs, layouts, strict=True)]


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


def last_attention(model: nn.Module) -> Any:
    """The last attention of a transformer that makes queries, keys and values by one layer `qkv`; else None."""
    found = [m for m in model.modules() if hasattr(m, "num_heads") and isinstance(getattr(m, "qkv", None), nn.Linear)]
    return found[-1] if found else None


def split_qkv(output: Tensor, n_heads: int) -> Tensor:
    """[B, n, 3 h d] -> [3, B, h, n, d]."""
    batch, n_tokens, width = output.shape
    return output.reshape(batch, n_tokens, 3, n_heads, width // (3 * n_heads)).permute(2, 0, 3, 1, 4)


def before_activation(maps: list[Tensor], before: list[Tensor | None]) -> tuple[Tensor, ...]:
    """What entered the activation that ends a stage; the map itself where none does."""
    if len(maps) != len(before):
        return ()
    return tuple(b if b is not None and b.shape == m.shape else m for m, b in zip(maps, before, strict=True))


def told_classifiers(model: Any) -> tuple[nn.Module, ...]:
    """The classifiers that timm's `get_classifier` tells."""
    found = model.get_classifier()
    return tuple(found) if isinstance(found, tuple | list | nn.ModuleList) else (found,)


def map_names(model: nn.Module, count: int) -> tuple[str, ...]:
    """Names of the stages that a network offers itself."""
    infos = list(getattr(model, "feature_info", []))
    names = tuple(str(info["module"]) for info in infos)
    return names if len(names) == count else tuple(f"stage{index}" for index in range(count))


def unsettled(model: nn.Module) -> dict[str, Tensor]:
    """What norms and biases of a network might be later on, by name: a new norm may give what it is given.

    Scales and statistics change by up to a fifth, and all grow by up to a tenth, so that variances stay positive.
    """
    generator = torch.Generator().manual_seed(0)
    found: dict[str, Tensor] = {}
    for place, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            continue
        own = [*module.named_parameters(place, recurse=False), *module.named_buffers(place, recurse=False)]
        for name, value in own:
            if value.ndim < 2 and value.is_floating_point():
                drawn = torch.rand(value.shape, generator=generator).to(value)
                found[name] = value * (0.8 + 0.4 * drawn) + 0.1 * drawn
    return found
