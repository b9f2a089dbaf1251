"""Code of the user's: what the person at the keyboard names runs, what a received file names does not."""

import ast
import json
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import torch
import yaml
from click.testing import CliRunner
from safetensors.torch import save_file

import kdprobe
from kdprobe.cli.group import cli
from kdprobe.cli.named_modules import modules_in, modules_named
from kdprobe.data import load_data
from kdprobe.errors import ConfigError, DataError, ModelError, TrustError
from kdprobe.features.shared_images import open_views
from kdprobe.models import create
from kdprobe.models.checkpoint import read_meta, save
from kdprobe.sweeps.work import Order, work
from kdprobe.user_code import module_of, own_object, trusted_modules, trusting
from tests import small_sweeps as sweeps
from tests.test_house import sources

NETS = """
import pathlib
pathlib.Path("ran").touch()
from torch import nn
from torch.hub import load
from other_nets import Flat
def net(num_classes, image_size):
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * image_size**2, num_classes))
def data(image_size=None):
    return tests.tiny.digits(image_size)
import tests.tiny
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with a module `own_nets` that leaves a file `ran`."""
    (tmp_path / "own_nets.py").write_text(NETS)
    (tmp_path / "other_nets.py").write_text("from torch import nn\nclass Flat(nn.Flatten):\n    pass\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name in ("own_nets", "other_nets"):
        sys.modules.pop(name, None)


def checkpoint(path, *, name="resnet8", args=None, data="digits", tensors=None, **changes):
    """A file in our format, as somebody else may send it."""
    model = {"name": name, "args": args or {}, "n_classes": 10, "image_size": 8, "mean": [0.5] * 3, "std": [0.5] * 3}
    meta = {"format": "kdprobe-checkpoint", "version": 1, "training": {}}
    meta["model"] = model | {"classes": [], "data": data, "method": "", **changes}
    save_file(tensors or {"x": torch.zeros(1)}, path, {"kdprobe": json.dumps(meta)})
    return path


def own_checkpoint(path):
    """A whole one of `own_nets:net`."""
    save(create("own_nets:net", n_classes=10, image_size=8, data="own_nets:data"), path)
    Path("ran").unlink()
    sys.modules.pop("own_nets")
    return path


def test_code_that_ends_the_program_is_one_line(folder):
    (folder / "other_nets.py").write_text("import sys\nsys.exit(5)\n")
    own = "import sys\ndef net(num_classes):\n    sys.exit(6)\ndef data():\n    sys.exit(7)\n"
    (folder / "own_nets.py").write_text(own)
    for use, name, what, status in (
        (create, "other_nets:net", "module 'other_nets', when it is imported,", 5),
        (load_data, "other_nets:data", "module 'other_nets', when it is imported,", 5),
        (create, "own_nets:net", r"net\(\)", 6),
        (load_data, "own_nets:data", "own_nets:data", 7),
    ):
        facts = {"n_classes": 2, "image_size": 8} if use is create else {}
        with pytest.raises(ConfigError, match=f"{what} ends the program with status {status}; code that others call"):
            use(name, **facts)


@pytest.mark.parametrize("name", ["own_nets:net", "own_nets:load", "own_nets:nothing", "nowhere.at.all:net"])
def test_a_network_that_a_checkpoint_names_is_not_imported(folder, name):
    file = checkpoint(folder / "sent.safetensors", name=name)
    module = name.partition(":")[0]
    told = rf"sent\.safetensors names code, '{name}', which runs only if you trust its module: add --trust {module} "
    with pytest.raises(TrustError, match=told):
        kdprobe.load(file)
    with pytest.raises(TrustError, match=r"in Python trust=\["):
        kdprobe.load(file, trust=["elsewhere", "own_nets.sub", "own"])
    assert not Path("ran").exists()


def test_a_trusted_network_is_loaded(folder, monkeypatch):
    file = own_checkpoint(folder / "own.safetensors")
    assert kdprobe.load(file, trust=["own_nets"])[1].out_features == 10
    assert kdprobe.load(file, trust=["own_nets:net"])[1].out_features == 10
    with pytest.raises(TrustError):
        kdprobe.load(file)  # trust ends with the call
    monkeypatch.setenv("KDPROBE_TRUST", "elsewhere, own_nets")
    assert kdprobe.load(file)[1].out_features == 10


def test_trust_in_a_module_is_none_in_what_it_imports(folder):
    file = checkpoint(folder / "sent.safetensors", name="own_nets:load", args={"repo_or_dir": "x"})
    with pytest.raises(TrustError, match=r"'own_nets:load', .* add --trust torch\.hub "):
        kdprobe.load(file, trust=["own_nets"])
    with trusting(["own_nets"]), pytest.raises(TrustError, match="add --trust other_nets "):
        own_object("own_nets:Flat", named_by="a file")
    with trusting(["own_nets", "other_nets"]):
        assert own_object("own_nets:Flat", named_by="a file").__name__ == "Flat"


@pytest.mark.parametrize(
    "key", ["checkpoint_path", "pretrained_cfg", "pretrained", "cache_dir", "pretrained_cfg_overlay"]
)
def test_a_received_file_has_timm_read_no_other(folder, key):
    file = checkpoint(folder / "sent.safetensors", name="resnet18", args={key: "weights.pth"})
    with pytest.raises(
        TrustError, match=rf"sent\.safetensors gives 'resnet18' the argument '{key}', which makes timm read"
    ):
        kdprobe.load(file, trust=["timm"])


@pytest.mark.parametrize("name", ["hf-hub:timm/resnet18", "local-dir:/tmp", "own_nets", "timm", "resnet18.hf-hub:x/y"])
def test_what_names_no_network_of_a_file_is_refused(folder, name):
    with pytest.raises(ModelError, match=r"no model|cannot be imported"):
        kdprobe.load(checkpoint(folder / "sent.safetensors", name=name))


def test_a_recipe_may_name_a_file_which_its_checkpoints_do_not(tmp_path):
    torch.save(create("resnet10t", n_classes=3, image_size=32).state_dict(), tmp_path / "w.pth")
    args = {"checkpoint_path": str(tmp_path / "w.pth")}
    save(create("resnet10t", n_classes=3, image_size=32, args=args), tmp_path / "model.safetensors")
    assert read_meta(tmp_path / "model.safetensors")["model"]["args"] == {}
    kdprobe.load(tmp_path / "model.safetensors")


def test_data_that_a_checkpoint_names_are_not_imported(folder):
    tensors = create("resnet8", n_classes=10, image_size=8).state_dict()
    file = str(checkpoint(folder / "sent.safetensors", data="own_nets:data", tensors=tensors))
    with pytest.raises(TrustError, match=r"sent\.safetensors names code, 'own_nets:data', .* --trust own_nets"):
        open_views({"student": file})
    assert not Path("ran").exists()
    with pytest.raises(DataError, match="no data set 'hf-hub'"):
        open_views({"student": str(checkpoint(folder / "odd.safetensors", data="hf-hub:x", tensors=tensors))})
    assert open_views({"student": file}, trust=["own_nets"]).n_samples == 60
    assert open_views({"student": file}, data="own_nets:data").n_samples == 60


def run(*words):
    """Exit status and the one line of a command."""
    done = CliRunner().invoke(cli, [str(word) for word in words])
    return (0, done.output) if done.exception is None else (done.exception.status, str(done.exception))


def test_commands_take_the_names_that_the_command_line_has(folder):
    own = own_checkpoint(folder / "own.safetensors")
    count = ["complexity", own, "--quiet", "--out"]
    assert run(*count, "a")[0] == 2
    assert run(*count, "b", "--trust", "elsewhere")[0] == 2
    assert not Path("ran").exists()
    assert run(*count, "c", "--trust", "own_nets")[0] == 0
    dump = ["dump", "--checkpoint", own, "--layers", "1", "--quiet", "--out"]
    assert run(*dump, "a.h5")[0] == 2
    assert run(*dump, "b.h5", "--data", "own_nets:data")[0] == 0  # names the module of the network too
    with pytest.raises(ConfigError, match=r"--trust takes the name of a module, such as my_nets, but got 'a/b\.py'"):
        CliRunner().invoke(cli, [*map(str, count), "d", "--trust", "a/b.py"], catch_exceptions=False)


def test_a_received_run_is_resumed_only_with_trust(folder):
    recipe = {"data": {"spec": "own_nets:data", "image_size": 8}, "model": {"name": "own_nets:net"}}
    recipe["training"] = {"epochs": 1, "batch_size": 128, "precision": "fp32"}
    Path("t.yaml").write_text(yaml.safe_dump(recipe))
    assert run("train", "t.yaml", "--out", "run", "--quiet")[0] == 0
    sys.modules.pop("own_nets")
    Path("ran").unlink()
    Path("run/result.json").unlink()
    status, told = run("train", "--resume", "--out", "run", "--quiet")
    assert (status, "run/config.yaml names code" in told, "--trust own_nets" in told) == (2, True, True)
    assert not Path("ran").exists()
    assert run("train", "t.yaml", "--resume", "--out", "run", "--quiet")[0] == 0  # the recipe names it
    Path("run/result.json").unlink()
    assert run("train", "--resume", "--out", "run", "--quiet", "--trust", "own_nets")[0] == 0


def test_arguments_in_a_received_run_read_no_file(tmp_path):
    words = ["train", "digits/resnet8", "--set", "training.epochs=1", "--out", tmp_path / "run", "--quiet"]
    assert run(*words, "--set", "training.batch_size=512", "--set", "data.image_size=8")[0] == 0
    config = tmp_path / "run" / "config.yaml"
    values = yaml.safe_load(config.read_text())
    values["model"] |= {"name": "resnet18", "args": {"checkpoint_path": "weights.pth"}}
    config.write_text(yaml.safe_dump(values))
    assert "which makes timm read or fetch a file" in run("train", "--resume", "--out", tmp_path / "run", "--quiet")[1]


def test_what_installed_packages_offer_is_trusted(folder, monkeypatch):
    args = {"patch_size": 4, "embed_dim": 24, "depth": 2, "num_heads": 3}
    dense = create("kdprobe.models.dense_deit:dense_deit", n_classes=3, image_size=16, args=args)
    save(dense, folder / "dense.safetensors")
    kdprobe.load(folder / "dense.safetensors")
    file = own_checkpoint(folder / "own.safetensors")
    entry = EntryPoint("net", "own_nets:net", "kdprobe.models")
    monkeypatch.setattr("kdprobe.user_code.entry_points", lambda group: [entry] if group == entry.group else [])
    assert kdprobe.load(file)[1].out_features == 10


def test_modules_in_texts_and_configurations():
    assert [module_of(text) for text in ("a.b:c", "a:b@w.pth", "a", "a:", "a/b:c", "C:\\x", "a:b:c")] == [
        *("a.b", "a"),
        *[None] * 5,
    ]
    assert list(modules_named("folder:faces", "timm:resnet18", "own:net", None)) == ["own"]
    config = {"model": {"name": "a:f"}, "data": {"spec": "b:f"}, "teacher": "c:f@w.pth", "method": {"name": "d:f"}}
    assert set(modules_in(config)) == {"a", "b", "c"}
    assert list(modules_in({"model": None, "teacher": "runs/teacher"})) == []


def test_trust_travels_to_the_workers_of_a_sweep(tmp_path):
    (cell,) = sweeps.ledger(tmp_path, rates=(0.5,)).cells
    order = Order(tmp_path, task="tests.tiny_cells:trusting_cell", trust=("own_data", "own_nets"))
    assert work(order, cell.id, cell.config).name == "done"
    assert "own_data own_nets" in (tmp_path / "journal" / cell.id).read_text()
    assert trusted_modules() == {"tests.tiny"}  # as conftest.py says


@pytest.mark.slow
def test_trust_travels_to_processes(folder):
    own_checkpoint(folder / "own.safetensors")
    size = ["--set", "data.image_size=8", "--set", "training.epochs=1", "--set", "training.batch_size=512"]
    grid = ["sweep", "digits/resnet8-kd", *size, "--teacher", folder / "own.safetensors", "--grid", "seed=1"]
    words = [*grid, "--slots", 1, "--retries", 0, "--quiet"]
    assert run(*words, "--out", "told", "--trust", "own_nets")[0] == 0
    assert "--trust own_nets" in run(*words, "--out", "untold")[1]


@pytest.mark.slow
def test_every_name_in_our_own_calls_says_where_it_comes_from():
    """Inside the packages, whoever makes a network or reads data of that name says which file named it."""
    typed = dict.fromkeys(("named.py", "rebuilding.py", "foreign.py", "checkpoint.py"), "create") | {
        "check.py": "read_data"
    }
    for path in [path for package in ("kdprobe", "analyses", "figures") for path in sources(package)]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                name, given = node.func.id, {keyword.arg for keyword in node.keywords}
                if name in ("create", "load_data", "read_data") and "named_by" not in given:
                    assert typed.get(path.name) == name, f"{path}:{node.lineno} calls {name} without named_by"
