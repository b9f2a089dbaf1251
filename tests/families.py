"""One small network of each family, and checks of what `capture` says of it by means that it does not use itself."""

import warnings
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_map
from torch.utils.flop_counter import FlopCounterMode

from analyses.complexity import complexity
from kdprobe.errors import KdprobeError
from kdprobe.features.capturing import capture
from kdprobe.models.creation import ModelInfo, attach, create
from kdprobe.models.layout import Layout

SIZES = (64, 96, 128, 192, 224, 240, 256, 299)  # the first that a network takes counts
SMALL = (
    *("test_", "atto", "femto", "nano", "xxt", "xx_small", "xxs", "_t0", "tiny", "_ti_", "_s0", "_b0", "_m0", "small"),
)

# arguments that make a network small where its family has only large ones
SMALLER = {
    "beit": {"depth": 2},
    "deepseek_vit": {"depth": 2},
    "deit": {"depth": 2},
    "eva": {"depth": 2},
    "gemma4_vit": {"depth": 2},
    "naflexvit": {"depth": 2},
    "qwen3_vit": {"depth": 2},
    "tnt": {"depth": 2},
    "vision_transformer_sam": {"depth": 2, "global_attn_indexes": (1,)},
}
CHOSEN = {
    "iformer": "iformer_t",
    "metaformer": "poolformerv2_s12",
    "mlp_mixer": "gmlp_ti16_224",
    "regnet": "regnetx_002",
    "tresnet": "tresnet_m",
}
TORCHVISION = (
    *("alexnet", "vgg11", "resnet18", "resnext50_32x4d", "wide_resnet50_2", "squeezenet1_1", "densenet121"),
    *("inception_v3", "googlenet", "shufflenet_v2_x0_5", "mobilenet_v2", "mobilenet_v3_small", "mnasnet0_5"),
    *("efficientnet_b0", "efficientnet_v2_s", "regnet_y_400mf", "convnext_tiny", "swin_t", "swin_v2_t", "vit_b_16"),
    "maxvit_t",
)
OF_TORCHVISION = {
    "googlenet": {"init_weights": False, "aux_logits": False},
    "inception_v3": {"init_weights": False, "aux_logits": False},
    "vit_b_16": {"image_size": 64},
}
AT_SIZE = {"alexnet": 96, "inception_v3": 96, "maxvit_t": 224}


def smallest(family: str) -> str:
    """The name of a family's network that promises to be small."""
    names: list[str] = timm.list_models(module=family)
    return CHOSEN.get(family) or next((name for word in SMALL for name in names if word in name), names[0])


def build(family: str) -> tuple[nn.Module, Tensor, Tensor]:
    """A network of timm at the smallest size that it takes, two images and its logits."""
    name, failures = smallest(family), []
    for size in SIZES:
        torch.manual_seed(0)
        images = torch.randn(2, 3, size, size)
        try:
            model = create(name, n_classes=3, image_size=size, args=SMALLER.get(family)).eval()
            with torch.inference_mode():
                return model, images, model(images)
        except (KdprobeError, RuntimeError, AssertionError, ValueError, IndexError) as error:
            failures.append(f"{size} px: {' '.join(str(error).split())[:100]}")
    raise AssertionError(f"{name} takes none of the sizes: {failures}")


def build_torchvision(name: str) -> tuple[nn.Module, Tensor, Tensor]:
    """A network of torchvision, two images and its logits."""
    torch.manual_seed(0)
    size = AT_SIZE.get(name, 64)
    model = getattr(torchvision.models, name)(num_classes=3, **OF_TORCHVISION.get(name, {})).eval()
    attach(model, ModelInfo(name, 3, size))
    images = torch.randn(2, 3, size, size)
    with torch.inference_mode():
        return model, images, model(images)


@dataclass
class Seen:
    """What was found of one network.

    Attributes:
        stages: their names.
        layouts: of each.
        not_cuts: stages from which alone the rest of the network does not give the same logits.
        refused: by what was asked for, the reason.
        wrong: by what was asked for, what is wrong.
        checks: what each claim was compared with.
    """

    stages: list[str] = field(default_factory=list)
    layouts: dict[str, str] = field(default_factory=dict)
    not_cuts: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    wrong: dict[str, str] = field(default_factory=dict)
    checks: dict[str, int] = field(default_factory=dict)


def look_at(model: nn.Module, images: Tensor, logits: Tensor) -> Seen:
    """Capture stages, averages, tokens and class tokens of a network and check each."""
    seen = Seen()
    whole, layouts = _taken(model, images, "whole", seen, "stages")
    if not whole:
        return seen
    seen.stages, seen.layouts = list(whole), {name: str(layout) for name, layout in layouts.items()}
    _check_stages(model, images, logits, whole, seen)
    pooled, _ = _taken(model, images, "gap", seen, "gap")
    if pooled:
        _check_layouts(model, images, whole, layouts, pooled, seen)
    tokens, _ = _taken(model, images, "tokens", seen, "tokens")
    for name, value in tokens.items():
        if not torch.allclose(value.mean(1), pooled[name], atol=1e-4, rtol=1e-3):
            seen.wrong["tokens"] = f"{name}: their mean is not gap"
    _check_class_token(model, whole, _taken(model, images, "cls", seen, "cls")[0], seen)
    return seen


def _taken(
    model: nn.Module, images: Tensor, reduce: str, seen: Seen, what: str
) -> tuple[dict[str, Tensor], dict[str, Layout]]:
    try:
        with torch.inference_mode(), capture(model, "stages", reduce=reduce) as features:
            model(images)
            return dict(features), dict(features.layouts)
    except KdprobeError as error:
        seen.refused[what] = " ".join(str(error).split())
        return {}, {}


def _check_stages(model: nn.Module, images: Tensor, logits: Tensor, whole: dict[str, Tensor], seen: Seen) -> None:
    for name, value in whole.items():
        if value.ndim < 3:
            seen.wrong["stages"] = f"{name} is a vector {list(value.shape)}"
        if not torch.allclose(replayed(model, images, name, value), logits, atol=1e-4, rtol=1e-3):
            seen.not_cuts.append(name)
    shapes = [tuple(value.shape[1:]) for value in whole.values()]
    if len(shapes) > 1 and len(set(shapes)) == 1 and len({n.rpartition(".")[0] for n in whole}) > 1:
        seen.wrong["stages"] = f"all are {shapes[0]}, of several parents"


def replayed(model: nn.Module, images: Tensor, name: str, value: Tensor) -> Tensor:
    """Logits of other images, the output of one module replaced by what it gave for the first ones."""

    def replace(_module: nn.Module, _inputs: Any, output: Any) -> Any:
        done: list[bool] = []

        def put(one: Any) -> Any:
            if not done and isinstance(one, Tensor) and one.shape == value.shape:
                done.append(True)
                return value
            return one

        return tree_map(put, output)

    handle = model.get_submodule(name.partition("#")[0]).register_forward_hook(replace)
    try:
        with torch.inference_mode():
            result: Tensor = model(images.flip(0).flip(2) * 0.7 + 0.1)
            return result
    finally:
        handle.remove()


def _check_layouts(
    model: nn.Module,
    images: Tensor,
    whole: dict[str, Tensor],
    layouts: dict[str, Layout],
    pooled: dict[str, Tensor],
    seen: Seen,
) -> None:
    """Positions move with the place of a disturbance, channels do not; timm's own maps have the same means."""
    maps = _own_maps(model, images)
    moved = shifts(model, images, list(whole))
    for name, value in pooled.items():
        layout, shift, shape = layouts[name], moved[name], whole[name].shape
        if any(_alike(one.mean((2, 3)), value) for one in maps if one.shape[:2] == value.shape):
            _checked(seen, "own maps")
            continue
        channel = {"NCHW": 1, "NHWC": 3, "tokens": 2}[layout.kind]
        others = [shift[axis] for axis in range(1, len(shape)) if axis != channel and shape[axis] > 1]
        if value.shape[1] == getattr(model, "num_features", None) and shape.count(value.shape[1]) == 1:
            _checked(seen, "width")
        elif others:
            _checked(seen, "shift")
            if max(others) <= abs(shift[channel]):
                seen.wrong["gap"] = f"{name} as {layout}: shifts {shift}"
        told = _told_prefix(model)
        if layout.kind == "tokens" and told is not None:
            _checked(seen, "prefix")
            if layout.n_prefix != told:
                seen.wrong["gap"] = f"{name} has {layout.n_prefix} prefix tokens, the network says {told}"


def _checked(seen: Seen, how: str) -> None:
    seen.checks[how] = seen.checks.get(how, 0) + 1


def _alike(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one, other, atol=1e-4, rtol=1e-3)


def _told_prefix(model: nn.Module) -> int | None:
    if isinstance(model, torchvision.models.VisionTransformer):
        return 1
    told = getattr(model, "num_prefix_tokens", None)
    return None if told is None else int(told)


def _own_maps(model: Any, images: Tensor) -> list[Tensor]:
    if not hasattr(model, "forward_intermediates"):
        return []
    with torch.inference_mode():
        found = model.forward_intermediates(images, intermediates_only=True, output_fmt="NCHW")
    return [one for one in found if isinstance(one, Tensor) and one.ndim == 4]


def shifts(model: nn.Module, images: Tensor, names: list[str]) -> dict[str, list[float]]:
    """How far the centre of what changes moves along each axis, from a disturbance above left to one below right."""
    centres: dict[str, list[list[float]]] = {name: [] for name in names}
    half = images.shape[-1] // 2
    plain = outputs(model, images, names)
    for place in (slice(0, half), slice(half, None)):
        other = images.clone()
        other[:, :, place, place] += 0.05 * torch.randn(other[:, :, place, place].shape, generator=_generator())
        changed = outputs(model, other, names)
        for name in names:
            energy = (changed[name] - plain[name]).double().square()
            centres[name].append([_centre(energy, axis) for axis in range(energy.ndim)])
    return {name: [b - a for a, b in zip(*two, strict=True)] for name, two in centres.items()}


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(1)


def _centre(energy: Tensor, axis: int) -> float:
    along = energy.sum([other for other in range(energy.ndim) if other != axis])
    places = torch.arange(len(along), dtype=torch.float64)
    return float((along * places).sum() / along.sum().clamp_min(1e-300) / len(along))


def outputs(model: nn.Module, images: Tensor, names: list[str]) -> dict[str, Tensor]:
    """First tensors of what modules give, by plain hooks."""
    kept: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            while not isinstance(output, Tensor):
                output = next(iter(output.values() if hasattr(output, "values") else output))
            kept[name] = output.clone()

        return hook

    handles = [model.get_submodule(name).register_forward_hook(keep(name)) for name in names]
    try:
        with torch.inference_mode():
            model(images)
    finally:
        for handle in handles:
            handle.remove()
    return kept


def _check_class_token(model: nn.Module, whole: dict[str, Tensor], found: dict[str, Tensor], seen: Seen) -> None:
    has = any("cls_token" in name or "class_token" in name for name, _ in model.named_parameters())
    for name, value in found.items():
        if not has or not torch.equal(value, whole[name][:, 0]):
            seen.wrong["cls"] = f"{name}: {'not the first token' if has else 'the network has no class token'}"


def count(model: nn.Module, images: Tensor, seen: Seen) -> None:
    """Compare `complexity` with torch's own counter, which counts the network itself on an image."""
    try:
        found = complexity(model)
    except KdprobeError as error:
        seen.refused["complexity"] = str(error)
        return
    # torch does not count its fused attention and recurrent layers on a CPU
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with ExitStack() as stack:
            stack.enter_context(warnings.catch_warnings(action="ignore"))  # of TF32, for whoever sets oneDNN's flags
            stack.enter_context(sdpa_kernel(SDPBackend.MATH))
            stack.enter_context(torch.backends.mkldnn.flags(enabled=False))
            stack.enter_context(torch.no_grad())
            counter = stack.enter_context(FlopCounterMode(display=False))
            model.requires_grad_(False)(images[:1])
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    n_parameters = sum(parameter.numel() for parameter in model.parameters())
    if (found.parameters, found.flops) != (n_parameters, counter.get_total_flops()):
        seen.wrong["complexity"] = f"{found.parameters}, {found.flops}; torch counts {counter.get_total_flops()}"
