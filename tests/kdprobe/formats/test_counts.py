"""Numbers of things in words."""

import pytest

from kdprobe.formats.counts import counted


@pytest.mark.parametrize(
    ("number", "name", "words"),
    [
        (1, "run", "1 run"),
        (0, "run", "0 runs"),
        (1, "minibatch", "1 minibatch"),
        (2, "minibatch", "2 minibatches"),
        (2, "epoch", "2 epochs"),
    ],
)
def test_one_is_singular(number, name, words):
    assert counted(number, name) == words
