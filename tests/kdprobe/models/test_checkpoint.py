import pickle
from contextlib import nullcontext

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import kdprobe
from kdprobe.data.dataset import IMAGENET_MEAN
from kdprobe.errors import CheckpointError, ModelError
from kdprobe.models import create, model_info
from kdprobe.models.checkpoint import LAST, packed, read_meta, save, save_tensors

HALF = {"mean": (0.5,) * 3, "std": (0.2,) * 3}
IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def model():
    torch.manual_seed(0)
    return create("resnet8", n_classes=5, image_size=32, **HALF, data="digits").eval()


def test_a_checkpoint_needs_no_other_file(model, tmp_path):
    path = tmp_path / "model.safetensors"
    save(model, path, training={"epoch": 3})
    loaded = kdprobe.load(path)
    assert torch.equal(loaded(IMAGES), model(IMAGES))
    assert not loaded.training
    info = model_info(loaded)
    assert (info.name, info.mean, info.data) == ("resnet8", (0.5,) * 3, "digits")
    assert len(info.sha256) == 64
    assert read_meta(path)["training"]["epoch"] == 3


def test_the_same_network_gives_the_same_bytes(model, tmp_path):
    for name in "ab":
        save(model, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_what_was_packed_is_as_it_was_then_and_gives_the_bytes_of_then(model, tmp_path):
    save(model, tmp_path / "then", training={"epoch": 3})
    tensors, meta = packed(model, training={"epoch": 3})
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.add_(1)  # as training does, in place
    save_tensors(tensors, tmp_path / "later", meta)
    assert (tmp_path / "later").read_bytes() == (tmp_path / "then").read_bytes()


def test_arguments_of_a_vit_survive(tmp_path):
    args = {"patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 3}
    vit = create("vit_tiny_patch16_224", n_classes=5, image_size=32, args=args).eval()
    save(vit, tmp_path / "vit.safetensors")
    assert torch.equal(kdprobe.load(tmp_path / "vit.safetensors")(IMAGES), vit(IMAGES))


def test_a_run_folder_gives_its_last_epoch(model, tmp_path):
    save(model, tmp_path / LAST)
    assert torch.equal(kdprobe.load(tmp_path)(IMAGES), model(IMAGES))


def test_a_folder_without_an_epoch_is_told(tmp_path):
    with pytest.raises(CheckpointError, match="is not a run folder with a saved epoch"):
        kdprobe.load(tmp_path)
    (tmp_path / "result.json").touch()
    with pytest.raises(CheckpointError, match=r"is finished, but its last\.safetensors is missing; give another of"):
        kdprobe.load(tmp_path)


def test_a_missing_file_is_named():
    with pytest.raises(CheckpointError, match=r"there is no checkpoint nowhere\.safetensors"):
        kdprobe.load("nowhere.safetensors")
    with pytest.raises(CheckpointError, match=r"there is no weights file nowhere\.pth"):
        kdprobe.load("resnet8@nowhere.pth")


@pytest.mark.parametrize("size", [0, 4, 100, 5000])
def test_a_truncated_checkpoint_is_told(model, tmp_path, size):
    path = tmp_path / "cut.safetensors"
    save(model, path)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(CheckpointError, match="is truncated or not a safetensors file"):
        kdprobe.load(path)


def test_foreign_safetensors_need_a_name(model, tmp_path):
    path = tmp_path / "foreign.safetensors"
    save_file(model.state_dict(), path)
    with pytest.raises(CheckpointError, match=r"was not written by kdprobe; give a model's name with it: NAME@foreign"):
        kdprobe.load(path)
    assert torch.equal(kdprobe.load(f"resnet8@{path}", **HALF)(IMAGES), model(IMAGES))


@pytest.mark.parametrize("wrapped", [lambda s: s, lambda s: {"model": s}, lambda s: {"state_dict": s, "epoch": 3}])
def test_foreign_weights_with_a_name(model, tmp_path, wrapped):
    path = tmp_path / "weights.pth"
    torch.save(wrapped({f"module.{key}": value for key, value in model.state_dict().items()}), path)
    loaded = kdprobe.load(path, model="resnet8", **HALF)
    assert torch.equal(loaded(IMAGES), model(IMAGES))
    assert model_info(loaded).n_classes == 5
    with pytest.raises(CheckpointError, match=r"weights\.pth is not a \.safetensors file; give a model's name"):
        kdprobe.load(path)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_prefixes_of_wrappers_and_missing_counters_do_not_matter(model, tmp_path, suffix, prefix):
    path = tmp_path / f"weights{suffix}"
    state = {prefix + key: value for key, value in model.state_dict().items() if "num_batches" not in key}
    (save_file if suffix == ".safetensors" else torch.save)(state, path)
    assert torch.equal(kdprobe.load(f"resnet8@{path}", **HALF)(IMAGES), model(IMAGES))


def test_a_compiled_part_is_named_as_if_it_were_not(model, tmp_path):
    state = {key.replace("layer1.", "layer1._orig_mod."): value for key, value in model.state_dict().items()}
    torch.save(state, tmp_path / "weights.pth")
    assert torch.equal(kdprobe.load(tmp_path / "weights.pth", model="resnet8", **HALF)(IMAGES), model(IMAGES))


@pytest.mark.parametrize(("n_classes", "mean"), [(10, 0.4914), (100, 0.5071), (7, 0.485)])
def test_foreign_cifar_networks_see_what_cifar_is_standardised_with(tmp_path, n_classes, mean):
    path = tmp_path / "weights.pth"
    torch.save(create("resnet8", n_classes=n_classes, image_size=32).state_dict(), path)
    with pytest.warns(UserWarning, match="nothing says") if mean == IMAGENET_MEAN[0] else nullcontext():
        assert model_info(kdprobe.load(f"resnet8@{path}")).mean[0] == mean
    info = model_info(kdprobe.load(f"resnet8@{path}", **HALF))
    assert (info.mean, info.std, info.n_classes) == ((0.5,) * 3, (0.2,) * 3, n_classes)
    assert len(info.sha256) == 64


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_a_file_that_would_run_code_is_refused(tmp_path):
    path, mark = tmp_path / "bomb.pth", tmp_path / "exploded"
    torch.save({"state_dict": Bomb(mark)}, path)
    with pytest.raises(CheckpointError, match=r"is refused: loading it could run code") as caught:
        kdprobe.load(f"resnet8@{path}")
    assert "\n" not in str(caught.value)
    assert not mark.exists()


def test_an_old_pickle_that_would_run_code_is_refused(tmp_path):
    path, mark = tmp_path / "old.pth", tmp_path / "exploded"
    path.write_bytes(pickle.dumps(Bomb(mark)))
    with pytest.raises(CheckpointError, match=r"old\.pth"):
        kdprobe.load(f"resnet8@{path}")
    assert not mark.exists()


def test_garbage_is_no_weights_file(tmp_path):
    path = tmp_path / "noise.pth"
    path.write_bytes(b"PK\x03\x04 and nothing more")
    with pytest.raises(CheckpointError, match="is truncated or not a weights file"):
        kdprobe.load(f"resnet8@{path}")


def test_weights_that_are_no_tensors_are_told(tmp_path):
    path = tmp_path / "list.pth"
    torch.save([1, 2], path)
    with pytest.raises(CheckpointError, match="holds a list, not named tensors"):
        kdprobe.load(f"resnet8@{path}")


def test_what_does_not_fit_is_listed(model, tmp_path):
    state = model.state_dict()
    state["extra"] = torch.zeros(1)
    del state["conv1.weight"]
    state["fc.weight"] = torch.zeros(7, 64)
    torch.save(state, tmp_path / "odd.pth")
    expected = "it lacks 'conv1.weight', has a surplus 'extra', has another shape of 'fc.bias'"
    with pytest.raises(CheckpointError, match=expected):
        kdprobe.load(tmp_path / "odd.pth", model="resnet8")


def test_tensors_of_something_else_are_named(tmp_path):
    torch.save(nn.Conv2d(3, 3, 1).state_dict(), tmp_path / "odd.pth")
    with pytest.raises(CheckpointError, match="it has none of its tensors, its tensors are 'weight', 'bias'"):
        kdprobe.load(tmp_path / "odd.pth", model="resnet8")


def test_damaged_metadata_are_told(tmp_path):
    tensors, path = {"a": torch.zeros(1)}, tmp_path / "cut.safetensors"
    save_file(tensors, path, {"kdprobe": '{"format": "kdprobe-checkp'})
    with pytest.raises(CheckpointError, match=r"cut\.safetensors is damaged: its metadata cannot be read"):
        kdprobe.load(path)
    save_file(tensors, path, {"kdprobe": "[1]"})
    with pytest.raises(CheckpointError, match=r"cut\.safetensors is damaged: its metadata is a list"):
        kdprobe.load(path)
    save_tensors(tensors, path, {"format": "kdprobe-checkpoint", "version": 1, "model": {"name": "resnet8"}})
    with pytest.raises(CheckpointError, match=r"is damaged: its metadata does not describe a network \('mean'\)"):
        kdprobe.load(path)


def test_another_version_or_content_is_told(tmp_path):
    save_tensors({"a": torch.zeros(1)}, tmp_path / "new.safetensors", {"format": "kdprobe-checkpoint", "version": 99})
    with pytest.raises(CheckpointError, match="has format version 99; this kdprobe reads 1"):
        kdprobe.load(tmp_path / "new.safetensors")
    save_tensors({"a": torch.zeros(1)}, tmp_path / "aux.safetensors", {"format": "kdprobe-auxiliary", "version": 1})
    with pytest.raises(CheckpointError, match="holds 'kdprobe-auxiliary', not a network"):
        kdprobe.load(tmp_path / "aux.safetensors")


def test_unknown_timm_names_list_near_matches():
    with pytest.raises(ModelError, match="no timm model 'resnet81'; did you mean"):
        kdprobe.load("timm:resnet81")
    with pytest.raises(ModelError, match=r"no timm model 'resnet18\.foo'; .*'?resnet18\."):
        kdprobe.load("timm:resnet18.foo")


def test_unknown_tags_of_foreign_weights(tmp_path):
    torch.save(create("resnet18", n_classes=5, image_size=32).state_dict(), tmp_path / "w.pth")
    with pytest.raises(ModelError, match=r"no timm model 'resnet18\.foo'; "):
        kdprobe.load(tmp_path / "w.pth", model="resnet18.foo")


def test_timm_models_without_weights_are_told():
    import timm

    name = next(n for n in timm.list_models() if (c := timm.get_pretrained_cfg(n)) is None or not c.has_weights)
    with pytest.raises(CheckpointError, match=f"timm has no published weights for '{name}'"):
        kdprobe.load(f"timm:{name}")
