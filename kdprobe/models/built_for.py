"""The size of the images that a network was built for, as it says itself."""

from torch import nn


def told_size(network: nn.Module) -> int | None:
    """The side of the input that transformers writes into a network's configuration."""
    told = getattr(getattr(network, "config", None), "image_size", None)
    told = told[0] if isinstance(told, list | tuple) and len(set(told)) == 1 else told
    return told if isinstance(told, int) else None


def built_for(network: nn.Module) -> tuple[int, int] | None:
    """Height and width of the input, which timm's networks with a fixed grid keep where they take in the image.

    timm's `pretrained_cfg` has the size of the published weights instead, whatever `img_size` a network was built with.
    """
    for module in network.modules():
        size = getattr(module, "img_size", None)
        size = (size, size) if isinstance(size, int) else size
        if isinstance(size, list | tuple) and len(size) == 2 and all(isinstance(side, int) for side in size):
            return size[0], size[1]
    return None
