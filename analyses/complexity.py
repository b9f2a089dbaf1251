"""How large a network is and how much it computes for one image, under conventions that are named.

Publications write FLOPs and mostly mean multiply-accumulates (MACs), count attention or leave it out, and give
parameters with or without the classes of another data set, so every number here comes with what it counts.
"""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float64
from numpy import ndarray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.utils.flop_counter import FlopCounterMode

from analyses.latency import Latencies
from kdprobe.formats.tables import aligned
from kdprobe.models import model_info
from kdprobe.models.hooks import hooked
from kdprobe.provenance import provenance
from kdprobe.results import Result

CONVENTIONS = {
    "parameters": "all learned numbers, the classifier for the stated classes included",
    "macs": "multiply-accumulates of convolutions, matrix products and attention for one image",
    "flops": "floating-point operations of the same: two per multiply-accumulate",
    "module_operations": (
        "multiply-accumulates of convolution and linear modules with their biases, two per batch-norm element, "
        "one per ReLU element and pooling input; attention products are not counted (as ptflops counts)"
    ),
}
ELSEWHERE = "(elsewhere)"


@dataclass(frozen=True)
class Complexity:
    """Counts for one image, as `CONVENTIONS` says; `parts` are (module, parameters, macs) that add up."""

    n_classes: int
    image_size: int
    parameters: int
    macs: int
    flops: int
    module_operations: int
    parts: list[tuple[str, int, int]]


def complexity(model: nn.Module) -> Complexity:
    """Count a network's parameters and operations at its own input size.

    Args:
        model: from `kdprobe.load` or `kdprobe.models.create`; it is not changed. Nothing is computed:
            a copy without values is traced.
    """
    info = model_info(model)
    shadow = copy.deepcopy(model).to("meta").eval().requires_grad_(False)  # a hook of torch wants no expanded parameter
    image = torch.empty(1, len(info.mean), info.image_size, info.image_size, device="meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        shadow(image)
    flops = counter.get_total_flops()
    prefix = f"{type(shadow).__name__}."
    macs = {name.removeprefix(prefix): sum(of.values()) // 2 for name, of in counter.get_flop_counts().items()}
    with _counting_modules(shadow) as operations, torch.no_grad():
        shadow(image)
    return Complexity(
        n_classes=info.n_classes,
        image_size=info.image_size,
        parameters=_size(model),
        macs=flops // 2,
        flops=flops,
        module_operations=sum(operations),
        parts=_parts(shadow, macs, flops // 2),
    )


def complexity_result(names: Sequence[str], counted: Sequence[Complexity], measured: Latencies | None = None) -> Result:
    """A result of kind "complexity".

    Args:
        names: of m networks.
        counted: what each costs.
        measured: how long each takes.

    Returns:
        each count [m], and, if measured, `batch_size` [b] and `latency` [m, b, 3] (median, lower and upper quartile, in
        seconds); facts name networks, classes, input sizes and conventions.
    """
    arrays = {key: np.array([getattr(one, key) for one in counted], dtype=np.int64) for key in CONVENTIONS}
    facts: dict[str, Any] = {
        "names": list(names),
        "n_classes": [one.n_classes for one in counted],
        "image_size": [one.image_size for one in counted],
        "conventions": dict(CONVENTIONS),
        "parts": [[list(part) for part in one.parts] for one in counted],
    }
    origin = provenance(models=list(names))
    if measured is not None:
        arrays |= {"batch_size": np.array(measured.batch_sizes), "latency": measured.seconds}
        facts["conventions"]["latency"] = measured.words
        origin |= {"device": measured.device, "threads": measured.threads}
    return Result("complexity", arrays, facts, origin)


def complexity_table(result: Result, *, parts: bool = False) -> pd.DataFrame:
    """One row per network, or per part of each network."""
    facts = result.facts
    if parts:
        rows = [(name, *part) for name, of in zip(facts["names"], facts["parts"], strict=True) for part in of]
        return pd.DataFrame(rows, columns=["model", "part", "parameters", "macs"])
    sizes = {"model": facts["names"], "classes": facts["n_classes"], "pixels": facts["image_size"]}
    table = pd.DataFrame(sizes | {key: result.arrays[key] for key in CONVENTIONS})
    for place, size in enumerate(result.arrays.get("batch_size", ())):
        for quantity, end in enumerate(("", "_lower_quartile", "_upper_quartile")):
            table[f"ms_at_batch_{size}{end}"] = 1000 * result.arrays["latency"][:, place, quantity]
    return table


def complexity_summary(result: Result) -> str:
    """Millions of parameters and billions of operations, as a table to be read."""
    table = complexity_table(result)
    shown = table[["model", "classes", "pixels"]].assign(
        **{
            "parameters (M)": (table.parameters / 1e6).map("{:.3f}".format),
            "MACs (G)": (table.macs / 1e9).map("{:.3f}".format),
            "FLOPs (G)": (table.flops / 1e9).map("{:.3f}".format),
            "by modules (G)": (table.module_operations / 1e9).map("{:.3f}".format),
        }
    )
    for place, size in enumerate(result.arrays.get("batch_size", ())):
        shown[f"ms, batch {size}"] = [worded_latency(one) for one in result.arrays["latency"][:, place]]
    return aligned(shown.to_dict("list"))


def worded_latency(seconds: Float64[ndarray, " 3"]) -> str:
    """`3.21 [3.18, 3.30]`, in milliseconds: median, lower and upper quartile."""
    value, low, high = 1000 * seconds
    return f"{value:.2f} [{low:.2f}, {high:.2f}]"


@contextmanager
def _counting_modules(model: nn.Module) -> Iterator[list[int]]:
    operations: list[int] = []

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        operations.append(_module_operations(module, inputs[0], output))

    with hooked([module for module in model.modules() if isinstance(module, _COUNTED)], lambda _place: count):
        yield operations


_POOLING = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)
_COUNTED = (_ConvNd, nn.Linear, _BatchNorm, nn.ReLU, nn.ReLU6, *_POOLING)


def _module_operations(module: nn.Module, entered: Tensor, left: Tensor) -> int:
    if isinstance(module, _ConvNd):
        return left.numel() * (module.weight[0].numel() + (module.bias is not None))
    if isinstance(module, nn.Linear):
        return left.numel() * (module.in_features + (module.bias is not None))
    return entered.numel() * (2 if isinstance(module, _BatchNorm) else 1)


def _parts(model: nn.Module, macs: dict[str, int], total: int) -> list[tuple[str, int, int]]:
    """The network's modules from front to back; a container with most of the operations is opened."""
    named = []
    for name, child in model.named_children():
        opened = isinstance(child, nn.Sequential | nn.ModuleList) and 2 * _macs(name, child, macs) > total
        named += [(f"{name}.{inner}", part) for inner, part in child.named_children()] if opened else [(name, child)]
    rows = [(name, _size(part), _macs(name, part, macs)) for name, part in named]
    rows = [row for row in rows if row[1] or row[2]]
    rest = _size(model) - sum(row[1] for row in rows), total - sum(row[2] for row in rows)
    return [*rows, (ELSEWHERE, *rest)] if any(rest) else rows


def _macs(name: str, module: nn.Module, macs: dict[str, int]) -> int:
    """Multiply-accumulates of a module, or of the modules in a list that is never called itself."""
    if name in macs:
        return macs[name]
    return sum(_macs(f"{name}.{inner}", part, macs) for inner, part in module.named_children())


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
