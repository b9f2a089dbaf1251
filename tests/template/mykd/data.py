"""A data set, read by `--data dots` or `--data dots:NUMBER`."""

import torch
from torch.utils.data import Dataset


class Dots(Dataset):
    """Images of noise with a bright dot, whose quarter of the image is the class."""

    classes = ("top left", "top right", "bottom left", "bottom right")

    def __init__(self, count, seed):
        self.count, self.seed = count, seed

    def __len__(self):
        return self.count

    def __getitem__(self, place):
        source = torch.Generator().manual_seed(self.seed * 10**6 + place)
        image = torch.rand(3, 16, 16, generator=source) / 4
        label = place % 4
        row, column = torch.randint(1, 7, (2,), generator=source).tolist()
        image[:, row + 8 * (label // 2), column + 8 * (label % 2)] = 1
        return image, label


def dots(path="64"):
    """Training and test images; what stands behind the colon of the SPEC is their number."""
    return Dots(int(path), 0), Dots(32, 1)
