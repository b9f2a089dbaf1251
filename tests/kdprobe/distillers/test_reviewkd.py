import pytest
import torch
import torch.nn.functional as F

from kdprobe.distillers import DISTILLERS, Progress
from kdprobe.distillers.reviewkd import FusionBlock, FusionChain, hcl_loss
from tests.goldens import assert_close, assert_tensor, assert_value, cases, leaf

# Batch norm over two or three 1x1 maps all but cancels their gradients: float32 keeps three digits.
FEW = {torch.float64: 1e-8, torch.float32: 1e-3}


@pytest.mark.parametrize("case", cases("reviewkd_hcl"))
def test_pyramid_equals_the_original(case):
    student = [leaf(maps) for maps in case.stages("feat_s")]
    loss = hcl_loss(student, case.stages("feat_t"))
    loss.backward()
    assert_value(case, loss, "loss")
    for j, (maps, other) in enumerate(zip(student, case.stages("feat_t"), strict=True)):
        assert_tensor(case, maps.grad, f"grad_s{j}")
        assert_close(case, hcl_loss([maps], [other]), case["loss_per_level"][j].item())


@pytest.mark.parametrize("case", cases("reviewkd_abf", only="abf"))
@pytest.mark.parametrize("mode", ["eval", "train"])
def test_fusion_block_equals_the_original(case, mode):
    weights = case.weights()
    mid, in_channels = weights["conv1.0.weight"].shape[:2]
    block = FusionBlock(in_channels, mid, len(weights["conv2.0.weight"]), fuse=case["fuse"]).to(case.dtype)
    block.load_state_dict(weights, strict=False)
    block.train(mode == "train")
    maps = leaf(case["x"])
    deeper = leaf(case["y"]) if case["fuse"] else None
    out, handed_on = block(maps, deeper, case["out_shape"])
    (out.square().mean() + handed_on.square().mean()).backward()
    assert_tensor(case, out, f"out_{mode}")
    assert_tensor(case, handed_on, f"res_{mode}")
    assert_tensor(case, maps.grad, f"gradx_{mode}", tol=FEW[case.dtype] if maps.shape[2] == 1 else None)
    if deeper is not None:
        assert_tensor(case, deeper.grad, f"grady_{mode}")


@pytest.mark.parametrize("case", cases("reviewkd_abf", only="chain"))
def test_chain_equals_the_original(case):
    chain = FusionChain(case["in_channels"].tolist(), case["out_channels"].tolist()).to(case.dtype)
    for depth, block in enumerate(reversed(chain.blocks)):
        block.load_state_dict(case.weights(f"abfs__{depth}__"), strict=False)
    student = [leaf(maps) for maps in [*case.stages("feat_s"), case["pooled_s"]]]
    teacher = [*case.stages("feat_t"), case["pooled_t"][..., None, None]]
    sizes = [tuple(maps.shape[2:]) for maps in teacher]
    loss = hcl_loss(chain([*student[:-1], student[-1][..., None, None]], sizes), teacher)
    loss = case["weight"] * min(case["epoch"] / case["warmup"], 1) * loss
    loss.backward()
    assert_value(case, loss, "loss_kd")
    assert_value(case, F.cross_entropy(case["logits_s"], case["target"]), "loss_ce")
    assert_tensor(case, student[-1].grad, "grad_pooled", tol=FEW[case.dtype])
    for j, maps in enumerate(student[:-1]):
        assert_tensor(case, maps.grad, f"grad_s{j}")


def test_the_deepest_block_takes_the_width_of_the_deepest_map():
    chain = FusionChain([8, 16, 1024], [4, 4, 4])
    assert [block.conv1[0].out_channels for block in chain.blocks] == [512] * 3
    assert [block.att_conv is None for block in chain.blocks] == [False, False, True]
    out = chain([torch.rand(2, c, s, s) for c, s in [(8, 8), (16, 4), (1024, 1)]], [(7, 7), (4, 4), (1, 1)])
    assert [tuple(maps.shape) for maps in out] == [(2, 4, 7, 7), (2, 4, 4, 4), (2, 4, 1, 1)]


@pytest.mark.parametrize(("first", "expected"), [(1, [0.05, 0.05, 0.1, 1, 1]), (0, [0, 0, 0.05, 0.95, 1])])
def test_the_warm_up_counts_its_first_epoch_as_one_or_as_none(first, expected):
    progress = [Progress(epoch, 240) for epoch in (0, 0.9, 1, 19.5, 200)]
    assert [entry.warmup(20, first=first) for entry in progress] == pytest.approx(expected)
    for name in ("dkd", "reviewkd"):
        assert DISTILLERS[name].Options(warmup_from=first).warmup_from == first
