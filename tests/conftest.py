"""What all tests run under: no time limits of their own, and a terminal of a known width."""

import gc
import os

from hypothesis import settings

settings.register_profile("house", deadline=None)  # a busy machine stands still for longer than any limit
settings.load_profile("house")
os.environ["COLUMNS"] = "100"
os.environ["KDPROBE_TRUST"] = "tests.tiny"  # whose data sets runs are trained on, which are looked into afterwards
# every processor computes the tests in float32, also in processes of their own, whatever it can do in half precision
os.environ["ONEDNN_MAX_CPU_ISA"] = "AVX512_CORE_VNNI"


def pytest_collection_finish() -> None:
    """What was imported stays: the garbage collector need not go through it again and again."""
    gc.collect()
    gc.freeze()
