"""Networks to be looked at: with the weights of a checkpoint, or of a name alone, where weights do not matter."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from kdprobe.models.checkpoint import facts_for, load, takes
from kdprobe.models.creation import create
from kdprobe.models.foreign.published import is_timms, published


def models_of(specs: Sequence[str], told: Mapping[str, Any]) -> list[nn.Module]:
    """Several networks, with facts that their files do not give.

    Args:
        specs: as `model_of` takes them.
        told: `n_classes`, `image_size`, `mean`, `std` of names, and of checkpoints whose files do not give them.

    Raises:
        KdprobeError: if there is no such checkpoint or name, or a fact is for none of them.
    """
    saved = [spec for spec in specs if _is_checkpoint(spec)]
    if len(saved) == len(specs):
        facts_for(saved, told)
    return [
        model_of(spec, **({key: told[key] for key in told if takes(spec, key)} if spec in saved else told))
        for spec in specs
    ]


def model_of(spec: str, *, n_classes: int | None = None, image_size: int | None = None, **told: Any) -> nn.Module:
    """A network: a checkpoint as it is, or a name, with weights of no importance.

    Args:
        spec: run folder, checkpoint file, `NAME@FILE`, `timm:NAME`, or a name.
        n_classes: if not given, what timm's weights have, 100 for a CIFAR ResNet, or what NAME@FILE shows.
        image_size: if not given, what timm's weights take, or 32 for a CIFAR ResNet.
        told: `mean`, `std`.

    Raises:
        KdprobeError: if there is no such checkpoint or name.
    """
    if _is_checkpoint(spec):
        return load(spec, n_classes=n_classes, image_size=image_size, **told)
    name = spec.removeprefix("timm:")
    config = published(name) if is_timms(name) else None
    default_classes, default_size = (config.num_classes, config.input_size[-1]) if config else (100, 32)
    n_classes = default_classes if n_classes is None else n_classes
    return create(name, n_classes=n_classes, image_size=image_size or default_size, **told)


def _is_checkpoint(spec: str) -> bool:
    return Path(spec).exists() or "@" in spec or spec.endswith(".safetensors")
