"""Networks made by others are saved so that they load again, or not at all."""

import pytest
import timm
import torch
from torch import nn

import kdprobe
from kdprobe.errors import ModelError, TrustError
from kdprobe.models import create, load, model_info, save

IMAGES = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    def __init__(self, num_classes=4, width=6, sign=1):
        super().__init__()
        self.first, self.fc, self.sign = nn.Conv2d(3, width, 3, 2, 1), nn.Linear(width, num_classes), sign

    def forward(self, images):
        return self.fc(self.sign * self.first(images).mean((2, 3)))


class Needy(Net):
    def __init__(self, width):
        super().__init__(width=width)


def wide(num_classes, width=9):
    return Net(num_classes, width)


def self_described(num_classes=4, sign=1):
    """Says itself what builds it, as its own description advises."""
    name = f"{__name__}:self_described"
    return kdprobe.describe(Net(num_classes, sign=sign), image_size=16, name=name, args={"sign": sign})


def described_untruly(num_classes=4, sign=1):
    args = {"sign": -sign}
    return kdprobe.describe(Net(num_classes, sign=sign), image_size=16, name=f"{__name__}:described_untruly", args=args)


def described(model, **facts):
    return kdprobe.describe(model, image_size=16, **facts).eval()


@pytest.mark.parametrize(
    ("make", "facts", "name"),
    [
        (Net, {}, "Net"),
        (lambda: Net(3), {}, "Net"),
        (lambda: Net(width=8), {"args": {"width": 8}}, "Net"),
        (lambda: Needy(5), {"args": {"width": 5}}, "Needy"),
        (lambda: Net(3, 9), {"name": f"{__name__}:wide"}, "wide"),
        (lambda: Net(3, 7), {"name": f"{__name__}:wide", "args": {"width": 7}}, "wide"),
    ],
)
def test_a_network_made_in_python_is_saved_and_loads_again(make, facts, name, tmp_path):
    model, path = described(make(), **facts), tmp_path / "net.safetensors"
    before = torch.get_rng_state()
    save(model, path)
    assert torch.equal(torch.get_rng_state(), before)
    with pytest.raises(TrustError, match=r"names code, .* which runs only if you trust its module"):
        load(path, trust=["elsewhere"])
    again = load(path, trust=[__name__])
    assert model_info(again).name == f"{__name__}:{name}"
    assert torch.equal(again(IMAGES), model(IMAGES))
    save(again, tmp_path / "again.safetensors")
    assert torch.equal(load(tmp_path / "again.safetensors", trust=[__name__])(IMAGES), model(IMAGES))


def test_a_network_of_timms_own_making_is_saved_with_its_arguments(tmp_path):
    args = {"patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 3}
    model = timm.create_model("vit_tiny_patch16_224", num_classes=3, img_size=16, **args).eval()
    with pytest.raises(ModelError, match=r"^VisionTransformer cannot be saved so that it loads again: compared with"):
        save(model, tmp_path / "net.safetensors")
    save(described(model, args=args), tmp_path / "net.safetensors")
    assert torch.equal(load(tmp_path / "net.safetensors")(IMAGES), model(IMAGES))


@pytest.mark.slow
def test_a_compiled_network_is_saved_as_what_it_is(tmp_path):
    model = create("resnet8", n_classes=3, image_size=16).eval()
    save(torch.compile(model), tmp_path / "net.safetensors")
    assert torch.equal(load(tmp_path / "net.safetensors")(IMAGES), model(IMAGES))


def local():
    class Local(Net):
        pass

    return Local()


def of_the_program():
    return type("Net", (Net,), {"__module__": "__main__"})()


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (local, r"its class is defined in .*test_rebuilding as local\.<locals>\.Local, where no file can name it"),
        (of_the_program, r"its class is defined in the program itself \(__main__\), where no file can name it"),
        (lambda: Needy(5), r"missing 1 required positional argument: 'width'"),
        (lambda: Net(width=8), r"it has another shape of 'first\.weight' and 2 more"),
        (lambda: Net(sign=-1), r"has its tensors, but gives other values for the same images"),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(768, 3)), r"it has a surplus '1\.weight' and 1 more"),
    ],
)
def test_what_would_not_load_is_refused_before_it_is_written(make, told, tmp_path):
    path = tmp_path / "net.safetensors"
    with pytest.raises(ModelError, match=f"cannot be saved so that it loads again: .*{told}.*give kdprobe.describe"):
        save(described(make()), path)
    assert not path.exists()


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        ({"name": f"{__name__}:wide"}, "it has another shape of 'first.weight'"),
        ({"name": "nowhere:net"}, "model 'nowhere:net' cannot be imported"),
        ({"name": "resnet"}, "no model 'resnet'; did you mean"),
        ({"args": {"width": nn.Identity}}, "is not JSON serializable"),
    ],
)
def test_a_wrong_name_is_refused_where_it_is_given(facts, told):
    model = described(Net())
    with pytest.raises(ModelError, match=f"^Net cannot be saved so that it loads again: .*{told}"):
        described(model, **facts)
    assert model_info(model).name == "Net"


def test_what_builds_a_network_may_name_itself(tmp_path):
    network = self_described()
    save(network, tmp_path / "net.safetensors")
    again = load(str(tmp_path / "net.safetensors"), trust=[__name__])
    assert torch.equal(again.eval()(IMAGES), network.eval()(IMAGES))
    torch.save(network.state_dict(), tmp_path / "net.pth")
    elsewhere = load(f"{__name__}:self_described@{tmp_path / 'net.pth'}")
    assert torch.equal(elsewhere.eval()(IMAGES), network.eval()(IMAGES))
    with pytest.raises(ModelError, match=r"Net cannot be saved so that it loads again: .* gives other values"):
        described_untruly()
