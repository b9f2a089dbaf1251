"""A training's first weights: everything but a classifier of other classes comes from the file."""

from functools import partial

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.layers import resample_abs_pos_embed
from torch import nn

from kdprobe.errors import CheckpointError
from kdprobe.models import create, model_info
from kdprobe.models.checkpoint import save
from kdprobe.models.foreign.starting import start_from
from tests.kdprobe.models.foreign.test_loading import SMALL, below, net


@pytest.fixture
def begun(tmp_path):
    """Save a content and start a network from it; `key` is what comes after the file's name."""

    def start(content, name="resnet8", key="", *, n_classes=10, image_size=32, args=None, classes=(), **facts):
        torch.save(content, tmp_path / "w.pth")
        torch.manual_seed(0)
        build = partial(create, name, n_classes=n_classes, image_size=image_size, classes=classes, **facts)
        return start_from(f"{tmp_path / 'w.pth'}{key}", build, args=args, classes=classes)

    return start


def differing(model, state):
    """Names of a network's tensors that are not those of a file."""
    return {name for name, one in model.state_dict().items() if name not in state or not torch.equal(one, state[name])}


def test_a_classifier_of_as_many_classes_is_taken_and_any_other_is_new(begun):
    state = net().state_dict()
    started = begun({"state_dict": below("module.", state), "epoch": 3})
    assert differing(started.model, state) == set()
    assert started.note.endswith("w.pth: all of it, with its classifier of 10 classes")
    assert started.model.training
    started = begun(state, n_classes=7)
    assert differing(started.model, state) == {"fc.weight", "fc.bias"}
    assert (model_info(started.model).n_classes, started.model.fc.out_features) == (7, 7)
    assert started.note.endswith("w.pth: all but its classifier; a new classifier of 7 classes")
    torch.manual_seed(0)
    fresh = create("resnet8", n_classes=7, image_size=32).state_dict()
    assert torch.equal(started.model.fc.weight, fresh["fc.weight"])  # as without weights


@pytest.mark.parametrize(
    ("change", "note"),
    [
        (lambda s, h: s, "all of it, which has no classifier; a new classifier of 10 classes"),
        (lambda s, h: {"model": below("backbone.", s)}, "all of it, which has no classifier; a new"),
        (lambda s, h: {**below("backbone.", s), "head.weight": h}, "all of it, which has no classifier; a new"),
        (lambda s, h: {**s, "head.weight": h[:3]}, "all but its classifier; a new classifier of 10 classes"),
        (lambda s, h: {**s, "linear.1.weight": h}, None),
    ],
)
def test_features_alone_get_a_classifier(begun, change, note):
    state = net().state_dict()
    body = {name: tensor for name, tensor in state.items() if not name.startswith("fc")}
    content = change(body, state["fc.weight"])
    if note is None:
        with pytest.raises(CheckpointError, match=r"does not fit resnet8: it has a surplus 'linear\.1\.weight'"):
            begun(content)
        return
    started = begun(content)
    assert differing(started.model, body) == {"fc.weight", "fc.bias"}
    assert note in started.note


def test_classifiers_of_distilled_networks_are_new_together(begun):
    name = "deit_tiny_distilled_patch16_224"
    state = net(1, name, 7, img_size=32, **SMALL).state_dict()
    started = begun(state, name, n_classes=5, args=SMALL)
    assert differing(started.model, state) == {
        f"{one}.{part}" for one in ("head", "head_dist") for part in ("weight", "bias")
    }
    assert differing(begun(state, name, n_classes=7, args=SMALL).model, state) == set()


def test_a_network_without_a_classifier_leaves_the_files_out(begun):
    state = net(1, "vit_tiny_patch16_224", 7, img_size=32, **SMALL).state_dict()
    started = begun(state, "vit_tiny_patch16_224", n_classes=0, args=SMALL)
    assert differing(started.model, state) == set()
    assert not hasattr(started.model.head, "weight")
    assert started.note.endswith("w.pth: all but its classifier")


def test_position_embeddings_are_resampled(begun):
    """DINOv2, made small: no head, and 37 x 37 patches."""
    state = net(1, "vit_small_patch14_dinov2", 0, **SMALL).state_dict()
    started = begun(
        {name: t.half() for name, t in state.items()}, "vit_small_patch14_dinov2", image_size=98, args=SMALL
    )
    halves = state["pos_embed"].half().float()
    assert torch.equal(started.model.pos_embed, resample_abs_pos_embed(halves, [7, 7], num_prefix_tokens=1))
    assert torch.equal(started.model.pos_embed[:, 0], halves[:, 0])
    assert started.note.endswith("; position embeddings resampled from 37 x 37 to 7 x 7")
    assert (model_info(started.model).image_size, started.model(torch.zeros(1, 3, 98, 98)).shape) == (98, (1, 10))


SWIN = {"depths": (1, 1), "num_heads": (2, 4), "embed_dim": 16}


@pytest.mark.parametrize(
    ("name", "args", "sizes", "said"),
    [
        ("pit_ti_224", {"depth": (1, 1, 1), "base_dims": (8, 8, 8)}, (224, 96), "from 27 x 27 to 11 x 11"),
        ("swin_tiny_patch4_window7_224", SWIN, (224, 32), "from 7 x 7 to 4 x 4"),
        ("deit_tiny_distilled_patch16_224", SMALL, (32, 64), "from 2 x 2 to 4 x 4"),
        ("vit_small_patch16_rope_ape_224", SMALL, (64, 96), "from 4 x 4 to 6 x 6"),
    ],
)
def test_grids_of_other_families(begun, name, args, sizes, said):
    old = timm.create_model(name, img_size=sizes[0], num_classes=10, **args)
    started = begun(old.state_dict(), name, image_size=sizes[1], args=args)
    assert said in started.note
    assert started.model.eval()(torch.zeros(1, 3, sizes[1], sizes[1])).shape == (1, 10)
    changed = differing(started.model, old.state_dict())
    assert changed
    assert all("pos" in one for one in changed)


def test_padded_shortcuts_are_recognised(begun):
    state = net(1, "resnet20", shortcut="A").state_dict()
    started = begun(
        below("module.", {n.replace("fc.", "linear."): t for n, t in state.items()}), "resnet20", n_classes=4
    )
    assert model_info(started.model).args == {"shortcut": "A"}
    assert differing(started.model, state) == {"fc.weight", "fc.bias"}
    with pytest.raises(
        CheckpointError, match=r"lacks 'layer2\.0\.downsample\.0\.weight' .*; perhaps its shortcuts are of"
    ):
        begun(state, "resnet20", args={"shortcut": "B"})


def test_the_files_own_normalisation_is_taken(begun, tmp_path):
    data = {"mean": (0.1,) * 3, "std": (0.2,) * 3}
    state = net(1, "vit_tiny_patch16_224", 3, img_size=32, **SMALL).state_dict()
    started = begun(state, "vit_tiny_patch16_224", args=SMALL, **data)
    assert model_info(started.model).mean == (0.5, 0.5, 0.5)  # timm's of this network
    assert model_info(begun(net().state_dict(), **data).model).mean == (0.1, 0.1, 0.1)  # nothing is known
    save(create("resnet8", n_classes=3, image_size=32, mean=(0.3,) * 3, std=(0.4,) * 3), tmp_path / "ours.safetensors")
    build = partial(create, "resnet8", n_classes=3, image_size=32, **data)
    info = model_info(start_from(str(tmp_path / "ours.safetensors"), build).model)
    assert (info.mean, info.std) == ((0.3,) * 3, (0.4,) * 3)


def test_our_checkpoints_know_their_classes(tmp_path):
    ours = create("resnet8", n_classes=2, image_size=32, classes=("cat", "dog"))
    save(ours, tmp_path / "last.safetensors")
    for classes, same in ((("cat", "dog"), True), (("dog", "cat"), False), ((), True)):
        build = partial(create, "resnet8", n_classes=2, image_size=32, classes=classes)
        started = start_from(str(tmp_path), build, classes=classes)  # a run folder means its last epoch
        assert (differing(started.model, ours.state_dict()) == set()) is same
    content = bytearray((tmp_path / "last.safetensors").read_bytes())
    content[-5] ^= 1
    (tmp_path / "last.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"last\.safetensors is damaged: its tensors' sha256 is"):
        start_from(str(tmp_path), build)


def make_lonely(*, num_classes, image_size):
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * image_size**2, num_classes))


LONELY = {"name": f"{__name__}:make_lonely", "image_size": 4}


@pytest.mark.parametrize(
    ("content", "options", "said"),
    [
        (
            lambda s: net(2, "resnet20").state_dict(),
            {},
            r"does not fit resnet8: it lacks 'layer1\.0\.conv1\.weight' and",
        ),
        (lambda s: dict(list(s.items())[:9]), {}, r"does not fit resnet8: it lacks 'layer1\.0\.bn1\.running_mean' and"),
        (lambda s: {}, {}, "has none of its tensors, it holds no tensors"),
        (lambda s: {"a": s, "b": net(2, n_classes=3).state_dict()}, {}, "holds 2 networks of this form; say which"),
        (lambda s: {**below("net.", s), "projector.weight": s["fc.weight"]}, {}, r"other tensors, 'projector\.weight'"),
        (lambda s: {**s, "conv1.weight": s["conv1.weight"] * float("nan")}, {}, "432 NaN and 0 infinite values"),
        (lambda s: {**s, "conv1.weight": s["conv1.weight"][:, :1]}, {}, r"shape of 'conv1\.weight', \[16, 1, 3, 3\]"),
        (
            lambda s: make_lonely(num_classes=5, image_size=4).state_dict(),
            LONELY,
            r"another shape of '1\.weight' and 1 more",
        ),
    ],
)
def test_weights_of_other_networks_and_broken_files_are_refused(begun, content, options, said):
    with pytest.raises(CheckpointError, match=said):
        begun(content(net().state_dict()), **options)


def test_files_that_are_none(tmp_path):
    build = partial(create, "resnet8", n_classes=3, image_size=32)
    (tmp_path / "empty.pth").touch()
    save_file(net().state_dict(), tmp_path / "half.safetensors")
    (tmp_path / "half.safetensors").write_bytes((tmp_path / "half.safetensors").read_bytes()[:90_000])
    for name, said in (
        ("empty.pth", "is truncated or not a weights file"),
        ("half.safetensors", r"is truncated or not a safetensors file"),
        ("nothing.pth", "there is no weights file"),
    ):
        with pytest.raises(CheckpointError, match=said):
            start_from(str(tmp_path / name), build)


def test_a_key_says_which_network(begun):
    one, other = net().state_dict(), net(2).state_dict()
    assert differing(begun({"student": one, "teacher": other}, key="#teacher").model, other) == set()
