"""What installed packages add: found by name, imported when it is asked for, refused in one line."""

import sys

import pytest
import torch
from torch import nn

import kdprobe
from kdprobe.config import parse
from kdprobe.data import load_data
from kdprobe.distillers import KNOWN_METHODS, option_types
from kdprobe.errors import ConfigError, DataError, ModelError
from kdprobe.models import create, load, model_info
from kdprobe.packages import offered
from kdprobe.training.loggers import make_loggers

MODULE = """
from torch import nn
from kdprobe.distillers.kd import KD

class Own(KD):
    "One of one's own."

def net(num_classes, image_size, width=4):
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * image_size**2, num_classes))

def three():
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 3))

def faces(path, image_size=None):
    raise ValueError(f"{path} at {image_size}")

class Log:
    def __init__(self, folder, settings):
        self.folder, self.settings = folder, settings

    def log(self, values, step):
        pass

    def close(self):
        pass
"""

RUN = {"data": {"spec": "digits"}, "model": {"name": "resnet8"}, "teacher": "t", "method": {"name": "own"}}


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Installs a package with these entry points."""

    def put(text, name="ours"):
        site = tmp_path / name
        site.mkdir()
        (site / "ours_module.py").write_text(MODULE)
        about = site / f"{name}-1.0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (about / "entry_points.txt").write_text(text)
        monkeypatch.syspath_prepend(site)

    monkeypatch.delitem(sys.modules, "ours_module", raising=False)
    return put


def test_a_method_is_found_by_its_name_and_imported_when_it_is_asked_for(install):
    known = list(KNOWN_METHODS)
    install("[kdprobe.methods]\nown = ours_module:Own\nbroken = no_such_module:X\nnone = ours_module:net\n")
    assert list(KNOWN_METHODS) == [*known, "broken", "none", "own"]
    assert len(KNOWN_METHODS) == len(option_types()) == len(known) + 3
    assert "own" in option_types()
    assert "ours_module" not in sys.modules
    config = parse(RUN, option_types())
    assert config.method == {"name": "own", "ce_weight": 0.1, "kd_weight": 0.9, "temperature": 4.0}
    nets = [create("resnet8", n_classes=3, image_size=16) for _ in range(2)]
    assert type(kdprobe.Distillation(*nets, "own").method).__name__ == "Own"
    with pytest.raises(
        ConfigError, match=r"'broken' of kdprobe\.methods cannot be imported from no_such_module:X: No module"
    ):
        parse({**RUN, "method": "broken"}, option_types())
    with pytest.raises(
        ConfigError, match=r"must be a class derived from kdprobe\.distillers\.Method, but what is regis"
    ):
        parse({**RUN, "method": "none"}, option_types())
    with pytest.raises(ConfigError, match=r"no method 'owm'; did you mean 'own'"):
        parse({**RUN, "method": "owm"}, option_types())
    assert KNOWN_METHODS["kd"].__name__ == "KD"
    with pytest.raises(KeyError):
        KNOWN_METHODS["nothing"]


def test_two_packages_cannot_offer_the_same_method(install):
    install("[kdprobe.methods]\nown = ours_module:Own\n")
    install("[kdprobe.methods]\nown = ours_module:net\n", "others")
    with pytest.raises(ConfigError, match=r"'own' of kdprobe\.methods is registered as ours_module:Own and as"):
        KNOWN_METHODS["own"]


def test_a_network_is_made_by_its_name(install):
    install("[kdprobe.models]\nown = ours_module:net\nresnet50 = ours_module:net\n")
    assert isinstance(create("own", n_classes=3, image_size=8)[1], nn.Linear)
    with pytest.raises(ModelError, match="no argument 'widht'"):
        create("own", n_classes=3, image_size=8, args={"widht": 1})
    with pytest.raises(ModelError, match="no model 'owm'; did you mean 'own'"):
        create("owm", n_classes=3, image_size=8)
    with pytest.raises(ModelError, match="'resnet50' is timm's or kdprobe's own, but an installed package takes"):
        create("resnet50", n_classes=3, image_size=8)


def test_a_network_whose_function_takes_no_classes_has_those_that_it_gives(install, tmp_path):
    install("[kdprobe.models]\nthree = ours_module:three\n")
    model, path = create("three", n_classes=3, image_size=8), tmp_path / "net.pth"
    torch.save(model.state_dict(), path)
    assert model_info(load(f"three@{path}", image_size=8, mean=[0.5] * 3, std=[0.5] * 3)).n_classes == 3


def test_a_data_set_is_read_by_its_name_with_what_stands_behind_the_colon(install):
    install("[kdprobe.data]\nfaces = ours_module:faces\n")
    with pytest.raises(
        DataError, match=r"^faces:here/there raised ValueError at \S+ours_module\.py:15: here/there at 8$"
    ):
        load_data("faces:here/there", image_size=8)
    with pytest.raises(
        DataError, match=r"faces must take image_size or no argument, but takes \(path, image_size=None\)"
    ):
        load_data("faces")
    with pytest.raises(DataError, match="no data set 'face'; did you mean 'faces'"):
        load_data("face:there/")


def test_loggers_are_chosen_by_name(install, tmp_path):
    install("[kdprobe.loggers]\nours = ours_module:Log\n")
    made = make_loggers(["ours", "ours"], tmp_path, {"a": {"b": 1}})
    assert list(made) == ["ours"]
    assert (made["ours"].folder, made["ours"].settings) == (tmp_path, {"a.b": 1})
    with pytest.raises(ConfigError, match="no logger 'our'; did you mean 'ours'"):
        make_loggers(["our"], tmp_path, {})


def test_list_marks_what_packages_add(install, capsys):
    install(
        "[kdprobe.methods]\nown = ours_module:Own\nkd = ours_module:Own\n[kdprobe.models]\nown_net = ours_module:net\n"
    )
    assert offered("kdprobe.methods") == {"own", "kd"}

    def listed(*words):
        assert kdprobe.main(["list", *words]) == 0
        lines = capsys.readouterr().out.splitlines()
        return {line.split()[0]: line.partition("  ")[2].strip() for line in lines}, lines

    methods, lines = listed("methods")
    assert methods["own"] == "from ours 1.0, ours_module:Own"
    assert "kd              from ours 1.0, ours_module:Own, but the name is kdprobe's own" in lines
    assert methods["rkd"].startswith("Park, Kim, Lu, Cho 2019 - Difference of the distances and angles")
    assert list(listed("models", "own*")[0]) == ["own_net"]
    assert "vit_tiny_patch16_224" in listed("models", "vit_tiny*")[0]
    assert listed("data")[0]["folder"].startswith("Read a folder of images")
    assert listed("recipes")[0]["digits/resnet8"] == "ResNet8 on the digits, trained on labels alone: the baseline"
    assert listed("kinds")[0]["similarity"].startswith("matrix, ")
    assert kdprobe.main(["list", "models", "vit_tny*"]) == 2
    assert "no model's name matches 'vit_tny*'; did you mean '" in capsys.readouterr().err
