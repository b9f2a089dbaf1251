import re
from importlib.metadata import Distribution, EntryPoint
from pathlib import Path

import click
import pytest

import kdprobe
from kdprobe.cli import group, main
from kdprobe.errors import ConfigError, KdprobeError, meant, near_matches


def status_of(capsys, *arguments):
    """Exit status and standard error of a command line, without the signs of life that a slow machine gives."""
    status = kdprobe.main(arguments)
    return status, re.sub(r"^.* so far\n", "", capsys.readouterr().err, flags=re.MULTILINE)


BAD = {
    "command": (["trian"], "no command 'trian'; did you mean 'train'?"),
    "option": (["train", "--sed", "1"], "No such option"),
    "recipe": (["train", "digits/resnet9"], "no recipe 'digits/resnet9'; did you mean 'digits/resnet8'"),
    "no recipe": (["train"], "give a recipe, or --resume with --out RUN; known: cifar"),
    "data": (["train", "digits/resnet8", "--data", "digts"], "no data set 'digts'; did you mean 'digits'?"),
    "model": (["train", "digits/resnet8", "--set", "model.name=resnet9"], "no model 'resnet9'; did you mean 'resnet"),
    "argument": (
        ["train", "digits/vit-teacher", "--set", "model.args.depht=3"],
        "no argument 'depht'; did you mean 'depth'?",
    ),
    "method": (["train", "digits/resnet8", "--method", "dropdk"], "no method 'dropdk'; did you mean 'dropkd'"),
    "rate": (
        ["train", "digits/resnet8-dropkd", "--set", "method.logit_rate_teacher=1.0"],
        "method.logit_rate_teacher: input should be less than 1, but is 1.0",
    ),
    "no teacher": (["train", "digits/resnet8-kd"], "method 'kd' needs a teacher"),
    "teacher for nothing": (["train", "digits/resnet8", "--teacher", "x"], "method 'plain' has no use for a teacher"),
    "missing teacher": (["train", "digits/resnet8-kd", "--teacher", "nowhere"], "there is no checkpoint nowhere"),
    "device": (["train", "digits/resnet8", "--device", "cuda:7"], "there is no device 'cuda:7'"),
    "folder as it is written": (["train", "digits/resnet8", "--data", "folder:my set #1"], "no folder my set #1"),
    "missing folder": (["train", "digits/resnet8", "--data", "folder:nowhere"], "nowhere"),
    "runs": (["runs", "ls", "nowhere"], "there is no folder nowhere"),
    "one network twice": (
        ["dump", "--checkpoint", "a", "--student", "b", "--out", "c.h5"],
        "--checkpoint and --student mean the same network; give one of them",
    ),
    "reduction": (
        ["dump", "--checkpoint", "a", "--out", "c.h5", "--reduce", "spatial:0"],
        "'spatial:0' is not one of 'whole', 'flatten', 'gap', 'tokens', 'cls', 'spatial:N'",
    ),
    "no network": (["dump", "--out", "c.h5"], "give at least one network with --teacher, --student or --checkpoint"),
    "other engine": (
        ["sweep", "digits/resnet8", "--grid", "seed=0,1", "--gpus", "1"],
        "--gpus is for --engine ray, not for local",
    ),
    "seeds twice": (
        ["sweep", "digits/resnet8", "--grid", "seed=0,1", "--seeds", "2"],
        "--seeds and --grid seed=... both choose seeds; give one of them",
    ),
    "another method": (
        ["sweep-dropout", "digits/resnet8"],
        "sweep-dropout varies the rates of method 'dropkd', but digits/resnet8 has method 'plain'",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_status_2(case, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments, message = BAD[case]
    status, text = status_of(capsys, *arguments)
    assert status == 2
    assert message in text
    assert text.count("\n") == 1, text
    assert not list(tmp_path.iterdir()), "nothing may be written"


@pytest.mark.parametrize("place", ["/proc/nowhere", "file/below"])
def test_a_place_that_cannot_be_written_is_one_line(place, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    status, text = status_of(capsys, "complexity", "resnet8", "--out", place)
    assert status == 2
    assert place.split("/")[-2] in text
    assert text.count("\n") == 1, text


def test_the_exit_status_is_returned_or_ends_the_process(capsys):
    assert kdprobe.main(["runs", "ls", Path(__file__).parent]) == 0
    assert main(["--version"]) is None
    with pytest.raises(SystemExit) as stop:
        main(["trian"])
    assert stop.value.code == 2
    assert capsys.readouterr().out == f"no runs below {Path(__file__).parent}\nkdprobe, version {kdprobe.__version__}\n"


def test_run_lets_errors_through():
    with pytest.raises(KdprobeError, match="no command 'trian' is installed; did you mean 'train'"):
        group.run("trian")
    with pytest.raises(ConfigError, match="No such option"):
        group.run("train", "--sed", 1)


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        (
            "nowhere_at_all:thing",
            "command 'broken' cannot be imported from nowhere_at_all:thing: No module named 'nowhere_at_all'",
        ),
        ("math:nothing", "command 'broken' cannot be imported from math:nothing: module 'math' has no attribute"),
        ("math:pi", "command 'broken' cannot be run: math:pi is not a click command, but a float"),
    ],
)
def test_a_command_that_cannot_be_imported_breaks_only_itself(target, reason, monkeypatch, capsys):
    broken = EntryPoint("broken", target, group.GROUP)
    monkeypatch.setattr(group, "_entry_points", lambda: {"broken": broken})
    assert kdprobe.main(["--help"]) == 0
    assert f"(cannot be imported from {target})" in capsys.readouterr().out
    for words in (["broken"], ["broken", "--help"], ["broken", "--out", "x"]):
        status, text = status_of(capsys, *words)
        assert (status, reason in text, text.count("\n")) == (2, True, 1)


def test_a_package_cannot_take_a_command_of_kdprobes_own(tmp_path, monkeypatch, capsys):
    for number in (1, 2):
        about = tmp_path / f"taker{number}-1.0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: taker{number}\nVersion: 1.0\n")
        (about / "entry_points.txt").write_text(
            f"[kdprobe.commands]\ntrain = taker{number}:take\nnew = math:pi{number}\n"
        )
    monkeypatch.syspath_prepend(tmp_path)
    assert group._entry_points()["train"].module == "kdprobe.cli.train"
    assert kdprobe.main(["train", "--help"]) == 0
    assert "--teacher" in capsys.readouterr().out
    status, text = status_of(capsys, "new")
    assert (status, text.count("\n")) == (2, 1)
    assert re.search(r"command 'new' is registered as math:pi\d and as math:pi\d; uninstall one of the packages", text)


def test_no_arguments_show_the_help(capsys):
    assert kdprobe.main([]) == 2
    shown = capsys.readouterr()
    assert (shown.err, shown.out.startswith("Usage: kdprobe")) == ("", True)


def test_no_summary_in_the_list_of_commands_is_cut_short(capsys):
    groups = [
        name for name in group.OWN if isinstance(group.cli.get_command(click.Context(group.cli), name), click.Group)
    ]
    assert {"list", "runs"} <= set(groups)
    for words in ([], *([name] for name in groups)):
        assert kdprobe.main([*words, "--help"]) == 0
        listed = capsys.readouterr().out.partition("Commands:")[2]
        assert listed
        assert "..." not in listed


def test_stopping_is_one_line(monkeypatch, capsys):
    def stop(*_arguments, **_options):
        raise click.Abort

    monkeypatch.setattr(group.cli, "main", stop)
    assert status_of(capsys, "train") == (130, "kdprobe: stopped\n")


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (MemoryError(), 2, "kdprobe: there is not enough memory for this; choose smaller images"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you"), 2, "kdprobe: there is not enough memory"),
        (OSError(28, "No space left on device", "a.npz"), 2, "kdprobe: a.npz: No space left on device\n"),
        (OSError("what else"), 2, "kdprobe: what else\n"),
        (BrokenPipeError(), 1, ""),
    ],
)
def test_what_the_system_refuses_is_one_line(error, status, said, monkeypatch, capsys):
    def fail(*_arguments, **_options):
        raise error

    monkeypatch.setattr(group.cli, "main", fail)
    found, text = status_of(capsys, "train")
    assert (found, text.startswith(said), text.count("\n")) == (status, True, int(bool(said)))


@pytest.mark.parametrize("error", [RuntimeError("of ours"), AttributeError("of ours"), ImportError("of ours")])
def test_a_defect_keeps_its_traceback(error, monkeypatch):
    def fail(*_arguments, **_options):
        raise error

    monkeypatch.setattr(group.cli, "main", fail)
    with pytest.raises(type(error), match="of ours"):
        kdprobe.main(["train"])


def test_near_matches_list_what_is_known_where_nothing_is_near():
    assert near_matches("zzz", ["b", "a"]) == "; known: a, b"
    assert near_matches("zzz", []) == ""
    assert (meant("zzz", ["b", "a"]), meant("capturee", ["capture", "load"])) == ("", "; did you mean 'capture'?")
    assert near_matches("zzz", [f"n{i:02}" for i in range(20)]).endswith("n11, ...")


def test_huge_names_are_neither_compared_nor_shown_whole():
    long = ["w" * 3000 + str(number) for number in range(2000)]
    assert len(near_matches("w" * 3000, [*long, "known"])) < 3000
    assert near_matches("knwn", [*long, "known"]) == "; did you mean 'known'?"


@pytest.mark.parametrize("said", ["train = kdprobe.cli.train:train\nlearn = kdprobe.cli.learn:learn\n", ""])
def test_own_commands_do_not_depend_on_metadata_of_an_older_installation(said, tmp_path, monkeypatch, capsys):
    about = tmp_path / "kdprobe-0.1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: kdprobe\nVersion: 0.1.0\n")
    (about / "entry_points.txt").write_text(f"[kdprobe.commands]\n{said}")
    monkeypatch.setattr(group, "entry_points", Distribution.at(about).entry_points.select)
    assert kdprobe.main(["--help"]) == 0
    listed = capsys.readouterr().out
    assert all(re.search(rf"^  {name} ", listed, re.MULTILINE) for name in ("fidelity", "map", "compare", "figures"))
    assert "cannot be imported" not in listed
    assert "learn" not in re.findall(r"^  (\S+)", listed, re.MULTILINE)
    assert "no command 'fidelty'; did you mean 'fidelity'?" in status_of(capsys, "fidelty")[1]


def test_help_looks_through_the_installed_packages_once(monkeypatch, capsys):
    """There may be hundreds, and help asks for every command."""
    looks = []
    monkeypatch.setattr(group, "entry_points", lambda group: looks.append(group) or ())
    with pytest.raises(SystemExit):
        group.cli(["--help"])
    assert "sweep-dropout" in capsys.readouterr().out
    assert looks == [group.GROUP]
