"""The types of arguments are checked while the tests run, whether or not they have shapes."""

from pathlib import Path

import pytest
import torch
from jaxtyping import TypeCheckError

from kdprobe.features.hsic import double_centre
from kdprobe.features.parts import divide
from kdprobe.models.layout import Layout


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: divide(Path("f.h5"), "20", 8, None, 1),
        lambda: Layout("tokens", n_prefix="1"),
        lambda: double_centre(torch.ones(2, 3)),
        lambda: double_centre(torch.ones(3, 3, dtype=torch.int64)),
    ],
    ids=["function", "dataclass", "shape", "dtype"],
)
def test_what_is_of_another_type_is_refused(wrong):
    with pytest.raises(TypeCheckError):
        wrong()
