"""What a network is: its name, and one sha256 of its tensors and their names."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from kdprobe.models.creation import described, unwrap


def network_name(model: nn.Module) -> str:
    """The name in a network's description, or its class."""
    info = described(model)
    return info.name if info else type(unwrap(model)).__name__


def network_origin(model: nn.Module) -> dict[str, Any]:
    """What a result says of a network, described or not."""
    info = described(model)
    return info.origin() if info else {"name": network_name(model)}


def weights_sha256(model: nn.Module) -> str:
    """The sha256 of a network's tensors and their names, for a network that comes from no file."""
    return tensors_sha256(model.state_dict())


def tensors_sha256(tensors: Mapping[str, Tensor]) -> str:
    """The sha256 of named tensors: names, types, shapes and values, whatever their order."""
    found = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        value = tensor.detach().cpu().contiguous()
        found.update(json.dumps([name, str(value.dtype), list(value.shape)]).encode())
        found.update(value.flatten().view(torch.uint8).numpy().tobytes() if value.numel() else b"")
    return found.hexdigest()
