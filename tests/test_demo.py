import re

import pytest

from kdprobe import cli
from kdprobe.results import load_result


@pytest.mark.slow
def test_the_demo_does_the_whole_job_and_goes_on_where_it_stopped(tmp_path, capsys):
    out = tmp_path / "demo"
    cli.run("demo", "--out", out, "--seeds", 1, "--device", "cpu")
    text = capsys.readouterr().out
    assert "report: " in text
    assert re.search(r"^dropkd +9\d\.\d\d +9\d\.\d\d +0\.\d\d\d$", text, re.M), text
    assert "$ kdprobe cka --teacher" in (out / "demo.log").read_text()
    comparison = load_result(out / "comparison.npz", kind="comparison")
    assert comparison.facts["teacher_accuracy"] >= 0.95
    assert (comparison.arrays["accuracy"] >= 0.93).all()
    curves = load_result(out / "training.npz", kind="training")
    assert curves.facts["names"] == ["teacher", "plain-seed0", "kd-seed0", "dropkd-seed0"]
    assert (out / "training.pdf").is_file()
    assert load_result(out / "sweep" / "dropout-feature.npz").arrays["accuracy"].shape == (2, 2, 1)
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "dropkd" in page
    assert (out / "features.h5").is_file()

    before = {path: path.read_bytes() for path in (out / "runs").rglob("last.safetensors")}
    cli.run("demo", "--out", out, "--seeds", 1, "--device", "cpu", "--quiet")
    assert before == {path: path.read_bytes() for path in (out / "runs").rglob("last.safetensors")}


def test_a_folder_with_other_things_is_left_alone(tmp_path, capsys):
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(SystemExit) as caught:
        cli.main(["demo", "--out", str(tmp_path)])
    assert caught.value.code == 2
    assert "is not an empty folder and holds no demo; choose another --out" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]
