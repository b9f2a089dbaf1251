import pytest
import torch

from kdprobe.distillers.fitnet import Regressor, hint_loss
from kdprobe.errors import ModelError
from tests.goldens import assert_tensor, assert_value, cases, leaf


@pytest.mark.parametrize("case", cases("fitnet"))
@pytest.mark.parametrize("mode", ["eval", "train"])
def test_equals_the_original(case, mode):
    student, teacher = leaf(case["feat_s"]), case["feat_t"]
    regressor = Regressor(tuple(student.shape[1:]), tuple(teacher.shape[1:])).to(case.dtype)
    regressor.load_state_dict(case.weights(), strict=False)
    out = regressor.train(mode == "train")(student)
    loss = hint_loss(out, teacher)
    loss.backward()
    assert_tensor(case, out, f"out_{mode}")
    assert_value(case, loss, f"loss_{mode}")
    assert_tensor(case, student.grad, f"grad_s_{mode}")


def test_sides_may_be_trimmed_unequally():
    assert Regressor((3, 8, 6), (5, 7, 4))(torch.rand(2, 3, 8, 6)).shape == (2, 5, 7, 4)


def test_a_student_map_of_a_third_of_the_size_is_refused():
    with pytest.raises(ModelError, match=r"cannot regress a map of 12x12 from one of 4x4: .* or at or rkd"):
        Regressor((3, 4, 4), (3, 12, 12))
