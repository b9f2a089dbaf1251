"""Samples that are not independent: views of one image, frames of one film, pictures of one patient.

A group counts as one independent sample. What two networks share is measured between the groups' means, so that it is
shared between images and not between copies of one, and folds keep groups together.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from kdprobe.errors import AnalysisError
from kdprobe.files import read_text

_BLOCK = 4096  # columns widened at a time


@dataclass(frozen=True, eq=False)
class SampleGroups:
    """Which samples belong together.

    Attributes:
        codes: the group of each sample, counted from 0 [n].
        count: groups.
    """

    codes: Tensor
    count: int

    @classmethod
    def of(cls, labels: Tensor | Sequence[int] | Sequence[str] | None, n: int) -> "SampleGroups":
        """SampleGroups of equal labels; every sample on its own without any.

        Args:
            labels: whole numbers or names, one per sample.
            n: samples.

        Raises:
            AnalysisError: for another number of labels, or labels that are not whole numbers.
        """
        if labels is None:
            return cls(torch.arange(n), n)
        if not isinstance(labels, Tensor) and all(isinstance(label, str) for label in labels):
            labels = np.unique(np.asarray(labels, dtype=np.str_), return_inverse=True)[1].tolist()
        try:
            given = torch.as_tensor(labels).cpu()
        except (ValueError, TypeError, RuntimeError) as error:
            raise AnalysisError(f"groups must be a whole number, or a name, for each of the {n} samples") from error
        if given.shape != (n,) or given.is_floating_point() or given.is_complex():
            raise AnalysisError(
                f"groups must be a whole number for each of the {n} samples, but are {given.dtype} of shape "
                f"{list(given.shape)}"
            )
        values, codes = torch.unique(given, return_inverse=True)
        return cls(codes, len(values)) if len(values) < n else cls(torch.arange(n), n)

    @property
    def single(self) -> bool:
        """Whether every sample is a group of its own."""
        return self.count == len(self.codes)

    def means(self, rows: Float[Tensor, "n d"]) -> Float[Tensor, "g d"]:
        """Mean of each group's rows in float64; the rows themselves where every sample is on its own."""
        if self.single:
            return rows
        codes = self.codes.to(rows.device)
        sums = torch.zeros(self.count, rows.shape[1], dtype=torch.float64, device=rows.device)
        for start in range(0, rows.shape[1], _BLOCK):
            columns = slice(start, start + _BLOCK)
            sums[:, columns] = sums[:, columns].index_add(0, codes, rows[:, columns].double())
        return sums / torch.bincount(codes, minlength=self.count)[:, None]

    def samples(self, chosen: Tensor) -> Tensor:
        """Places of the samples of some groups, group by group."""
        if self.single:
            return chosen
        rank = torch.full((self.count,), -1)
        rank[chosen.cpu()] = torch.arange(len(chosen))
        order = rank[self.codes]
        places = (order >= 0).nonzero()[:, 0]
        return places[order[places].argsort(stable=True)]


def groups_of_images(path: Path, index: Tensor) -> Tensor:
    """The group of each sample, from a text file with a line for each image of the data set, in their order.

    Args:
        path: lines are equal for images that are not independent; a number, a name, or any other text.
        index: places of the samples in the data set [n].

    Returns:
        a number for each sample [n].

    Raises:
        AnalysisError: if there is no such file, it is no text, it has another number of lines than there are images, or
            a blank one. Where samples of the data set are missing, more lines than the last sample needs are taken.
    """
    try:
        lines = read_text(path).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise AnalysisError(f"{path} cannot be read as text: {why}") from error
    n_images = int(index.max()) + 1
    whole = len(torch.unique(index)) == n_images  # no image of the data set is missing, as far as is known
    if len(lines) < n_images or (whole and len(lines) > n_images):
        raise AnalysisError(
            f"{path} has {len(lines)} lines, but there are {'' if whole else 'at least '}{n_images} images; give a "
            "line for each image, in the order of the data set, and none above them"
        )
    if blank := [number for number, line in enumerate(lines, 1) if not line.strip()]:
        raise AnalysisError(
            f"line {blank[0]} of {path} is blank; give each image a group, of its own where it has none"
        )
    numbers = {line: number for number, line in enumerate(dict.fromkeys(lines))}
    return torch.tensor([numbers[line] for line in lines])[index]
