"""Weights of others, as real tools save them: all of a network's tensors from the file, or a line that says why not."""

import argparse
import collections
import datetime
import json
import os
import pathlib
import sys
import types
import zipfile

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.layers import resample_abs_pos_embed
from timm.utils import CheckpointSaver, ModelEmaV3
from torch import nn
from torch.optim.swa_utils import AveragedModel

import kdprobe
from kdprobe.errors import CheckpointError, ModelError
from kdprobe.models import cifar_resnet, create, model_info
from kdprobe.models.checkpoint import facts_for, save
from kdprobe.models.cifar import CIFAR_NAMES
from kdprobe.models.foreign.weights import read_groups


def net(seed=1, name="resnet8", n_classes=10, **args):
    torch.manual_seed(seed)
    if name in CIFAR_NAMES:
        return cifar_resnet(name, num_classes=n_classes, **args).eval()
    return timm.create_model(name, num_classes=n_classes, **args).eval()


def below(prefix, state):
    return {prefix + name: tensor for name, tensor in state.items()}


@pytest.fixture
def state():
    return net().state_dict()


@pytest.fixture
def other():
    return net(2).state_dict()


@pytest.fixture
def loaded(tmp_path):
    """Save a content and load the network in it; `spec` says what comes after the file's name."""

    def load(content, key="", *, name="resnet8", **told):
        torch.save(content, tmp_path / "w.pth")
        return kdprobe.load(f"{name}@{tmp_path / 'w.pth'}{key}", **told)

    return load


def same(model, state):
    found = model.state_dict()
    return found.keys() == state.keys() and all(torch.equal(found[name], tensor) for name, tensor in state.items())


def trained(model):
    """An optimizer with momenta, as lies beside the weights of a training."""
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    model.train()(torch.randn(2, 3, 32, 32)).sum().backward()
    optimizer.step()
    return optimizer


def test_a_checkpoint_of_timms_training_script(tmp_path):
    model = net()
    optimizer, args = trained(model), argparse.Namespace(model="resnet8", out=tmp_path, lr=0.1)
    folder, average = str(tmp_path), ModelEmaV3(net(2))
    saver = CheckpointSaver(model, optimizer, args, average, checkpoint_dir=folder, recovery_dir=folder)
    saver.save_checkpoint(1, np.float64(70.5))
    spec = f"resnet8@{tmp_path / 'last.pth.tar'}"
    with pytest.raises(CheckpointError, match=r"holds 2 networks of this form; say .*#state_dict or .*#state_dict_ema"):
        kdprobe.load(spec)
    assert same(kdprobe.load(f"{spec}#state_dict"), model.state_dict())
    assert same(kdprobe.load(f"{spec}#state_dict_ema"), average.module.state_dict())


LAYOUTS = {
    "torchvision's references": lambda s: {
        "model": s,
        "lr_scheduler": {"a": torch.ones(3)},
        "args": argparse.Namespace(),
    },
    "imagenet example": lambda s: {"state_dict": below("module.", s), "arch": "x", "best_acc1": torch.tensor(7.0)},
    "Lightning": lambda s: {"state_dict": below("model.", s), "hyper_parameters": {"lr": 0.1}, "loops": {"fit": {}}},
    "a loss beside it": lambda s: {"state_dict": {**below("backbone.", s), "criterion.weight": torch.ones(10)}},
    "fastai": lambda s: {"model": s, "opt": {"state": [{"grad_avg": torch.ones(3)}], "hypers": [{"lr": 0.1}]}},
    "two deep": lambda s: {"model": {"state_dict": s, "arch": "resnet8"}, "epoch": 2},
    "prefixes within": lambda s: below("module.net.encoder.", s),
    "FSDP": lambda s: {n.replace("layer1.0", "layer1._fsdp_wrapped_module.0"): t for n, t in s.items()},
    "thop": lambda s: {**s, "total_ops": torch.zeros(1), "layer1.total_params": torch.zeros(1)},
    "random states": lambda s: {"net": s, "rng_state": torch.get_rng_state(), "numpy": np.random.get_state()},
    "of one key": lambda s: {"teacher": below("module.", s), "epoch": 3},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_of_one_network(state, loaded, layout):
    assert same(loaded(LAYOUTS[layout](state)), state)


def test_an_averaged_model_and_its_training(state, loaded):
    model = net()
    model.load_state_dict(state)
    assert same(loaded({"ema": AveragedModel(model).state_dict(), "optimizer": trained(net(2)).state_dict()}), state)


@pytest.mark.parametrize(
    ("one", "another"),
    [("student", "teacher"), ("model", "model_ema"), ("state_dict.model", "state_dict.ema.module"), ("a", "b.c.d")],
)
def test_several_networks_are_refused_and_one_is_taken(state, other, loaded, one, another):
    content = {}
    for key, tensors in ((one, state), (another, other)):
        first, _, rest = key.partition(".")
        content.setdefault(first, {}).update(below(f"{rest}." if rest else "", tensors))
    with pytest.raises(CheckpointError, match="holds 2 networks of this form; say which one is meant") as told:
        loaded(content)
    assert f"#{one} or" in str(told.value) or f"#{another} or" in str(told.value)
    taken = [loaded(content, f"#{key}") for key in (one, another)]
    assert [same(model, tensors) for model, tensors in zip(taken, (state, other), strict=True)] == [True, True]
    assert len({model_info(model).sha256 for model in taken}) == 2  # of one file


def test_networks_of_other_widths_are_several_too(state, loaded):
    content = {"student": state, "teacher": net(2, n_classes=100).state_dict()}
    with pytest.raises(CheckpointError, match="holds 2 networks"):
        loaded(content)
    assert model_info(loaded(content, "#teacher")).n_classes == 100
    with pytest.raises(
        CheckpointError,
        match=r"holds other tensors, 'teacher', besides the network; .*#student takes the network alone",
    ):
        loaded({"student": state, "teacher": net(2, "resnet20").state_dict()})


def test_the_outermost_network_beside_an_average(state, other, loaded):
    with pytest.raises(CheckpointError, match=r"w\.pth# or .*w\.pth#ema"):
        loaded({**state, "ema": other})
    assert same(loaded({**state, "ema": other}, "#"), state)


def test_unknown_tensors_beside_a_network_are_named(state, loaded):
    content = {"state_dict": {**below("model.", state), "projector.0.weight": torch.ones(3, 3)}}
    told = (
        r"holds other tensors, 'projector\.0\.weight', besides the network, whose tensors' names begin with 'model\.'; "
    )
    with pytest.raises(CheckpointError, match=told):
        loaded(content)
    assert same(loaded(content, "#state_dict.model"), state)
    with pytest.raises(CheckpointError, match=r"has no tensors below 'modell'; it has 'model', 'epoch'"):
        loaded({"model": state, "epoch": torch.ones(1)}, "#modell")


def test_a_file_whose_name_has_the_mark(state, tmp_path):
    torch.save(state, tmp_path / "a#b.pth")
    assert same(kdprobe.load(f"resnet8@{tmp_path / 'a#b.pth'}"), state)


@pytest.mark.slow
def test_cifar_networks_of_the_literature(loaded):
    """Padded shortcuts, `linear` for the classifier, `shortcut` for projections."""
    padded = net(1, "resnet20", shortcut="A")
    images = torch.randn(2, 3, 32, 32)
    file = {"state_dict": below("module.", {n.replace("fc.", "linear."): t for n, t in padded.state_dict().items()})}
    for told in ({}, {"args": {"shortcut": "A"}}):
        model = loaded(file, name="resnet20", **told)
        assert torch.equal(model(images), padded(images))
        assert model_info(model).args == {"shortcut": "A"}
    with pytest.raises(
        CheckpointError, match=r"lacks 'layer2\.0\.downsample\.0\.weight' .*; perhaps its shortcuts are of"
    ):
        loaded(file, name="resnet20", args={"shortcut": "B"})
    state = net(1, "resnet20").state_dict()
    renamed = {n.replace("fc.", "linear.").replace("downsample", "shortcut"): t for n, t in state.items()}
    assert same(loaded({"net": renamed, "acc": 93.1}, name="resnet20"), state)


def test_a_classifier_outside_the_prefix_is_not_taken_for_the_networks_own(state, loaded):
    body = {name: tensor for name, tensor in state.items() if not name.startswith("fc")}
    head = {"head.weight": state["fc.weight"], "head.bias": state["fc.bias"]}
    with pytest.raises(
        CheckpointError, match=r"these are features without .*, with 'head\.weight', 'head\.bias' beside"
    ):
        loaded({"state_dict": {**below("backbone.", body), **head}})


SMALL = {"depth": 1, "embed_dim": 24, "num_heads": 3}


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("deit_tiny_distilled_patch16_224", SMALL),
        ("swin_tiny_patch4_window7_224", {"depths": (1, 1, 1, 1), "embed_dim": 24}),
        pytest.param("levit_128s", {}, marks=pytest.mark.slow),
        pytest.param("dla34", {}, marks=pytest.mark.slow),
        pytest.param("pit_ti_224", {}, marks=pytest.mark.slow),
    ],
)
def test_classes_are_counted_at_any_classifier(loaded, name, args):
    state = net(1, name, 7, **args).state_dict()
    model = loaded({"state_dict": below("net.", state)}, name=name, args=args)
    assert same(model, state)
    assert model_info(model).n_classes == 7
    classifier = {key for key, tensor in state.items() if tensor.shape[:1] == (7,)}
    body = {key: tensor for key, tensor in state.items() if key not in classifier}
    with pytest.raises(CheckpointError, match=r"features without the network's classifier: n_classes=0 .* loads them"):
        loaded(body, name=name, args=args)


def test_features_alone_are_a_network_without_classifier(loaded):
    name, args = "vit_tiny_patch16_224", {"depth": 1, "embed_dim": 24, "num_heads": 3}
    headless = net(1, name, 0, img_size=32, **args)
    model = loaded(headless.state_dict(), name=name, args=args, n_classes=0)
    assert torch.equal(model(torch.ones(1, 3, 32, 32)), headless(torch.ones(1, 3, 32, 32)))
    assert (model_info(model).n_classes, model_info(model).image_size) == (0, 32)


def test_a_row_of_position_embeddings_does_not_say_rows_and_columns(loaded):
    args = SMALL
    for size in ((64, 64), (32, 128), 64):
        state = net(1, "vit_tiny_patch16_224", 4, img_size=size, **args).state_dict()
        for told in ({}, {"default_size": 96}):
            with pytest.raises(
                CheckpointError,
                match=r"was not trained at \d+ px: .* for 16 patches; if its images were square, give im",
            ):
                loaded(state, name="vit_tiny_patch16_224", args=args, **told)
    model = loaded(state, name="vit_tiny_patch16_224", args=args, image_size=64)
    assert same(model, state)
    assert model_info(model).image_size == 64


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("deit_tiny_distilled_patch16_224", 32),
        ("vit_tiny_patch16_224", 48),
        ("vit_tiny_patch16_224", 224),
    ],
)
def test_position_embeddings_say_the_image_size(loaded, name, size):
    args = SMALL
    state = net(1, name, 4, img_size=size, **args).state_dict()
    for told in ({}, {"image_size": size}, {"default_size": 96 if size < 200 else 224}):
        model = loaded(state, name=name, args=args, **told)
        assert same(model, state)
        assert model_info(model).image_size == size


def test_an_edge_that_no_patch_covers_is_reported(loaded):
    state = net(1, "vit_small_patch14_dinov2", 4, img_size=98, **SMALL).state_dict()
    with pytest.warns(UserWarning, match="its patches of 14 px cover 42 of 50 px, .* take a multiple of 14"):
        loaded(state, name="vit_small_patch14_dinov2", args=SMALL, image_size=50)


@pytest.mark.parametrize(
    ("name", "old", "new", "grids", "n_prefix"),
    [
        ("deit_tiny_distilled_patch16_224", 64, 96, "from 4 x 4 to 6 x 6", 2),
        ("vit_small_patch14_dinov2", 98, 56, "from 7 x 7 to 4 x 4", 1),
    ],
)
def test_position_embeddings_are_resampled_for_an_image_size_that_is_given(loaded, name, old, new, grids, n_prefix):
    state = net(1, name, 4, img_size=old, **SMALL).state_dict()
    with pytest.warns(UserWarning, match=rf"position embeddings of .*w\.pth are resampled {grids}"):
        model = loaded(state, name=name, args=SMALL, image_size=new)
    assert model_info(model).image_size == new
    assert model_info(model).origin()["remark"].endswith(grids)
    found, was = model.state_dict()["pos_embed"], state["pos_embed"]
    assert torch.equal(found, resample_abs_pos_embed(was, [int(grids[-1])] * 2, num_prefix_tokens=n_prefix))
    # a plane stays a plane, and prefix tokens keep their own
    side = torch.linspace(0, 1, int(grids[5]))
    was[:, n_prefix:] = (side[:, None] + 10 * side[None, :]).reshape(1, -1, 1)
    with pytest.warns(UserWarning, match="are resampled"):
        plane = loaded(state, name=name, args=SMALL, image_size=new).state_dict()["pos_embed"][0, n_prefix:, 0]
    assert plane.mean() == pytest.approx(5.5, abs=0.01)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "told", "said"),
    [
        (lambda s: {k: t for k, t in s.items() if "running" not in k}, {}, "batch normalisation needs its running sta"),
        (lambda s: {k: t for k, t in s.items() if "layer4" not in k}, {}, "name the network that it is of, with its"),
        (lambda s: {**s, "fc.weight": s["fc.weight"].T.contiguous()}, {}, r"\[512, 7\] instead of .* to be transposed"),
        (lambda s: {**s, "aux.weight": torch.ones(3, 512)}, {}, "save a file without these"),
        (lambda s: {k: t.numpy() for k, t in s.items()}, {}, "holds NumPy arrays, not tensors; save"),
        (lambda s: s, {"n_classes": 0}, r"it has a classifier: leave n_classes=0 \(--classes 0\) out"),
    ],
)
def test_refusals_have_a_true_reason_and_a_way_out(loaded, change, told, said):
    state = timm.create_model("resnet18", num_classes=7).state_dict()
    with pytest.raises(CheckpointError, match=said):
        loaded(change(state), name="resnet18", **told)


def test_a_network_that_pools_otherwise_is_named(loaded):
    state = net(1, "vit_tiny_patch16_224", 4, img_size=224, global_pool="avg", **SMALL).state_dict()
    with pytest.raises(CheckpointError, match=r"pools otherwise: .* \(--args global_pool=avg\)"):
        loaded(state, name="vit_tiny_patch16_224", args=SMALL)
    loaded(state, name="vit_tiny_patch16_224", args={**SMALL, "global_pool": "avg"})
    with pytest.raises(
        CheckpointError, match=r"not fit .*another shape of 'pos_embed'.* than 100 px: give the one that"
    ):
        state["pos_embed"] = state["pos_embed"][:, :-3]  # of no square images
        loaded(state, name="vit_tiny_patch16_224", args={**SMALL, "global_pool": "avg"}, image_size=100)


@pytest.mark.slow
def test_a_size_that_no_tensor_says(loaded):
    state = net(1, "resnet10t", 4).state_dict()
    sizes = [model_info(loaded(state, name="resnet10t", **told)).image_size for told in ({}, {"default_size": 64})]
    assert sizes == [176, 64]
    assert model_info(loaded(state, name="resnet10t", image_size=40, default_size=64)).image_size == 40


def test_other_numbers_of_classes_are_told(state, loaded):
    with pytest.raises(
        CheckpointError, match=r"another shape of 'fc\.weight' and 1 more, .*; it knows 10 classes, not 7"
    ):
        loaded(state, n_classes=7)
    with pytest.raises(CheckpointError, match=r"does not fit resnet8: it has none of its tensors, it holds no tensors"):
        loaded({"epoch": 3})


def odd(name):
    values = torch.zeros(10, 64)
    return {
        "sparse": values.to_sparse,
        "no values": lambda: values.to("meta"),
        "quantised": lambda: torch.quantize_per_tensor(values, 0.1, 0, torch.qint8),
        "of type torch.int8": lambda: values.to(torch.int8),
        "of type torch.complex64": lambda: values.to(torch.complex64),
    }[name]()


@pytest.mark.filterwarnings("ignore:.*deprecated")
@pytest.mark.parametrize("kind", ["sparse", "no values", "quantised", "of type torch.int8", "of type torch.complex64"])
def test_tensors_that_are_no_weights_are_refused(state, loaded, kind):
    with pytest.raises(CheckpointError, match=rf"cannot be used: its 'fc\.weight' is {kind}"):
        loaded({**state, "fc.weight": odd(kind)})


def test_halves_are_weights(state, loaded):
    halves = {name: t.half() if t.is_floating_point() else t for name, t in state.items()}
    assert torch.equal(loaded(halves).state_dict()["fc.weight"], halves["fc.weight"].float())


class Settings(dict):
    """A mapping as configuration libraries have them."""


class Runs:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


class Plain:
    pass


def test_a_numpy_number_without_bytes_is_refused(state, loaded):
    number = Runs(np.float64(1).__reduce__()[0], np.dtype("f8"), "eight")
    with pytest.raises(CheckpointError, match=r"is truncated or not a weights file .*a numpy scalar of float64"):
        loaded({**state, "number": number})


def installed(monkeypatch, full_name, kind):
    """Give a class the name of one in a library, as long as it is pickled."""
    *modules, name = full_name.split(".")
    for end in range(1, len(modules) + 1):
        monkeypatch.setitem(sys.modules, ".".join(modules[:end]), types.ModuleType(".".join(modules[:end])))
    made = type(name, (kind,), {"__module__": ".".join(modules)})
    setattr(sys.modules[".".join(modules)], name, made)
    return made


HARMLESS = [
    *(
        argparse.Namespace(lr=0.1, out=pathlib.Path("a"), data=pathlib.PureWindowsPath("c:/a")),
        types.SimpleNamespace(a=1),
    ),
    *(np.float64(1.5), np.int64(2), np.bool_(True), np.str_("a"), np.arange(3), np.array(["a"])),
    *(
        collections.defaultdict(list, a=[1]),
        collections.Counter("ab"),
        collections.deque([1]),
        {1, 2},
        1j,
        slice(3),
        2**80,
    ),
    *(datetime.datetime(2026, 1, 2), datetime.timedelta(1), torch.__version__, torch.float32, b"abc"),
]


@pytest.mark.parametrize("zipped", [True, False])
def test_harmless_types_beside_tensors_are_read(tmp_path, zipped):
    for number, value in enumerate(HARMLESS):
        path = tmp_path / f"{number}.pt"
        torch.save({"w": {"a": torch.ones(2)}, "value": [value]}, path, _use_new_zipfile_serialization=zipped)
        assert list(read_groups(path)) == ["w"], value


@pytest.mark.parametrize("name", ["omegaconf.dictconfig.DictConfig", "lightning_fabric.utilities.data.AttributeDict"])
def test_configurations_of_libraries_are_read_without_them(tmp_path, name):
    with pytest.MonkeyPatch.context() as patch:
        kind = installed(patch, name, Settings if "Attribute" in name else Plain)
        value = kind()
        value.__dict__ |= {} if "Attribute" in name else {"_content": {"a": 1}}
        torch.save({"w": {"a": torch.ones(2)}, "value": value}, tmp_path / "w.pt")
    assert list(read_groups(tmp_path / "w.pt")) == ["w"]
    assert name.split(".")[0] not in sys.modules


@pytest.mark.parametrize(
    ("value", "named"),
    [
        *((Runs(os.system, "true"), "system"), (Runs(eval, "1"), "eval"), (Runs(getattr, 1, "real"), "getattr")),
        *(
            (nn.Linear(2, 2), "Linear"),
            (Plain(), "Plain"),
            (print, "print"),
            (np.array([1, "a"], object), "ObjectDType"),
        ),
    ],
)
def test_what_could_run_code_is_refused_by_its_name(tmp_path, value, named):
    path = tmp_path / "w.pt"
    torch.save({"state_dict": net().state_dict(), "value": value}, path)
    told = (
        rf"is refused: loading it could run code, because it holds .*{named}.*; if you trust it, save its tensors alone"
    )
    with pytest.raises(CheckpointError, match=told):
        kdprobe.load(f"resnet8@{path}")


def test_the_content_decides_what_a_file_is(state, tmp_path):
    save_file(state, tmp_path / "model.bin")
    torch.save(state, tmp_path / "model.safetensors")
    assert same(kdprobe.load(f"resnet8@{tmp_path / 'model.bin'}"), state)
    assert same(kdprobe.load(f"resnet8@{tmp_path / 'model.safetensors'}"), state)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"<!DOCTYPE html>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid", r"is the pointer that Git LFS puts .* \(git lfs pull"),
        (b"\x89HDF\r\n\x1a\n" + bytes(64), "is an HDF5 file"),
        (b"\x1f\x8b\x08" + bytes(30), "is compressed with gzip"),
        (b'{"a": 1}', "is JSON, not a torch or safetensors weights file"),
        (b"hello", "is truncated or not a weights file: it is in neither torch's nor safetensors' format"),
        (b"", "is truncated or not a weights file"),
        (b"\x80\x02}q\x00.", "is truncated or not a weights file"),
        (b"\x20" + bytes(7) + b"{" + b"x" * 60, r"is truncated or not a safetensors file \("),
    ],
)
def test_other_files_are_told_by_their_kind(tmp_path, content, said):
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match=said):
        kdprobe.load(f"resnet8@{tmp_path / 'w.pth'}")


def test_other_archives_are_told(tmp_path):
    np.savez(tmp_path / "w.npz", a=np.ones(2))
    with pytest.raises(CheckpointError, match="is a NumPy archive, not a torch"):
        kdprobe.load(f"resnet8@{tmp_path / 'w.npz'}")
    with zipfile.ZipFile(tmp_path / "script.pt", "w") as archive:
        archive.writestr("a/constants.pkl", b"")
    with pytest.raises(CheckpointError, match=r"is a TorchScript archive, which holds code; save .* state_dict\(\)"):
        kdprobe.load(f"resnet8@{tmp_path / 'script.pt'}")
    with pytest.raises(CheckpointError, match=r"there is no weights file .*: it is a folder"):
        kdprobe.load(f"resnet8@{tmp_path}")


def test_one_bit_of_an_archive_is_noticed(state, tmp_path):
    path = tmp_path / "w.pth"
    torch.save(state, path)
    content = bytearray(path.read_bytes())
    values = state["layer2.0.conv1.weight"].numpy().tobytes()
    content[content.index(values) + 7] ^= 8
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"w\.pth is damaged: the checksum of w/data/\d+ in it does not match"):
        kdprobe.load(f"resnet8@{path}")
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(state, path)
    finally:
        torch.serialization.set_crc32_options(True)
    assert same(kdprobe.load(f"resnet8@{path}"), state)


def test_mappings_without_end_are_refused(tmp_path):
    content = {"a": torch.ones(1)}
    for _ in range(40):
        content = {"b": content}
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="holds mappings that are nested too deeply"):
        kdprobe.load(f"resnet8@{tmp_path / 'w.pth'}")


def test_facts_are_for_weights_that_do_not_say_them(tmp_path):
    told = {"n_classes": 7, "mean": (0.5,) * 3}
    assert facts_for(["runs/a", "resnet8@w.pth", "timm:x"], told) == [{}, told, {"mean": (0.5,) * 3}]
    own = tmp_path / "own.safetensors"
    save(create("resnet8", n_classes=3, image_size=8), own)
    with pytest.raises(CheckpointError, match="there is no checkpoint runs/a"):
        facts_for(["runs/a", "timm:x"], told)
    with pytest.raises(
        CheckpointError,
        match=r"n_classes was given, but .*own\.safetensors and timm:x specify their own; it is only for",
    ):
        facts_for([str(own), "timm:x"], told)

    save(create("resnet8", n_classes=3, image_size=8), tmp_path / "a.safetensors")
    with pytest.raises(
        CheckpointError, match=r"a\.safetensors specifies its own image_size; leave it out, or give weights"
    ):
        kdprobe.load(tmp_path / "a.safetensors", image_size=16)
    with pytest.raises(CheckpointError, match="timm:resnet18 specifies its own n_classes"):
        kdprobe.load("timm:resnet18", n_classes=3)


def test_the_dinov2_backbone_is_read(tmp_path):
    """A real pretrained Transformer's keys, made small: no head, and 518 px."""
    args = {"depth": 1, "embed_dim": 24, "num_heads": 3}
    state = net(1, "vit_small_patch14_dinov2", 0, **args).state_dict()
    save_file({name: tensor.half() for name, tensor in state.items()}, tmp_path / "dino.safetensors")
    spec = f"vit_small_patch14_dinov2@{tmp_path / 'dino.safetensors'}"
    with pytest.raises(CheckpointError, match=r"lacks 'head\.weight' and 1 more; these are features without"):
        kdprobe.load(spec, args=args)
    with pytest.raises(CheckpointError, match=r"another shape of 'pos_embed', .*; these are features without the"):
        kdprobe.load(spec, args=args, image_size=98)
    assert model_info(kdprobe.load(spec, args=args, n_classes=0)).image_size == 518


def test_a_network_of_ones_own_with_foreign_weights(tmp_path):
    own = __name__ + ":" + make_own.__name__
    torch.save({"state_dict": below("net.", make_own(num_classes=6, image_size=4).state_dict())}, tmp_path / "w.pth")
    with pytest.warns(UserWarning, match=r"^nothing says how the input of .*w\.pth is standardised"):
        assert model_info(kdprobe.load(f"{own}@{tmp_path / 'w.pth'}", image_size=4)).n_classes == 6
    with pytest.warns(UserWarning, match=r"it is done with ImageNet's std; if"):
        kdprobe.load(f"{own}@{tmp_path / 'w.pth'}", image_size=4, mean=(0.5,) * 3)
    given = {"mean": (0.5,) * 3, "std": (0.25,) * 3}
    assert model_info(kdprobe.load(f"{own}@{tmp_path / 'w.pth'}", image_size=4, **given)).std == (0.25,) * 3
    with pytest.raises(ModelError, match="cannot be imported"):
        kdprobe.load(f"nowhere_at_all:f@{tmp_path / 'w.pth'}")


class Answers(nn.Sequential):
    """A network whose output is a mapping with two tensors of one size."""

    def forward(self, x):
        scores = super().forward(x)
        return {"first": 2 * scores, "scores": scores}


def make_described(num_classes):
    net = Answers(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, num_classes))
    said = {"stages": ["1"], "output": "scores", "mean": [0.5] * 3, "std": [0.25] * 3}
    return kdprobe.describe(net, image_size=20, n_classes=num_classes, **said)


def test_what_a_function_says_of_its_network_holds_with_foreign_weights_too(tmp_path):
    torch.save(make_described(7).state_dict(), tmp_path / "w.pth")
    spec = f"{__name__}:{make_described.__name__}@{tmp_path / 'w.pth'}"
    info = model_info(kdprobe.load(spec))
    assert (info.n_classes, info.image_size, info.output, info.stages) == (7, 20, "scores", ("1",))
    assert (info.mean, info.std) == ((0.5,) * 3, (0.25,) * 3)
    told = model_info(kdprobe.load(spec, image_size=24, mean=(0.1,) * 3, output="first"))
    assert (told.image_size, told.mean, told.std, told.output) == (24, (0.1,) * 3, (0.25,) * 3, "first")


def make_own(*, num_classes, image_size):
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * image_size**2, num_classes))


def test_metadata_of_ours_are_not_read_as_numbers_of_another_type(tmp_path):
    meta = {"name": "resnet8", "args": {}, "n_classes": 10, "image_size": 8, "mean": [0.5] * 3, "std": [0.5] * 3}
    meta |= {"classes": [], "data": None, "method": ""}
    changes = {
        "name": 3,
        "args": [1],
        "n_classes": 2.5,
        "image_size": True,
        "mean": "abc",
        "std": [0, 1, 1],
        "classes": ["a"],
    }
    changes |= {"data": 3, "method": None, "odd": 1, "view": {"crop_pct": "a"}}
    for key, value in changes.items():
        described = {"format": "kdprobe-checkpoint", "version": 1, "model": {**meta, key: value}}
        save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors", {"kdprobe": json.dumps(described)})
        with pytest.raises(CheckpointError, match="its metadata does not describe a network"):
            kdprobe.load(tmp_path / "a.safetensors")


def test_weights_that_are_no_numbers_are_refused(tmp_path):
    state = create("resnet8", n_classes=10, image_size=16).state_dict()
    for name, value, said in (
        ("conv1.weight", float("nan"), r"1 NaN and 0 infinite values among the 432 of its 'conv1\.weight'"),
        ("bn1.running_var", float("inf"), r"0 NaN and 1 infinite values among the 16 of its 'bn1\.running_var'"),
    ):
        broken = {key: tensor.clone() for key, tensor in state.items()}
        broken[name].view(-1)[0] = value
        torch.save(broken, tmp_path / "w.pth")
        with pytest.raises(CheckpointError, match=f"w.pth cannot be used: {said}, as when training diverged"):
            kdprobe.load(tmp_path / "w.pth", model="resnet8")
        model = create("resnet8", n_classes=10, image_size=16)
        model.load_state_dict(broken)
        save(model, tmp_path / "own.safetensors")
        with pytest.raises(CheckpointError, match=f"own.safetensors cannot be used: {said}"):
            kdprobe.load(tmp_path / "own.safetensors")


def make_masked(*, num_classes, image_size):
    model = make_own(num_classes=num_classes, image_size=image_size)
    model.register_buffer("mask", torch.full((3, 3), float("-inf")).triu(1))
    return model


def test_what_is_infinite_on_purpose_is_loaded(tmp_path):
    torch.save(make_masked(num_classes=6, image_size=4).state_dict(), tmp_path / "w.pth")
    given = {"image_size": 4, "mean": (0.5,) * 3, "std": (0.5,) * 3}
    assert kdprobe.load(tmp_path / "w.pth", model=f"{__name__}:make_masked", **given).mask.isinf().sum() == 3
