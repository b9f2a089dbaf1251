"""Commands below one folder, one after another, with the time left; the steps of the demo."""

import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

from kdprobe.cli.group import run
from kdprobe.cli.options import flags
from kdprobe.errors import RunError
from kdprobe.files import Lock
from kdprobe.terminal import echo
from kdprobe.terminal.progress import brief, phase, worded_time

Words = list[object]

TEACHER = "digits/demo-teacher"
#: about what each command takes on one core without half precision, for the time left
SECONDS = {
    **{
        "train": 2.5,
        "dump": 2.0,
        "cka": 1.2,
        "decompose": 8.0,
        "evaluate": 3.0,
        "images": 3.0,
        "fidelity": 2.5,
        "complexity": 1.0,
        "figures": 2.0,
    },
    **{"runs": 3.0, "sweep-dropout": 25.0, "report": 1.0},
}
TEACHER_SECONDS = 30.0
WITHOUT_DEVICE = ("figures", "report", "runs", "complexity")


class Steps:
    """Runs commands below one folder and prints each before it runs; what they print goes to `demo.log`."""

    def __init__(self, out: Path, *, device: str, quiet: bool) -> None:
        if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / "demo.log").is_file())):
            raise RunError(f"{out} is not an empty folder and holds no demo; choose another --out")
        out.mkdir(parents=True, exist_ok=True)
        self.out, self.device, self.quiet = out, device, quiet
        self.start = time.perf_counter()
        self.n_steps = self.n_done = 0
        self.expected = self.spent = 0.0
        try:
            self._lock = Lock(out / "demo.lock")
        except BlockingIOError as error:
            raise RunError(f"another demo runs in {out}; wait for it or choose another --out") from error
        (out / "demo.log").touch()  # from now on the folder is a demo's, wherever it is killed

    def close(self) -> None:
        """Let others have the folder."""
        self._lock.release()

    def announce(self, n_students: int, commands: Sequence[Words]) -> None:
        """Print what there is to do, the trainings and these commands, and how long it takes."""
        self.n_steps = 1 + n_students + len(commands)
        self.expected = TEACHER_SECONDS + n_students * SECONDS["train"] + sum(SECONDS[str(one[0])] for one in commands)
        if not self.quiet:
            echo(
                f"a teacher, {n_students} students and what there is to see in them: about "
                f"{worded_time(self.expected)} on two cores"
            )

    @property
    def left(self) -> float:
        """Seconds to go, at the present pace."""
        pace = self.seconds / self.spent if self.spent else 1.0
        return max(self.expected - self.spent, 0.0) * pace

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.perf_counter() - self.start

    def run(self, command: object, *arguments: object) -> None:
        """Run one command in this process, on the demo's device."""
        words = [str(command), *map(str, arguments)]
        if not self.quiet:
            left = f", {worded_time(self.left)} left" if self.n_steps else ""
            echo(f"[{self.seconds:.0f} s{left}] kdprobe {shlex.join(words)}")
        on_device = [] if command in WITHOUT_DEVICE else ["--device", self.device]
        with (self.out / "demo.log").open("a", encoding="utf-8") as log, redirect_stdout(log):
            echo(f"$ kdprobe {shlex.join(words)}")
            self.n_done += 1
            with brief(), phase(f"step {self.n_done} of {self.n_steps}", quiet=self.quiet):
                run(*words, *on_device, *flags(quiet=self.quiet))
        self.spent += TEACHER_SECONDS if TEACHER in words else SECONDS[words[0]]

    def train(self, folder: Path, *given: object) -> None:
        """Train or finish one run, by a recipe and its options."""
        self.run("train", *_training(folder, *given))

    def dump(self, teacher: Path, student: Path) -> None:
        """Dump both networks' features anew; what a killed dump left is removed, because a dump takes seconds."""
        for left in self.out.glob("features.h5*"):
            left.unlink()
        self.run("dump", "--teacher", teacher, "--student", student, "--out", self.out / "features.h5")

    @contextmanager
    def helped(self) -> Iterator[Callable[..., None]]:
        """Give trainings to another process, where there is a processor for it, and wait for them in the end.

        What it does not finish, for whatever reason, is still to be done.
        """
        from kdprobe.cli.second_hand import SecondHand
        from kdprobe.devices import pick_device, usable_processors

        if pick_device(self.device).type != "cpu" or usable_processors() == 1:
            yield lambda *_: None
            return
        helper = SecondHand(self.out / "demo.log")
        try:
            yield lambda *job: helper.give(["train", *map(str, _training(*job)), "--device", self.device, "--quiet"])
            with phase("waiting for the other process", quiet=self.quiet):
                helper.finish()
        finally:
            helper.stop()


def _training(folder: Path, *given: object) -> Words:
    return [*given, "--out", folder, *flags(resume=(folder / "config.yaml").is_file())]
