import re
from pathlib import Path

import pytest
import torch

from kdprobe.distillers import DISTILLERS, Progress
from kdprobe.errors import ModelError
from kdprobe.models.stages import Features, Shapes

TEXT = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def example():
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
    scope = {"__name__": "example"}
    exec(compile(code, "CONTRIBUTING.md", "exec"), scope)
    return scope["SP"]


def test_the_example_is_a_method(example):
    student, teacher = Shapes("a", (), (), 6, 3, None, 0), Shapes("b", (), (), 9, 3, None, 0)
    method = example(example.Options(weight=2.0), student, teacher)
    pooled = torch.randn(5, 6, generator=torch.Generator().manual_seed(0), requires_grad=True)
    other = Features(torch.zeros(5, 3), pooled=torch.randn(5, 9, generator=torch.Generator().manual_seed(1)))
    terms = method(Features(torch.zeros(5, 3), pooled=pooled), other, torch.zeros(5).long(), Progress(0, 1))
    terms["similarity"].backward()
    assert terms["similarity"] > 0
    assert pooled.grad.any()
    assert method(other, other, torch.zeros(5).long(), Progress(0, 1))["similarity"] == 0


def test_the_example_needs_what_it_says(example):
    bare = Shapes("bare", (), (), 0, 3, None, 0)
    with pytest.raises(ModelError, match="'sp' needs a teacher"):
        example(example.Options(), bare, None)
    with pytest.raises(ModelError, match="'sp' needs pooled features, which bare does not offer"):
        example(example.Options(), bare, bare)


def test_every_method_names_its_source():
    assert all(method.reference for name, method in DISTILLERS.items() if name != "plain")
