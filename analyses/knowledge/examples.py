"""The images that only one of two networks sees something in: those with the largest specific part."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from analyses.knowledge.decomposition import Decomposition
from kdprobe.data import Split, evaluation_batches, load_data
from kdprobe.errors import AnalysisError
from kdprobe.provenance import provenance
from kdprobe.results import Result

_NETWORKS = ("teacher", "student")


def examples_result(
    found: Decomposition,
    index: Tensor,
    facts: dict[str, Any],
    *,
    n_images: int = 8,
    named_by: str | Path | None = None,
) -> Result:
    """The test images with the largest specific part for each network.

    Args:
        found: a decomposition of one pair of layers.
        index: places of its samples among the test images [n].
        facts: `data` (the SPEC), `teacher`, `student`, `teacher_layer`, `student_layer`.
        n_images: per network.
        named_by: the file that names the data set, where it is a feature file.

    Returns:
        a result of kind "examples": `images` [2, N, h, w, 3] uint8 (row of the teacher, row of the student), `index`
        and `labels` [2, N]; `specific` [2, N] as `Side.by_sample` has it, and `other` [2, N], the same of the
        other network; facts also `classes`.

    Raises:
        AnalysisError: for more images than there are.
        DataError: if they have no labels.
    """
    require_images(n_images, index)
    data = load_data(facts["data"], named_by=named_by)
    data.check_labelled("showing images with their classes")
    shares = torch.stack([side.by_sample[1].cpu() for side in (found.teacher, found.student)])
    picked = shares.argsort(dim=1, descending=True)[:, :n_images]
    arrays = {
        "images": np.stack([pixels(data.test, index[row]) for row in picked]),
        "index": index[picked].numpy(),
        "labels": data.test.labels[index[picked]].numpy(),
        "specific": shares.gather(1, picked).numpy(),
        "other": shares.flip(0).gather(1, picked).numpy(),
    }
    return Result("examples", arrays, facts | {"classes": list(data.classes)}, provenance(data=facts["data"]))


def require_images(n_images: int, index: Tensor) -> None:
    """Refuse more images than there are.

    Raises:
        AnalysisError: with both numbers.
    """
    if not 1 <= n_images <= len(index):
        raise AnalysisError(f"{n_images} images cannot be picked from {len(index)}; give 1 to {len(index)}")


def examples_table(result: Result) -> pd.DataFrame:
    """One row per image."""
    tables = [
        pd.DataFrame({key: result.arrays[key][row] for key in ("index", "labels", "specific", "other")}).assign(
            network=network
        )
        for row, network in enumerate(_NETWORKS)
    ]
    return pd.concat(tables)


def pixels(split: Split, index: Tensor) -> NDArray[np.uint8]:
    """Images of a split as they are shown, [n, h, w, 3]."""
    batches = evaluation_batches(split.take(index), batch_size=len(index), workers=0)
    images = torch.cat([batch.images for batch in batches])
    found: NDArray[np.uint8] = (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    return found
