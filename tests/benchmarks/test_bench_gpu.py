"""The benchmark of a GPU runs, in its small form, on a CPU."""

import shutil
import sys

import pytest
import torch

from tests.benchmarks import bench_gpu


def test_a_driver_that_does_not_say_its_version_is_unknown(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "a card")
    assert "| a card | unknown |" in bench_gpu.versions(torch.device("cuda"))


@pytest.mark.slow
def test_the_small_form_prints_every_table(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["bench_gpu", "--smoke", "--device", "cpu"])
    monkeypatch.setenv("KDPROBE_TRUST", "tests.benchmarks.bench_gpu")
    monkeypatch.setattr(bench_gpu, "find_spec", lambda _: None)
    bench_gpu.main()
    said = capsys.readouterr().out
    assert "pytorch-cka is not installed, so kdprobe stands alone" in said
    found = [line.split(" | ")[0].strip("| ") for line in said.splitlines() if line.startswith("| ")]
    tables = ["card", "---", "CPU", "CKA by", "---", "kdprobe", "dump of stages", "---", "none"]
    dumps, trainings = ["whole, float32", "whole, float16", "gap, float32"], ["method", "---", "kd", "dropkd"]
    assert found == [*tables, *dumps, *trainings]
