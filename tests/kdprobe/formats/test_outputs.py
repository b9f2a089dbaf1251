"""Nothing is overwritten that kdprobe did not write as that very output."""

import json
import os
import shutil
import signal
import subprocess
import sys

import click
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from figures.paper.write import write_paper
from figures.pictures import draw_files
from figures.report import write_report
from figures.style import save_figure
from kdprobe.errors import FileError, OutputError
from kdprobe.formats.outputs import Output, permit, read_seal, sealed, write_sealed
from kdprobe.results import Result, load_result, permit_result, save_result
from tests.saved_results import cka_result as cka
from tests.saved_results import comparison_result as comparison

REFUSED = (
    r"{} already exists, and either kdprobe did not write it as an? .* "
    r"or it was changed since; .*--overwrite to lose it"
)


@pytest.mark.parametrize("name", ["r.html", "t.md", "t.tex", "f.svg", "f.pdf"])
def test_what_was_written_is_written_anew_until_somebody_changes_it(tmp_path, name):
    path = tmp_path / name
    for text in ("one\n", "two\n"):
        write_sealed(path, text, "report")
        assert path.read_text().startswith(text)
    with pytest.raises(OutputError, match=REFUSED.format(name)):
        write_sealed(path, "three\n", "table")  # of another kind
    path.write_text(path.read_text().replace("two", "2"))
    with pytest.raises(OutputError, match=REFUSED.format(name)):
        write_sealed(path, "three\n", "report")
    assert path.read_text().startswith("2\n")
    write_sealed(path, "three\n", "report", overwrite=True)
    assert path.read_text().startswith("three\n")


def test_a_png_stays_a_picture_and_says_what_it_is(tmp_path):
    path = tmp_path / "f.png"
    save_figure(Figure(figsize=(1, 1)), path, kind="figure of a cka result")
    with Image.open(path) as image:
        image.load()
        assert '"figure of a cka result"' in image.text["kdprobe"]
    assert read_seal(path)["kind"] == "figure of a cka result"
    Image.new("RGB", (3, 3)).save(path)
    assert read_seal(path) is None
    with pytest.raises(OutputError, match=REFUSED.format(r"f\.png")):
        save_figure(Figure(figsize=(1, 1)), path, kind="figure of a cka result")


def test_a_seal_cannot_end_the_comment_it_stands_in():
    assert b"-->" not in sealed(b"", "a --> b", ".html").removesuffix(b" -->\n")


def test_what_is_no_file_is_never_written_over(tmp_path):
    (tmp_path / "folder.html").mkdir()
    os.mkfifo(tmp_path / "pipe.html")
    (tmp_path / "dangling.html").symlink_to(tmp_path / "nothing")
    for name in ("folder.html", "pipe.html", "dangling.html"):
        with pytest.raises(OutputError, match=rf"{name} is in the way and is not a file; choose another --out"):
            permit([Output(tmp_path / name, "report")], overwrite=True)
    with pytest.raises(FileError, match="File name too long"):
        permit([Output(tmp_path / ("a" * 300), "report")])


def test_a_table_beside_a_result_is_as_safe_as_the_result(tmp_path):
    path, result = tmp_path / "r.npz", Result("own", {"x": np.arange(3)})
    (tmp_path / "r.csv").write_text("the user's own\n")
    with pytest.raises(OutputError, match=REFUSED.format(r"r\.csv")):
        save_result(result, path, table="x\n1\n")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["r.csv"]
    (tmp_path / "r.csv").unlink()
    for table in ("x\n1\n", "x\n2\n"):
        save_result(result, path, table=table, tables={"-more.csv": table})
    for name in ("r.csv", "r-more.csv"):
        kept = (tmp_path / name).read_text()
        (tmp_path / name).write_text("x,note\n2,mine\n")
        with pytest.raises(OutputError, match=REFUSED.format(name)):
            save_result(result, path, table="x\n3\n", tables={"-more.csv": "x\n3\n"})
        (tmp_path / name).write_text(kept)
    with pytest.raises(OutputError, match=REFUSED.format(r"r\.npz")):
        save_result(Result("other", {}), path, table="x\n2\n")
    assert load_result(path).kind == "own"


def test_pictures_in_the_way_are_found_before_a_long_computation(tmp_path):
    (tmp_path / "r.png").write_text("the user's own")
    permit_result(tmp_path / "r.npz", "cka")
    with pytest.raises(OutputError, match=REFUSED.format(r"r\.png")):
        permit_result(tmp_path / "r.npz", "cka", pictures=tmp_path)
    permit_result(tmp_path / "r.npz", "cka", pictures=tmp_path, overwrite=True)


@pytest.mark.parametrize("rename", [1, 2])
def test_a_kill_between_a_result_and_its_table_needs_no_consent(tmp_path, rename):
    code = (
        "import os, signal, sys, numpy as np; from kdprobe.results import Result, save_result\n"
        "count = []\n"
        "def hook(event, arguments):\n"
        "    if event == 'os.rename' and 'armed' in count:\n"
        "        count.append(1)\n"
        "        if count.count(1) == int(sys.argv[2]): os.kill(os.getpid(), signal.SIGKILL)\n"
        "sys.addaudithook(hook)\n"
        "for number in range(2):\n"
        "    save_result(Result('own', {'x': np.arange(number)}), sys.argv[1], table=f'x\\n{number}\\n')\n"
        "    count.append('armed')\n"
    )
    path = tmp_path / "r.npz"
    done = subprocess.run([sys.executable, "-c", code, str(path), str(rename)], check=False)
    assert done.returncode == -signal.SIGKILL
    save_result(Result("own", {"x": np.arange(2)}), path, table="x\n2\n")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["r.csv", "r.npz"]
    assert (tmp_path / "r.csv").read_text() == "x\n2\n"


def test_report_and_figures_leave_others_files_alone(tmp_path):
    path = tmp_path / "cka.npz"
    save_result(cka(), path, table="a\n")
    before = path.read_bytes()
    with pytest.raises(OutputError, match=r"a report's name must end in \.html, but .*cka\.npz does not"):
        write_report([path], path, title="")
    for _ in range(2):
        write_report([path], str(tmp_path / "r.html"), title="")
        draw_files([str(path)], ["svg"], out=str(tmp_path / "out"))
    other = tmp_path / "other" / "cka.npz"
    save_result(comparison(), other, table="a\n")
    with pytest.raises(OutputError, match=REFUSED.format(r"cka\.svg")):
        draw_files([other], ["svg"], out=tmp_path / "out")
    assert path.read_bytes() == before


def test_the_papers_tables_and_figures_leave_others_files_alone(tmp_path):
    for _ in range(2):
        write_paper(tmp_path, ["svg"])
    for name in ("table2.tex", "table3.csv", "imagenet.md", "figure2.svg"):
        kept = tmp_path / f"kept-{name}"
        shutil.copy(tmp_path / name, kept)
        (tmp_path / name).write_bytes(b"mine\n" + kept.read_bytes())
        with pytest.raises(OutputError, match=REFUSED.format(name)):
            write_paper(tmp_path, ["svg"])
        shutil.move(kept, tmp_path / name)


def saved_by(path, number=0, of=None, **named):
    """Save a result as a command does that was given these parameters."""
    with click.Context(click.Command("evaluate")) as context:
        context.params = {"out": path.parent, "device": "cpu", "overwrite": False, **named}
        permit_result(path, "own", of=of)
        save_result(Result("own", {"x": np.array(number)}), path, table="x\n", of=of)


@pytest.mark.parametrize(
    "other",
    [
        {"checkpoints": ("runs/b",)},
        {"checkpoints": ("runs/a", "runs/b")},
        {"data": "folder:faces"},
        {"against": "runs/b"},
        {"checkpoints": ("resnet8@w.pt#model",)},
        {"checkpoints": ("timm:resnet18",)},
    ],
)
def test_results_of_other_networks_or_data_are_not_replaced(tmp_path, monkeypatch, other):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "a").mkdir(parents=True)
    (tmp_path / "r").mkdir()
    path, first = tmp_path / "r" / "evaluation.npz", {"checkpoints": ("runs/a",), "data": "digits"}
    saved_by(path, 1, **first)
    saved_by(path, 2, **first, batch_size=3)  # in another way
    told = rf"evaluation\.npz already exists, the own result of checkpoints {tmp_path}/runs/a, data digits; ch"
    with pytest.raises(OutputError, match=told):
        saved_by(path, 3, **{**first, **other})
    with pytest.raises(OutputError, match=told):
        save_result(Result("own", {}), path, table="x\n")  # from Python, which names no networks
    assert load_result(path).arrays["x"] == 2
    save_result(Result("own", {}), path, table="x\n", overwrite=True)
    save_result(Result("own", {}), path, table="x\n")
    with pytest.raises(OutputError, match=r"the own result of other networks or data; choose"):
        save_result(Result("own", {}, {}, {"teacher": "another"}), path, table="x\n")


def test_the_same_networks_may_be_named_from_elsewhere_and_move_with_their_results(tmp_path, monkeypatch):
    project = tmp_path / "project"
    (project / "runs" / "a").mkdir(parents=True)
    (project / "faces").mkdir()
    (project / "w.pt").write_bytes(b"")
    (tmp_path / "link").symlink_to(project / "runs")
    path = project / "r" / "evaluation.npz"
    monkeypatch.chdir(project)
    saved_by(path, checkpoints=("runs/a", "resnet8@w.pt#model"), data="folder:faces")
    monkeypatch.chdir(tmp_path)
    weights = "resnet8@project/w.pt#model"
    saved_by(path, checkpoints=(weights, f"{tmp_path}/link/a"), data="folder:project/faces")
    project.rename(tmp_path / "moved")
    monkeypatch.chdir(tmp_path / "moved")
    path = tmp_path / "moved" / "r" / "evaluation.npz"
    saved_by(path, checkpoints=("runs/a", "resnet8@w.pt#model"), data="folder:faces")
    (tmp_path / "moved" / "r").rename(tmp_path / "r")  # alone
    saved_by(tmp_path / "r" / "evaluation.npz", checkpoints=("runs/a", "resnet8@w.pt#model"), data="folder:faces")


def test_a_result_of_one_network_of_several_goes_by_that_one(tmp_path):
    path = tmp_path / "a" / "evaluation.npz"
    saved_by(path, students=("a", "b"), of={"students": ("a",)})
    saved_by(path, students=("a", "c"), of={"students": ("a",)})
    with pytest.raises(OutputError, match="the own result of students a; choose"):
        saved_by(path, students=("a", "c"), of={"students": ("c",)})


def test_a_result_of_an_older_kdprobe_is_replaced_by_the_very_same_command(tmp_path, monkeypatch):
    path = tmp_path / "evaluation.npz"
    command = "kdprobe evaluate --checkpoint runs/a"
    meta = {"format": "kdprobe-result", "version": 1, "kind": "own", "facts": {}, "beside": {}}
    with path.open("wb") as file:
        np.savez(file, meta=np.array(json.dumps({**meta, "provenance": {"command": command}})))
    monkeypatch.setattr("sys.argv", ["kdprobe", "evaluate", "--checkpoint", "runs/b"])
    with pytest.raises(OutputError, match=r"evaluation\.npz already exists, the own result of other networks"):
        saved_by(path, checkpoints=("runs/b",))
    monkeypatch.setattr("sys.argv", command.split())
    saved_by(path, checkpoints=("runs/a",))
