"""The real images that an exported file is compared on."""

import torch
from jaxtyping import Float32
from torch import Tensor, nn

from kdprobe.data import AS_IT_IS, View, evaluation_batches
from kdprobe.data.judged import load_judged
from kdprobe.errors import ConfigError
from kdprobe.models.creation import model_info


def checking_images(
    model: nn.Module, checkpoint: str, spec: str | None = None, *, n_images: int = 64, view: View = AS_IT_IS
) -> Float32[Tensor, "n c s s"]:
    """Test images at equal distances, in [0, 1] and of the network's input size.

    Args:
        model: the network.
        checkpoint: where it comes from.
        spec: the data set; that of the network's training if not given.
        n_images: their number; all if there are fewer.
        view: how image files are shown; what it leaves open is as the network was published, or as the data set has it.

    Raises:
        ConfigError: if no data set is given and the network knows none.
        DataError: if the images cannot be read.
    """
    info = model_info(model)
    if not (named := spec or info.data):
        raise ConfigError(f"{checkpoint} names no data set to check the file on; give one with --data")
    by = None if spec else checkpoint
    judged = load_judged(named, checkpoint, named_by=by, image_size=info.image_size, view=view, published=info.view)
    split = judged.test
    index = torch.linspace(0, len(split) - 1, min(n_images, len(split))).round().long()
    batches = evaluation_batches(split.take(index), batch_size=64, workers=0)
    return torch.cat([batch.images for batch in batches])
