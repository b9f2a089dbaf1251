"""What shells offer for words that are half typed, and the script by which they ask."""

import shutil
import subprocess

import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

from kdprobe.cli import group
from kdprobe.cli.shells.completion import completion
from kdprobe.distillers import DISTILLERS


def offered(*words, begun):
    """What is offered after whole words."""
    asked = ShellComplete(group.cli, {}, "kdprobe", "_KDPROBE_COMPLETE")
    return [item.value for item in asked.get_completions(list(words), begun) if item.type == "plain"]


@pytest.mark.parametrize(
    ("words", "begun", "expected"),
    [
        ((), "tra", ["train"]),
        ((), "sweep", ["sweep", "sweep-dropout"]),
        (("train",), "digits/vit", ["digits/vit-teacher"]),
        (("sweep", "digits/resnet8"), "--se", ["--seeds", "--set"]),
        (("train", "digits/resnet8", "--method"), "drop", ["dropkd"]),
        (("compare", "digits/resnet8-kd", "--methods"), "plain,kd,dropk", ["plain,kd,dropkd"]),
        (("compare", "digits/resnet8-kd", "--engine"), "r", ["ray"]),
        (("train", "digits/resnet8", "--data"), "cifar", ["cifar10:", "cifar100:"]),
        (("train", "digits/resnet8", "--data"), "di", ["digits"]),
        (("cka", "--teacher"), "ti", ["timm:"]),
        (("list",), "me", ["methods"]),
        (("completion",), "", ["bash", "zsh", "fish"]),
    ],
)
def test_what_is_offered(words, begun, expected):
    assert sorted(offered(*words, begun=begun)) == sorted(expected)


def test_a_method_is_offered_once_in_a_list():
    found = offered("compare", "digits/resnet8-kd", "--methods", begun="kd,plain,")
    assert found == [f"kd,plain,{name}" for name in DISTILLERS if name not in ("kd", "plain")]


def test_files_are_left_to_the_shell():
    asked = ShellComplete(group.cli, {}, "kdprobe", "_KDPROBE_COMPLETE")
    for words in (["train"], ["cka", "--teacher"], ["evaluate", "--checkpoint"]):
        assert [item.type for item in asked.get_completions(words, "runs/")] == ["file"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_the_shells_own(shell):
    printed = CliRunner().invoke(completion, [shell], catch_exceptions=False).output
    assert f"_KDPROBE_COMPLETE={shell}_complete" in printed
    if program := shutil.which(shell):
        subprocess.run([program, "-n"], input=printed, text=True, check=True)
