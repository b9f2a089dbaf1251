"""A level of intervals that is none is refused before anything is computed."""

from collections.abc import Callable
from inspect import unwrap
from pathlib import Path
from typing import Any

import pytest
import torch

from analyses.cka import cka, cka_over_time, files_cka
from analyses.cka.networks import HSICSums
from analyses.evaluation import evaluate
from analyses.evaluation.compound import compound_result
from analyses.fidelity import measure_fidelity
from analyses.knowledge import decompose
from kdprobe.errors import AnalysisError
from kdprobe.models import create

NOBODY: Any = None  # what is not looked at; functions are without the check of annotations that only tests have
MEASURES: dict[str, Callable[[float], Any]] = {
    "cka": lambda level: unwrap(cka)(*[create("resnet8", n_classes=2, image_size=8)] * 2, [NOBODY], confidence=level),
    "files_cka": lambda level: files_cka(Path("nowhere.h5"), confidence=level),
    "cka_over_time": lambda level: cka_over_time(Path("nowhere"), confidence=level),
    "sums": lambda level: HSICSums().result(confidence=level),
    "decompose": lambda level: decompose(torch.rand(40, 2), torch.rand(40, 2), confidence=level),
    "evaluate": lambda level: unwrap(evaluate)([NOBODY], confidence=level),
    "compound": lambda level: unwrap(compound_result)([NOBODY], confidence=level),
    "fidelity": lambda level: unwrap(measure_fidelity)(NOBODY, [NOBODY], confidence=level),
}


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize("level", [95.0, 1.0, 0.0, -0.5, float("nan")])
def test_a_level_that_is_none_is_refused(name: str, level: float) -> None:
    with pytest.raises(AnalysisError, match=r"^confidence must lie between 0 and 1, such as 0\.95, but is "):
        MEASURES[name](level)
