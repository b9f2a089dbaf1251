import math

import pytest
import torch

from kdprobe.data.loaders import Batch
from kdprobe.errors import Diverged
from kdprobe.runtime.distributed import Ranks
from kdprobe.training.tally import Tally


def test_steps_are_looked_at_together_and_the_first_that_is_not_finite_is_named():
    tally = Tally(Ranks(0, 1, torch.device("cpu")))
    losses = [1.0, 2.0, math.inf, math.nan, 3.0]
    for step, loss in enumerate(losses, start=1):
        batch = Batch(torch.zeros(2, 3, 4, 4), torch.zeros(2).long(), torch.tensor([10 * step, 7]))
        terms = {"ce": torch.tensor(0.5), "kd": torch.tensor(loss)}
        tally.add(terms, batch, step=step, rate=step / 10, wishes=(False, False))
        if step == 2:
            tally.check(4)
    with pytest.raises(
        Diverged, match=r"in step 3 of epoch 4, at learning rate 0\.3: 'kd' is inf; the images of this step are 30, 7$"
    ):
        tally.check(4)
