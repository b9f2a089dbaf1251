"""What a network is by its content: one sha256 of its tensors and their names."""

import hashlib
import json
from collections.abc import Mapping

import torch
from torch import Tensor, nn


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
