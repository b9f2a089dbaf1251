"""The template of a package of one's own, installed and used from outside: every command sees what it adds."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import kdprobe

pytestmark = pytest.mark.slow

TEMPLATE = Path(__file__).parent / "template"
ROOT = str(Path(kdprobe.__file__).parents[1])

RECIPE = """
data: {spec: "dots:64"}
model: {name: mynet, args: {width: 4}}
method: {name: METHOD}
training: {epochs: 2, batch_size: 16, precision: fp32, optimizer: {name: adam, lr: 0.01}}
"""

PYTHON = """
from pathlib import Path
import numpy as np, torch
import kdprobe
from kdprobe.models import create
from kdprobe.provenance import provenance
from kdprobe.results import Result, save_result

student = kdprobe.load("student")
assert type(student).__module__ == "mykd.networks"
distillation = kdprobe.Distillation(create("mynet", n_classes=4, image_size=16), "teacher", "mykd", n_epochs=2)
print(sorted(distillation(torch.rand(4, 3, 16, 16), torch.arange(4), epoch=0).terms))
origin = provenance()
result = Result("hues", {"hue": np.array([[0.1, 0.5, 0.9]])}, {"names": ["dots"]}, origin)
save_result(result, Path("hues.npz"), table="")
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder for the runs; the package is installed in another."""
    folder = tmp_path_factory.mktemp("template")
    shutil.copytree(TEMPLATE, folder / "source")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    pip += ["--disable-pip-version-check", "--target", str(folder / "site"), str(folder / "source")]
    done = subprocess.run(pip, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    for name, method in (("teacher", "plain"), ("student", "mykd")):
        (folder / f"{name}.yaml").write_text(RECIPE.replace("METHOD", method), encoding="utf-8")
    return folder


def run(place, *words, module="kdprobe"):
    path = os.pathsep.join([str(place / "site"), ROOT])
    environment = {key: value for key, value in os.environ.items() if key != "KDPROBE_TRUST"}
    environment |= {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    start = ["-m", module] if module else ["-c"]
    done = subprocess.run(
        [sys.executable, *start, *words], cwd=place, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_command_sees_what_the_package_adds(place):
    for what, name in (("methods", "mykd"), ("models", "mynet"), ("data", "dots"), ("kinds", "hues")):
        (line,) = [line for line in run(place, "list", what).splitlines() if line.startswith(f"{name} ")]
        assert "from mykd 0.1, mykd." in line
    common = ["--device", "cpu", "--quiet"]
    run(place, "train", "teacher.yaml", "--out", "teacher", "--logger", "lines", *common)
    assert len((place / "teacher/lines.txt").read_text(encoding="utf-8").splitlines()) == 2
    run(place, "train", "student.yaml", "--teacher", "teacher", "--out", "student", *common)
    grid = ["--grid", "method.weight=0.1,1", "--teacher", "teacher", "--out", "sweep", *common]
    run(place, "sweep", "student.yaml", *grid)
    assert len(list((place / "sweep").rglob("result.json"))) == 2
    assert "mykd" in run(place, "runs", "compare", "student", "teacher")
    run(place, "runs", "verify", "student")
    assert run(place, PYTHON, module="") == "['ce', 'predicted']\n"
    run(place, "cka", "--teacher", "teacher", "--student", "student", "--data", "dots:64", "--out", "cka.npz", *common)
    run(place, "figures", "hues.npz", "--format", "svg")
    assert (place / "hues.svg").stat().st_size > 1000
    run(place, "report", "hues.npz", "--out", "report.html")
    assert "hues" in (place / "report.html").read_text(encoding="utf-8")
