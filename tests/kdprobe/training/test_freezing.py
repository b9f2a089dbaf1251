"""Parts of a network that are not trained."""

import pytest
import torch
from torch import nn

from kdprobe.errors import ConfigError
from kdprobe.models import cifar_resnet, create
from kdprobe.models.checkpoint import read_tensors
from kdprobe.training import train
from kdprobe.training.freezing import freeze, frozen_in
from tests.kdprobe.training.test_loop import Stopped, config, outcome, stop_after


def trained(model):
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize(
    ("patterns", "left"),
    [
        (["*", "!fc"], {"fc.weight", "fc.bias"}),
        (["layer*", "conv1", "bn1"], {"fc.weight", "fc.bias"}),
        (["*", "!fc.bias"], {"fc.bias"}),
        (["*", "!layer3*", "layer3.0.bn?", "layer3.0.downsample"], {f"layer3.0.conv{n}.weight" for n in (1, 2)}),
    ],
)
def test_patterns_choose_parameters_and_modules_with_all_in_them(patterns, left):
    model = cifar_resnet("resnet8")
    names = freeze(model, patterns)
    assert trained(model) == left
    model.train()
    for module in frozen_in(model, names):
        module.training = False
    for name, module in model.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.training == (f"{name}.weight" in left), name


def test_a_batch_norm_whose_parameters_are_frozen_keeps_its_statistics():
    assert freeze(cifar_resnet("resnet8"), ["bn1.*"]) == {"bn1"}
    assert freeze(cifar_resnet("resnet8"), ["bn1.weight"]) == frozenset()
    assert freeze(cifar_resnet("resnet8"), ["*.weight", "conv1"]) == {"conv1"}


def test_patterns_that_match_nothing_or_everything_are_refused():
    with pytest.raises(ConfigError, match=r"no parameter or module of CifarResNet matches 'layr1\*'; .*'layer1"):
        freeze(cifar_resnet("resnet8"), ["layr1*"])
    with pytest.raises(ConfigError, match=r"no parameter or module of CifarResNet matches 'head\*'"):
        freeze(cifar_resnet("resnet8"), ["*", "!head*"])
    with pytest.raises(
        ConfigError, match=r"training\.freeze \* leaves nothing of CifarResNet to be trained; leave out"
    ):
        freeze(cifar_resnet("resnet8"), ["*"])


FROZEN = ("training.freeze=['*', '!layer3*', '!fc']", "training.precision=fp32", "training.ema_decay=0.9")


@pytest.mark.slow
def test_a_training_leaves_what_is_frozen_as_it_was_and_is_resumed(tmp_path, monkeypatch, capsys):
    chosen = config("digits/resnet8", *FROZEN)
    torch.manual_seed(0)
    train(chosen, tmp_path / "whole", device="cpu")
    first = create("resnet8", n_classes=10, image_size=32).state_dict()
    last = read_tensors(tmp_path / "whole" / "last.safetensors")[1]
    changed = {name for name, tensor in last.items() if not torch.equal(tensor, first[name].to(tensor))}
    assert {name.partition(".")[0] for name in changed} == {"layer3", "fc"}
    assert "layer3.0.bn1.running_var" in changed
    assert "of the 78,042 parameters of resnet8 are trained" in capsys.readouterr().err
    stop_after(8, monkeypatch)
    with pytest.raises(Stopped):
        train(chosen, tmp_path / "run", device="cpu", quiet=True)
    monkeypatch.undo()
    train(chosen, tmp_path / "run", resume=True, device="cpu", quiet=True)
    assert outcome(tmp_path / "run") == outcome(tmp_path / "whole")
