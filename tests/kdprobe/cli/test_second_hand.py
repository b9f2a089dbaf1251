"""A second process that runs commands."""

import signal
import subprocess
import sys

import pytest

from kdprobe.cli.second_hand import SecondHand
from tests.small_sweeps import until


@pytest.mark.slow
def test_commands_are_run_in_order_whatever_becomes_of_them(tmp_path):
    helper = SecondHand(tmp_path / "log")
    helper.give(["runs", "show", str(tmp_path / "nowhere")])
    helper.give(["data", "check", "digits"])
    helper.finish()
    text = (tmp_path / "log").read_text()
    assert text.index("nowhere") < text.index("digits: 1438 training and 359 test images")
    helper.give(["data", "check", "digits"])  # nobody is there: nothing happens
    helper.stop()


def test_it_is_stopped_at_once(tmp_path):
    helper = SecondHand(tmp_path / "log")
    helper.stop()
    assert helper._process.returncode is not None


def test_it_dies_with_the_one_that_it_helps(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from kdprobe.cli.second_hand import SecondHand; "
        "helper = SecondHand(Path(sys.argv[1])); print(helper._process.pid, flush=True); time.sleep(300)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "log")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        pid = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
    until(lambda: not alive(pid))


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
