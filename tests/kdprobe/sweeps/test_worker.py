"""What a worker does once for all its cells."""

import subprocess
import sys

import pytest

FORKED = """
import sys
from pathlib import Path
import torch
from kdprobe.sweeps.work import Order
from kdprobe.sweeps.worker import prepare

prepare(Order(Path("none"), task=sys.argv[1], device="cpu"))
parameter = torch.nn.Parameter(torch.zeros(3))
before = set(sys.modules)
for made in (torch.optim.SGD, torch.optim.AdamW):
    parameter.sum().backward()
    made([parameter], lr=0.1).step()
print(len(set(sys.modules) - before))
"""


@pytest.mark.parametrize(
    ("task", "few"), [("kdprobe.sweeps.work:train_cell", True), ("tests.tiny_cells:instant", False)]
)
def test_forks_find_imported_what_optimizers_need(task, few):
    run = subprocess.run([sys.executable, "-c", FORKED, task], capture_output=True, text=True, check=True, timeout=120)
    assert (int(run.stdout) < 10) == few, "other work does not pay for it"
