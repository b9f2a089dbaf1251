import pytest
import torch
from torch import nn

from kdprobe.distillers import DISTILLERS, Progress
from kdprobe.distillers.ofa import PatchMerging, SeparableBlock, TokenExit, conv_exit, ofa_loss
from kdprobe.errors import ModelError
from kdprobe.models.stages import Features, Shapes
from tests.goldens import assert_tensor, assert_value, cases, leaf


@pytest.mark.parametrize("case", cases("ofa"))
def test_equals_the_original(case):
    student = leaf(case["logits_s"])
    loss = ofa_loss(student, case["logits_t"], case["target"], eps=case["eps"], temperature=case["T"])
    loss.backward()
    assert_value(case, loss, "loss")
    assert_tensor(case, student.grad, "grad_s")


def _load_in_order(module, weights):
    """The originals' weights by their order; the step counters of batch norm are not stored."""
    names = [name for name in module.state_dict() if not name.endswith("num_batches_tracked")]
    module.load_state_dict(dict(zip(names, weights.values(), strict=True)), strict=False)


@pytest.mark.parametrize("case", cases("ofa_projector", only="cnn"))
@pytest.mark.parametrize("mode", ["eval", "train"])
def test_conv_exit_equals_the_original(case, mode):
    maps, out = case["x"], case[f"out_{mode}"]
    exit_branch = conv_exit(
        maps.shape[1],
        stage=case.description["stage"],
        n_stages=4,
        width=max(case.description["fs"], case.description["ft"]),
        n_classes=out.shape[1],
    ).to(case.dtype)
    _load_in_order(exit_branch, case.weights())
    assert_tensor(case, exit_branch.train(mode == "train")(maps), f"out_{mode}")


@pytest.mark.parametrize("case", cases("ofa_projector", only="patch_merging"))
def test_patch_merging_equals_the_original(case):
    merging = PatchMerging(case["x"].shape[2], case["out"].shape[2]).to(case.dtype)
    merging.load_state_dict(case.weights())
    assert_tensor(case, merging(case["x"]), "out")


def test_eps_one_is_the_cross_entropy_with_the_teacher():
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 6, 5, generator=generator, dtype=torch.float64)
    expected = -(teacher.softmax(1) * student.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(ofa_loss(student, teacher, torch.arange(6) % 5, eps=1.0), expected)


@pytest.mark.parametrize("n_classes", [2, 10])
def test_huge_logits_give_finite_losses_and_gradients(n_classes):
    teacher = torch.randn(1, n_classes, generator=torch.Generator().manual_seed(1)).sign() * 1e4
    student = leaf(-teacher)
    loss = ofa_loss(student, teacher, torch.tensor([1]), eps=1.5)
    loss.backward()
    assert loss.isfinite()
    assert student.grad.isfinite().all()


@pytest.mark.parametrize(("side", "n_merges"), [(4, 0), (7, 0), (14, 1), (16, 1), (28, 2), (15, 0)])
def test_tokens_are_merged_down_to_seven_by_seven(side, n_merges):
    exit_branch = TokenExit(8, side, stage=2, n_stages=4, n_classes=3)
    assert len(exit_branch.merges) == n_merges
    assert len(exit_branch.blocks) == 2
    assert exit_branch(torch.rand(2, 8, side, side)).shape == (2, 3)


@pytest.mark.parametrize(("side", "activated"), [(14, [True]), (28, [True, False]), (56, [True, True, False])])
def test_the_last_of_several_merges_has_no_activation(side, activated):
    merges = TokenExit(8, side, stage=2, n_stages=4, n_classes=3).merges
    assert [isinstance(merge.activation, nn.GELU) for merge in merges] == activated
    plain = PatchMerging(4, 4, activate=False)
    tokens = torch.randn(1, 4, 4, generator=torch.Generator().manual_seed(0))
    assert plain(tokens).equal(plain.reduction(plain.norm(tokens[:, [0, 2, 1, 3]].flatten(1)))[:, None])


def test_a_conv_exit_halves_once_for_each_deeper_stage():
    branch = conv_exit(4, stage=1, n_stages=4, width=10, n_classes=3)
    blocks = [part for part in branch if isinstance(part, SeparableBlock)]
    assert [block[1].in_channels for block in blocks] == [4, 8, 16]


def _shapes(n_blocks):
    names = tuple(f"blocks.{i}" for i in range(n_blocks))
    return Shapes("vit", names, ((8, 4, 4),) * n_blocks, 8, 3, (17, 8), 1)


@pytest.mark.parametrize(("n_blocks", "stages"), [(12, (1, 3, 9, 11)), (8, (1, 3, 5, 7)), (3, (0, 1, 2))])
def test_exits_of_a_transformer(n_blocks, stages):
    kind = DISTILLERS["ofa"]
    assert kind(kind.Options(), _shapes(n_blocks), _shapes(2)).stages == stages


def test_each_exit_may_have_an_eps_of_its_own():
    kind, shapes = DISTILLERS["ofa"], _shapes(2)
    maps = tuple(torch.randn(4, 8, 4, 4, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    student, teacher = Features(torch.zeros(4, 3), maps=maps), Features(torch.eye(4, 3) * 3)

    def exits(eps):
        torch.manual_seed(0)
        method = kind(kind.Options(exit_eps=eps), shapes, shapes).eval()
        return method(student, teacher, torch.arange(4) % 3, Progress(0, 1))["exits"].item()

    assert exits((1.5, 1.5)) == exits(1.5)
    assert min(exits(1.0), exits(2.0)) < exits((1.0, 2.0)) < max(exits(1.0), exits(2.0))
    with pytest.raises(ModelError, match="ofa: there are 3 exit_eps for 2 exits"):
        exits((1.0, 1.0, 2.0))


def test_an_unknown_stage_is_named():
    kind = DISTILLERS["ofa"]
    with pytest.raises(ModelError, match="ofa: there is no stage 7, vit has stages 0 to 3"):
        kind(kind.Options(stages=(7,)), _shapes(4), _shapes(4))
