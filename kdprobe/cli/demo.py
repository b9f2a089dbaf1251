"""The whole job on the embedded digits, as the sequence of commands that a user would type.

The teacher sees all training images, a student only five of each class. The recipes say how these settings were chosen:
by accuracy on a held-out part of the training images.
"""

import shlex
import time
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kdprobe.errors import RunError
from kdprobe.files import Lock
from kdprobe.terminal import echo
from kdprobe.terminal.progress import brief, phase, worded_time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

TEACHER, STUDENT = "digits/demo-teacher", "digits/demo-student"
METHODS = ("plain", "kd", "dropkd")
#: about what each command takes on one core without half precision, for the time left
SECONDS = {
    **{"train": 2.5, "dump": 2.0, "cka": 1.2, "decompose": 8.0, "evaluate": 3.0, "complexity": 1.0, "figures": 2.0},
    **{"runs": 3.0, "sweep-dropout": 25.0, "report": 1.0},
}
TEACHER_SECONDS = 30.0


@click.command()
@click.option(
    "--out", default=Path("demo"), show_default=True, type=click.Path(path_type=Path), help="Folder for everything."
)
@click.option("--seeds", default=5, show_default=True, type=click.IntRange(min=1), help="Students per method.")
@click.option("--device", default="auto", show_default=True, help="Where to compute.")
@click.option("--quiet", is_flag=True, help="Only the table and the report's place.")
def demo(out: Path, seeds: int, device: str, quiet: bool) -> None:
    """Train, distil, dump, analyse, draw and report on real handwritten digits.

    A small Vision Transformer, trained on all images, teaches ResNet8 students that see five images of each class: by
    plain training, vanilla KD and DropKD. The same command goes on with a demo that was interrupted.

    Example: kdprobe demo --out demo --seeds 5
    """
    import torch

    steps, threads = Steps(out, device=device, quiet=quiet), torch.get_num_threads()
    try:
        torch.set_num_threads(1)  # two processes share the work, and the networks are too small for more threads
        _whole_job(steps, seeds)
    finally:
        torch.set_num_threads(threads)
        steps.close()


def _trained(steps: "Steps", seeds: int) -> "tuple[Path, dict[str, list[Path]]]":
    """The teacher and, by method, its students: on a CPU, another process trains about half of them meanwhile."""
    teacher = steps.folder("teacher")
    jobs = {
        f"{method}-seed{seed}": [STUDENT, *_given(method, teacher), "--seed", seed]
        for method in METHODS
        for seed in range(seeds)
    }
    early, late = list(jobs)[:seeds], list(jobs)[seeds:]  # plain training needs no teacher
    with steps.helped() as give:
        for name in early:
            give(name, *jobs[name])
        steps.train("teacher", TEACHER)
        for name in late[1::2]:
            give(name, *jobs[name])
        for name in late[::2]:
            steps.train(name, *jobs[name])
    for name in [*early, *late[1::2]]:
        steps.train(name, *jobs[name])
    return teacher, {method: [steps.folder(f"{method}-seed{seed}") for seed in range(seeds)] for method in METHODS}


def _whole_job(steps: "Steps", seeds: int) -> None:
    """All commands, in their order."""
    steps.announce(seeds)
    teacher, students = _trained(steps, seeds)
    steps.dump(teacher, students["dropkd"][0])
    for runs in students.values():
        for run in runs:
            steps.cka(teacher, run)
    steps.decompose(teacher, [runs[0] for runs in students.values()])
    for seed in range(seeds):
        steps.evaluate([teacher, *(runs[seed] for runs in students.values())], seed)
    steps.complexity(teacher, students["dropkd"][0])
    comparison = steps.compare(teacher, students, seeds)
    steps.curves([teacher, *(run for runs in students.values() for run in runs)])
    steps.sweep(teacher)
    steps.report()
    echo(table(comparison))
    echo(f"report: {steps.out / 'report.html'}   ({steps.seconds:.0f} s)")


class Steps:
    """Runs the commands below one folder and says each before it runs; what they print goes to `demo.log`."""

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

    def announce(self, seeds: int) -> None:
        """Say what there is to do, and how long it takes."""
        per_method = ["train", "cka"] * len(METHODS)
        once = ["dump", "decompose", "complexity", "figures", "runs", "sweep-dropout", "report"]
        commands = ["train", *once, *[*per_method, "evaluate"] * seeds]
        self.n_steps = len(commands)
        self.expected = TEACHER_SECONDS - SECONDS["train"] + sum(SECONDS[command] for command in commands)
        if not self.quiet:
            echo(
                f"a teacher, {len(METHODS) * seeds} students and what there is to see in them: about "
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

    def run(self, command: str, *arguments: object) -> None:
        """Run one command in this process, on the demo's device."""
        from kdprobe.cli.group import run

        words = [command, *map(str, arguments)]
        if not self.quiet:
            left = f", {worded_time(self.left)} left" if self.n_steps else ""
            echo(f"[{self.seconds:.0f} s{left}] kdprobe {shlex.join(words)}")
        on_device = [] if command in ("figures", "report", "runs", "complexity") else ["--device", self.device]
        with (self.out / "demo.log").open("a", encoding="utf-8") as log, redirect_stdout(log):
            echo(f"$ kdprobe {shlex.join(words)}")
            self.n_done += 1
            with brief(), phase(f"step {self.n_done} of {self.n_steps}", quiet=self.quiet):
                run(*words, *on_device, *(["--quiet"] if self.quiet else []))
        self.spent += TEACHER_SECONDS if TEACHER in words else SECONDS[command]

    def folder(self, name: str) -> Path:
        """Of a run."""
        return self.out / "runs" / name

    def train(self, name: str, *given: object) -> None:
        """Train or finish one run, by a recipe and its options."""
        self.run("train", *self._training(name, *given))

    def _training(self, name: str, *given: object) -> list[object]:
        resumed = ["--resume"] if (self.folder(name) / "config.yaml").is_file() else []
        return [*given, "--out", self.folder(name), *resumed]

    @contextmanager
    def helped(self) -> "Iterator[Callable[..., None]]":
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
            yield lambda *job: helper.give(
                ["train", *map(str, self._training(*job)), "--device", self.device, "--quiet"]
            )
            with phase("waiting for the other process", quiet=self.quiet):
                helper.finish()
        finally:
            helper.stop()

    def dump(self, teacher: Path, student: Path) -> None:
        """Dump both networks' stage outputs."""
        path = self.out / "features.h5"
        for left in self.out.glob(f"{path.name}*"):  # also what a killed one had not finished: it takes seconds
            left.unlink()
        self.run("dump", "--teacher", teacher, "--student", student, "--out", path)

    def cka(self, teacher: Path, student: Path) -> None:
        """CKA of the teacher against one student."""
        self.run("cka", "--teacher", teacher, "--student", student, "--out", self.out / "cka" / student.name)

    def decompose(self, teacher: Path, students: "Sequence[Path]") -> None:
        """General and specific knowledge of the teacher and one student of each method."""
        given = [word for student in students for word in ("--student", student)]
        self.run("decompose", "--teacher", teacher, *given, "--images", 6, "--out", self.out / "knowledge")

    def complexity(self, *runs: Path) -> None:
        """Parameters, MACs and FLOPs."""
        self.run("complexity", *runs, "--out", self.out / "complexity")

    def evaluate(self, runs: "Sequence[Path]", seed: int) -> None:
        """Accuracy, UAR and confusion of the teacher and one student of each method."""
        checkpoints = [word for run in runs for word in ("--checkpoint", run)]
        self.run("evaluate", *checkpoints, "--out", self.out / "evaluation" / f"seed{seed}")

    def compare(self, teacher: Path, students: "dict[str, list[Path]]", seeds: int) -> Any:
        """Save and draw the comparison of methods over seeds."""
        from kdprobe.results import save_result

        result, rows = comparison(self.out, teacher, students, seeds)
        path = self.out / "comparison.npz"
        save_result(result, path, table=rows)
        self.run("figures", path)
        return result

    def curves(self, runs: "Sequence[Path]") -> None:
        """Save and draw the training curves."""
        self.run("runs", "curves", *runs, "--out", self.out / "training.npz")

    def sweep(self, teacher: Path) -> None:
        """Four students over two dropout rates of each network, of one seed."""
        grid = [STUDENT, "--rates", "0.3,0.7", "--seeds", 1]
        self.run("sweep-dropout", *grid, "--teacher", teacher, "--out", self.out / "sweep")

    def report(self) -> None:
        """Everything in one page."""
        self.run(
            "report", self.out, "--out", self.out / "report.html", "--title", "A Transformer teacher and its students"
        )


def _given(method: str, teacher: Path) -> list[object]:
    """A method, and the teacher where it has one."""
    return ["--method", method, *([] if method == "plain" else ["--teacher", teacher])]


def comparison(out: Path, teacher: Path, students: "dict[str, list[Path]]", seeds: int) -> Any:
    """Gather accuracy, UAR and last-stage CKA of each method and seed.

    Returns:
        a `Result` of kind "comparison" and its table as CSV text.
    """
    import numpy as np
    import pandas as pd

    from kdprobe.results import Result, load_result, provenance
    from kdprobe.runs.folder import RunFolder

    rows = []
    for seed in range(seeds):
        evaluation = load_result(out / "evaluation" / f"seed{seed}" / "evaluation.npz", kind="evaluation")
        for place, (method, runs) in enumerate(students.items(), start=1):
            cka = load_result(out / "cka" / runs[seed].name / "cka.npz", kind="cka")
            rows.append(
                {
                    "method": method,
                    "seed": seed,
                    "accuracy": float(evaluation.arrays["accuracy"][place, 0]),
                    "uar": float(evaluation.arrays["uar"][place, 0]),
                    "cka": float(cka.arrays["matrix"][-1, -1]),
                }
            )
    frame = pd.DataFrame(rows)
    arrays = {
        name: np.array([frame.loc[frame["method"] == method, name].to_numpy() for method in students])
        for name in ("accuracy", "uar", "cka")
    }
    summary = RunFolder(teacher).result()
    facts = {
        "methods": list(students),
        "seeds": list(range(seeds)),
        "teacher": summary["model"],
        "teacher_accuracy": summary["accuracy"],
        "data": summary["data"],
        "n_images": [evaluation.facts["n_images"]] * len(students),
        "cka_layers": [cka.facts["teacher_layers"][-1], cka.facts["student_layers"][-1]],
    }
    origin = provenance(runs=[str(run) for runs in students.values() for run in runs], teacher=str(teacher))
    return Result("comparison", arrays, facts, origin), frame.to_csv(index=False)


def table(result: Any) -> str:
    """The comparison as a text table: mean and 95 % interval over seeds."""
    from kdprobe.mean_interval import difference_interval, worded_interval

    header = f"{'method':<10}{'accuracy %':>16}{'UAR %':>16}{'last-stage CKA':>18}"
    lines, n_images = [header, "-" * len(header)], result.facts["n_images"]
    for place, method in enumerate(result.facts["methods"]):
        accuracy, uar, cka = (result.arrays[name][place].tolist() for name in ("accuracy", "uar", "cka"))
        shares = [worded_interval(share, scale=100, n_images=n_images[place]) for share in (accuracy, uar)]
        lines.append(f"{method:<10}{shares[0]:>16}{shares[1]:>16}{worded_interval(cka, digits=3):>18}")
    lines.append(f"{'teacher':<10}{100 * result.facts['teacher_accuracy']:>16.2f}")
    lines.append(
        f"mean ± 95 % interval over {len(result.facts['seeds'])} seeds; each student sees 5 images of each class"
    )
    methods, of = result.facts["methods"], result.arrays["accuracy"]
    for name, points in differences(result).items():
        pair = of[methods.index(name)], of[methods.index("plain")]
        _, half = difference_interval(*pair, n_images=n_images[0])
        lines.append(verdict(name, points, 100 * half))
    return "\n".join(lines)


def differences(result: Any) -> "dict[str, list[float]]":
    """What each other method's accuracy is above plain training's, in points, seed by seed: on the same images."""
    methods, accuracy = result.facts["methods"], 100 * result.arrays["accuracy"]
    return {
        name: (accuracy[methods.index(name)] - accuracy[methods.index("plain")]).tolist()
        for name in methods
        if name != "plain"
    }


def verdict(method: str, points: "Sequence[float]", half: float) -> str:
    """Whether a method helps, harms, or cannot be told from plain training, in one line.

    Args:
        method: its name.
        points: what its accuracy is above plain training's, by seed.
        half: half-width of their interval; NaN where there is none.
    """
    from kdprobe.mean_interval import all_equal, worded

    mean = sum(points) / len(points)
    told = "helps" if mean - half > 0 else "harms" if mean + half < 0 else "cannot be told from plain training"
    told = "one seed tells nothing for certain" if len(points) < 2 else told
    shown = worded(mean, half, equal=all_equal(points), unit=" points")
    return f"{method}: {'+' if mean >= 0 else ''}{shown} over plain training: {told}"
