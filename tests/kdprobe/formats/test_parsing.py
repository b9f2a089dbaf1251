"""Whatever a parser raises is one line that names the file."""

import zlib

import pytest

from kdprobe.errors import CheckpointError, ResultError
from kdprobe.formats.parsing import parsing


@pytest.mark.parametrize(
    "raised", [ValueError("bad\nvalue"), RecursionError(), MemoryError(), zlib.error("x"), KeyError("a")]
)
def test_everything_is_one_line_with_the_file(raised):
    with (
        pytest.raises(ResultError, match=r"^a\.npz cannot be read as a kdprobe result \(\w+") as told,
        parsing("a.npz", ResultError, expected="a kdprobe result"),
    ):
        raise raised
    assert "\n" not in str(told.value)
    assert told.value.__cause__ is raised


def test_errors_of_our_own_and_interrupts_pass():
    with pytest.raises(CheckpointError, match=r"^mine$"), parsing("a", ResultError, expected="a result"):
        raise CheckpointError("mine")
    with pytest.raises(KeyboardInterrupt), parsing("a", ResultError, expected="a result"):
        raise KeyboardInterrupt
