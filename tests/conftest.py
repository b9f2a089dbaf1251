"""What all tests run under: no time limits of their own, and a terminal of a known width."""

import gc
import os

import pytest
from hypothesis import settings

settings.register_profile("house", deadline=None)  # a busy machine stands still for longer than any limit
settings.load_profile("house")
os.environ["COLUMNS"] = "100"
os.environ["KDPROBE_TRUST"] = "tests.tiny"  # whose data sets runs are trained on, which are looked into afterwards
# every processor computes the tests in float32, also in processes of their own, whatever it can do in half precision
os.environ["ONEDNN_MAX_CPU_ISA"] = "AVX512_CORE_VNNI"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take longest come first, so that no process is still at one when all others have none left."""
    first = {item.path for item in items for mark in item.iter_markers("slow") if mark.kwargs.get("first")}
    items.sort(key=lambda item: item.path not in first)


def pytest_collection_finish() -> None:
    """What was imported stays: the garbage collector need not go through it again and again."""
    gc.collect()
    gc.freeze()
