import numpy as np
import pytest

from analyses.cka.growing import _STEP, GrowingRows

WIDE = 400_000  # values per row: a few steps are beyond what is reserved at first


def grown(rows):
    made = GrowingRows(rows[0].shape)
    for row in rows:
        made.append(row)
    return made


@pytest.mark.parametrize("shape", [(1,), (3, 2), (WIDE,)])
def test_rows_come_back_in_float32(shape):
    rows = [np.full(shape, float(k)) for k in range(_STEP + 2)]
    found = grown(rows).rows()
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found[:, ..., 0].reshape(len(rows), -1)[:, 0], np.arange(len(rows)))


@pytest.mark.parametrize("value", [1e39, -1e200, 1e-45, 3e-300])
def test_what_float32_cannot_hold_makes_all_float64(value):
    found = grown([np.array([0.5, 0.0]), np.array([value, 1.0])]).rows()
    assert found.dtype == np.float64
    assert found.tolist() == [[0.5, 0.0], [value, 1.0]]


def test_memory_that_was_never_written_is_not_read():
    made = grown([np.array([0.5, 0.0])])
    made._rows[1:].view(np.uint32)[:] = 0x7FA00000  # a signalling NaN, whose conversion numpy warns of
    made.append(np.array([1e39, 1.0]))
    assert made.rows().tolist() == [[0.5, 0.0], [1e39, 1.0]]


def test_a_view_outlives_later_rows():
    made = grown([np.full(WIDE, float(k)) for k in range(_STEP)])
    seen = made.rows()
    for k in range(_STEP):
        made.append(np.full(WIDE, -1.0 - k))
    assert seen[:, 0].tolist() == list(range(_STEP))
    assert made.rows()[:, -1].tolist() == [*range(_STEP), *(-1.0 - k for k in range(_STEP))]


def test_no_rows():
    assert GrowingRows((2, 3)).rows().shape == (0, 2, 3)
