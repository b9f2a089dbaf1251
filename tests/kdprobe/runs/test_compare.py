"""What a comparison says of a teacher that is no run of its own."""

import pytest

from kdprobe.runs.compare import known_teacher


@pytest.mark.parametrize(
    ("spec", "model"), [("timm:resnet18", "resnet18"), ("resnet20@weights.pth", "resnet20"), ("gone/run", "gone/run")]
)
def test_a_teacher_that_is_no_run_is_called_by_its_model_where_that_can_be_known(spec, model):
    assert known_teacher(spec, {("digits", "test")}) == (model, None)
