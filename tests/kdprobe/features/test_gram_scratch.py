"""What a Gram matrix takes beside its features: memory that does not grow with their width, and one product of them.

Counted on tensors without values where a GPU is meant, whose features may be as wide as one likes.
"""

import weakref
from contextlib import nullcontext

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from kdprobe.features import gram
from kdprobe.features.gram import Way, multiplied

WAYS = (Way.PLAIN, Way.EQUAL, Way.WIDE)
#: what torch does not count by itself
IN_PLACE = {torch.ops.aten.addmm_: lambda _, one, other, **__: 2 * one[0] * one[1] * other[1]}


class Scratch(TorchDispatchMode):
    """Inside `with`, the most bytes that were alive at a time of what was made there."""

    def __init__(self):
        super().__init__()
        self.most = self._now = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        given = {x.untyped_storage()._cdata for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)}
        found = function(*args, **(kwargs or {}))
        for made in tree_leaves(found):
            if isinstance(made, torch.Tensor) and (storage := made.untyped_storage())._cdata not in given:
                self._now += storage.nbytes()
                self.most = max(self.most, self._now)
                weakref.finalize(storage, self._freed, storage.nbytes())
        return found

    def _freed(self, n_bytes):
        self._now -= n_bytes


def test_what_is_alive_is_counted():
    x = torch.zeros(1000)
    with Scratch() as scratch:
        for _ in range(5):
            x = (x + 1)[:1000].view(10, 100).flatten()
    assert scratch.most == 2 * x.nbytes


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize(("device", "n", "width"), [("cpu", 32, 10**6), ("cuda", 64, 10**7), ("cuda", 4096, 200_000)])
def test_memory_is_bounded_however_wide_features_are(device, n, width, dtype, way):
    room = gram._CACHE_BYTES if device == "cpu" else gram._DEVICE_BYTES
    block = max(room, gram._STRIP * n * 8)  # a strip at least
    with nullcontext() if device == "cpu" else FakeTensorMode():
        features = torch.zeros(n, width, dtype=dtype, device=device)
        with Scratch() as scratch:
            multiplied(features, way)
    assert 0 < scratch.most <= 3 * block + 4 * gram._STRIPS_ROOM + 4 * n * n * 8 < features.nbytes


@pytest.mark.parametrize(("way", "products"), [(Way.PLAIN, 1), (Way.EQUAL, 0), (Way.WIDE, 2)])
@pytest.mark.parametrize(("n", "width"), [(32, 10**6 + 1), (2048, 200_000), (8192, 20_000)])
def test_blocks_and_strips_multiply_no_more_than_the_whole(n, width, way, products):
    with FakeTensorMode(), FlopCounterMode(display=False, custom_mapping=IN_PLACE) as counter:
        multiplied(torch.zeros(n, width, device="cuda"), way)
    assert counter.get_total_flops() == products * 2 * n * n * width


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_blocks_give_what_the_whole_gives(dtype, way, monkeypatch):
    features = torch.randn(24, 1000, generator=torch.Generator().manual_seed(0)).to(dtype)
    whole = multiplied(features, way)
    monkeypatch.setattr(gram, "_CACHE_BYTES", 1)
    monkeypatch.setattr(gram, "_STRIP", 7)
    monkeypatch.setattr(gram, "_STRIPS_ROOM", 24 * 24 * 5)
    blocks = multiplied(features, way)
    assert torch.allclose(blocks.plain, whole.plain, rtol=1e-5, atol=1e-3)
    if way is Way.WIDE:
        assert torch.allclose(blocks.wide, whole.wide, rtol=1e-12, atol=1e-9)
    assert blocks.holds is None or bool(blocks.holds) == bool(whole.holds)
