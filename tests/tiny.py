"""A tiny data set of real digits, for tests that train."""

from dataclasses import replace

import torch

from kdprobe.data import DataSet, load_data

N_TRAIN, N_TEST = 96, 60


def digits(image_size: int | None = None) -> DataSet:
    """The first 96 training and 60 test images of the digits."""
    data = load_data("digits", image_size=image_size)
    train, test = data.train.take(torch.arange(N_TRAIN)), data.test.take(torch.arange(N_TEST))
    return replace(data, train=train, test=test)
