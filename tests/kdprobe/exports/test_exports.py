"""Files of every format against the networks that they were made of."""

import json
import sys
import zipfile

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file
from torch import nn

import kdprobe
from kdprobe import cli
from kdprobe.errors import ConfigError, ExportError, FileError, ModelError
from kdprobe.exports import EXPORTERS, export
from kdprobe.exports import onnx_file as onnx_format
from kdprobe.models import ModelInfo, attach, create, model_info, save

MEAN, STD = (0.3, 0.4, 0.5), (0.2, 0.25, 0.3)


def network(name="resnet8", size=8, **more):
    torch.manual_seed(0)
    model = create(name, n_classes=10, image_size=size, mean=MEAN, std=STD, data="digits", **more)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):  # a network in training mode would give something else
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return model


@pytest.fixture
def images():
    return torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def run_onnx(path, images):
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {"images": images.numpy()})[0])


def run_torch(path, images):
    return torch.export.load(path).module()(images)


RUN = {"onnx": run_onnx, "torch": run_torch}


@pytest.fixture(scope="module", params=["onnx", "torch"])
def exported(request, tmp_path_factory):
    """The format, and what was exported by it with the normalisation inside and outside."""
    if request.param == "onnx":
        pytest.importorskip("onnxscript")
        pytest.importorskip("onnxruntime")
    suffix, images = EXPORTERS[request.param].suffix, torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    folder, model = tmp_path_factory.mktemp("exported"), network().train()
    model.fc.weight.requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    done = [
        export(model, folder / f"{where}{suffix}", images, format=request.param, normalise=where)
        for where in ("inside", "outside")
    ]
    assert model.training
    assert not model.fc.weight.requires_grad
    assert model.fc.bias.requires_grad
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    return request.param, *done


def test_a_file_gives_what_the_network_gives_for_any_number_of_images(exported, images):
    format, inside, outside = exported
    run, model = RUN[format], network().eval()
    assert (inside.difference.n_images, inside.output) == (5, "logits [batch, 10]")
    assert inside.input == "float32 [batch, 3, 8, 8] in [0, 1], normalised inside"
    assert outside.input == (
        "float32 [batch, 3, 8, 8], normalised outside: in [0, 1], minus (0.3, 0.4, 0.5), divided by (0.2, 0.25, 0.3)"
    )
    for count in (1, 2, 5):
        shown = images[:count]
        normal = (shown - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1)
        with torch.no_grad():
            wanted = model(normal)
        torch.testing.assert_close(run(inside.path, shown), wanted, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(run(outside.path, normal), wanted, rtol=1e-5, atol=1e-5)
        assert not torch.allclose(run(outside.path, shown), wanted, atol=1e-2)


def test_a_file_says_what_it_takes_and_holds_no_path(exported):
    format, _, outside = exported
    if format == "torch":
        extra = {"kdprobe": ""}
        torch.export.load(outside.path, extra_files=extra)
        facts = json.loads(extra["kdprobe"])
        content = b"".join(map(zipfile.ZipFile(outside.path).read, zipfile.ZipFile(outside.path).namelist()))
    else:
        import onnx

        model, content = onnx.load(outside.path), outside.path.read_bytes()
        facts = json.loads({entry.key: entry.value for entry in model.metadata_props}["kdprobe"])
        (given,), (left,) = model.graph.input, model.graph.output
        shapes = [
            [one.dim_param or one.dim_value for one in value.type.tensor_type.shape.dim] for value in (given, left)
        ]
        assert (given.name, left.name, shapes) == ("images", "logits", [["batch", 3, 8, 8], ["batch", 10]])
    assert b"/kdprobe/" not in content
    assert (facts["normalise"], facts["mean"], facts["std"]) == ("outside", [*MEAN], [*STD])
    assert (facts["name"], facts["image_size"], facts["kdprobe"]) == ("resnet8", 8, kdprobe.__version__)


@pytest.mark.parametrize(("name", "args"), [("resnet18", {}), ("vit_tiny_patch16_224", {"patch_size": 4, "depth": 2})])
def test_timm_loads_the_weights_by_the_line_that_is_shown(tmp_path, images, name, args):
    model = network(name, args=args)
    done = export(model, tmp_path / "net.safetensors", images, format="timm")
    loaded = eval(done.use, {"timm": timm}).eval()
    assert ("img_size=8" in done.use) == (name != "resnet18")
    assert "normalised outside" in done.input
    with torch.no_grad():
        assert torch.equal(loaded(images), model.eval()(images))
    again = kdprobe.load(done.path)
    assert (model_info(again).mean, model_info(again).data) == (MEAN, "digits")
    assert load_file(done.path).keys() == model.state_dict().keys()


def test_networks_that_timm_does_not_have_are_refused_for_it(tmp_path, images):
    with pytest.raises(ExportError, match=r"timm has no network 'resnet8'; give --format torch or onnx"):
        export(network(), tmp_path / "net.safetensors", images, format="timm")
    with pytest.raises(ExportError, match=r"take normalised images: give --normalise outside"):
        export(network("resnet18"), tmp_path / "net.safetensors", images, format="timm", normalise="inside")
    assert not [*tmp_path.iterdir()]


@pytest.mark.slow
def test_a_network_without_a_head_gives_its_features(tmp_path, images):
    model = attach(timm.create_model("resnet10t", num_classes=0), ModelInfo("resnet10t", 0, 8))
    done = export(model, tmp_path / "net.pt2", images, format="torch")
    assert done.output == "features [batch, 512]"
    assert run_torch(done.path, images).shape == (5, 512)


class Own(nn.Module):
    """Gives what `answer` makes of the logits."""

    def __init__(self, answer):
        super().__init__()
        self.layer, self.answer = nn.Linear(3 * 8 * 8, 4), answer

    def forward(self, x):
        return self.answer(self.layer(x.flatten(1)))


def own(answer):
    torch.manual_seed(0)
    return attach(Own(answer), ModelInfo("tests:own", 4, 8))


def test_a_file_that_is_not_the_network_is_not_kept(tmp_path, images):
    path = tmp_path / "net.pt2"
    other = own(lambda logits: logits * 1.001 if torch.compiler.is_exporting() else logits)
    with pytest.raises(ExportError, match=r"not kept: its outputs, as torch .* away .*--bound 0\.0001 allows"):
        export(other, path, images, format="torch")
    assert not [*tmp_path.iterdir()]
    done = export(other, path, images, format="torch", bound=0.01)
    assert done.difference.difference == pytest.approx(0.001 * done.difference.largest, rel=0.1)
    broken = own(lambda logits: logits * np.nan if torch.compiler.is_exporting() else logits)
    with pytest.raises(ExportError, match=r"up to nan away"):
        export(broken, path, images, format="torch", bound=1e9, overwrite=True)
    shorter = own(lambda logits: logits[:, :3] if torch.compiler.is_exporting() else logits)
    with pytest.raises(ExportError, match=r"it gives \[5, 3\] for 5 images, but the network \[5, 4\]"):
        export(shorter, path, images, format="torch", bound=1e9, overwrite=True)
    assert torch.equal(run_torch(path, images), done_again := run_torch(path, images))
    assert done_again.shape == (5, 4)


def test_what_works_for_one_batch_size_or_cannot_be_traced_is_refused(tmp_path, images, capfd):
    for answer in (
        lambda logits: logits + torch.zeros(2, 1),
        lambda logits: logits if logits.sum() > 0 else -logits,
    ):
        with pytest.raises(ExportError, match=r"tests:own cannot be traced for batches of any size"):
            export(own(answer), tmp_path / "net.pt2", images[:2], format="torch")
    assert capfd.readouterr() == ("", "")
    with pytest.raises(ModelError, match=r"gives a tuple of 0 \[\d, 4\], 1 \[\d, 4\], but"):
        export(own(lambda logits: (logits, logits)), tmp_path / "net.pt2", images, format="torch")
    assert not [*tmp_path.iterdir()]


@pytest.mark.slow
def test_without_onnxruntime_onnx_itself_runs_the_file(tmp_path, images, monkeypatch):
    pytest.importorskip("onnxscript")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    done = export(network(), tmp_path / "net.onnx", images, format="onnx")
    assert "(onnxruntime is not installed)" in done.runner
    assert done.difference.n_images == 4
    assert done.difference.difference < 1e-4 * done.difference.largest
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ExportError, match=r"needs the package onnxscript: pip install 'kdprobe\[export\]'"):
        export(network(), tmp_path / "other.onnx", images, format="onnx")


@pytest.mark.slow
def test_what_onnx_cannot_hold_is_refused(tmp_path, images, monkeypatch):
    pytest.importorskip("onnxscript")
    strange = own(torch.special.bessel_j0)
    with pytest.raises(ExportError, match=r"tests:own cannot be translated to ONNX; give --format torch: "):
        export(strange, tmp_path / "net.onnx", images, format="onnx")
    monkeypatch.setattr(onnx_format, "_LARGEST", 1000)
    with pytest.raises(ExportError, match=r"GB of weights, but an ONNX file holds at most 2 GB"):
        export(network(), tmp_path / "net.onnx", images, format="onnx")
    assert not [*tmp_path.iterdir()]


@pytest.mark.slow
def test_names_and_files_in_the_way(tmp_path, images):
    with pytest.raises(ExportError, match=r"files of --format torch end in \.pt2, but --out is .*net\.pth"):
        export(network(), tmp_path / "net.pth", images, format="torch")
    path = tmp_path / "net.pt2"
    path.write_text("mine")
    with pytest.raises(ExportError, match=r"net\.pt2 exists already; give another name, remove it, or give --over"):
        export(network(), path, images, format="torch")
    assert path.read_text() == "mine"
    export(network(), path, images, format="torch", overwrite=True)
    assert run_torch(path, images).shape == (5, 10)
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="cannot be written"):
        export(network(), tmp_path / "file" / "net.pt2", images, format="torch")


@pytest.mark.slow
def test_the_command_checks_a_checkpoint_on_its_own_images(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    save(network(), tmp_path / "net.safetensors")
    cli.run("export", "net.safetensors", "--format", "torch", "--out", "net.pt2", "--check-on", 7, "--quiet")
    text = capsys.readouterr().out
    assert "net.pt2: torch, " in text
    assert "input    float32 [batch, 3, 8, 8] in [0, 1], normalised inside\n" in text
    assert f"checked  on 7 images, by torch {torch.__version__}: at most 0 away from the network" in text
    assert "use      torch.export.load('net.pt2').module()(images)" in text
    with pytest.raises(ConfigError, match="'torch'"):
        cli.run("export", "net.safetensors", "--format", "keras", "--out", "net.pt2")
    nameless = create("resnet8", n_classes=10, image_size=8)
    save(nameless, tmp_path / "nameless.safetensors")
    with pytest.raises(ConfigError, match=r"nameless\.safetensors names no data set to check the file on; give one"):
        cli.run("export", "nameless.safetensors", "--format", "torch", "--out", "other.pt2")
    cli.run("export", "nameless.safetensors", "--format", "torch", "--out", "other.pt2", "--data", "digits")
    assert "checked  on 64 images" in capsys.readouterr().out
