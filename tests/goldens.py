"""Golden vectors: the inputs, losses and gradients of the original public functions."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

FOLDER = Path(__file__).parent / "golden"
#: relative error of losses, and error of gradients as a fraction of the largest entry
TOLERANCES = {torch.float64: (1e-9, 1e-8), torch.float32: (2e-5, 1e-4)}


class Case:
    """One case of a golden file: `case["loss"]` is a tensor, a number or a truth value."""

    def __init__(self, file: Any, index: int, dtype: torch.dtype) -> None:
        self.file, self.prefix, self.dtype = file, f"c{index}_", dtype
        self.description: dict[str, Any] = json.loads(str(file["meta"]))["cases"][index]

    def __contains__(self, key: str) -> bool:
        return self.prefix + key in self.file

    def __getitem__(self, key: str) -> Any:
        array = self.file[self.prefix + key]
        if array.ndim == 0:
            return array.item()
        tensor = torch.from_numpy(array.copy())
        return tensor.to(self.dtype) if tensor.is_floating_point() else tensor

    def stages(self, prefix: str) -> list[Tensor]:
        """`feat_s0`, `feat_s1`, ... as a list."""
        found = []
        while f"{prefix}{len(found)}" in self:
            found.append(self[f"{prefix}{len(found)}"])
        return found

    def weights(self, prefix: str = "") -> dict[str, Tensor]:
        """The stored weights of a module, named as in its state dict."""
        start = f"{self.prefix}w__{prefix}"
        keys = [key for key in self.file.files if key.startswith(start)]
        return {
            key[len(start) :].replace("__", "."): torch.from_numpy(self.file[key].copy()).to(self.dtype) for key in keys
        }


def cases(name: str, *, only: str | None = None) -> list[Any]:
    """Pytest parameters: every case of a file in float64 and in float32; `only` is for files with kinds."""
    file = np.load(FOLDER / f"{name}.npz")
    kinds = [case.get("kind") for case in json.loads(str(file["meta"]))["cases"]]
    return [
        pytest.param(Case(file, index, dtype), id=f"{name}{index}-{str(dtype)[6:]}")
        for index, kind in enumerate(kinds)
        for dtype in TOLERANCES
        if kind == only
    ]


def assert_value(case: Case, value: Tensor, key: str, *, rtol: float | None = None) -> None:
    """Compare a loss with the stored one to the tolerance of the case's precision."""
    assert_close(case, value, case[key], rtol=rtol)


def assert_close(case: Case, value: Tensor, expected: float, *, rtol: float | None = None) -> None:
    """Compare a loss with a number to the tolerance of the case's precision."""
    assert value.dtype == case.dtype
    scale = max(abs(expected), 1e-12 if case.dtype == torch.float64 else 1e-7)
    assert abs(value.item() - expected) <= (rtol or TOLERANCES[case.dtype][0]) * scale, (
        value.item(),
        expected,
    )


def assert_tensor(case: Case, value: Tensor, key: str, *, tol: float | None = None) -> None:
    """Compare a gradient or an output with the stored one, as a fraction of its largest entry."""
    expected, value = case[key], value.detach()
    assert value.shape == expected.shape
    scale = max(float(expected.abs().max()), 1e-30)
    error = float((value - expected).abs().max()) / scale
    assert error <= (tol or TOLERANCES[case.dtype][1]), error


def leaf(tensor: Tensor) -> Tensor:
    """A copy that asks for a gradient."""
    return tensor.clone().requires_grad_()
