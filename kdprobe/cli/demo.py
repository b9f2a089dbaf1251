"""The whole job on the embedded digits, as the sequence of commands that a user would type.

The teacher sees all training images, a student only five of each class. The recipes say how these settings were chosen:
by accuracy on a held-out part of the training images.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kdprobe.cli.options import PATH, device_option, flags, out_option, quiet_option, seeds_option
from kdprobe.cli.steps import TEACHER, Steps, Words
from kdprobe.terminal import echo

if TYPE_CHECKING:
    from collections.abc import Iterable

STUDENT = "digits/demo-student"
METHODS = ("plain", "kd", "dropkd")


@click.command()
@out_option("Folder of everything.", of=PATH, default="demo")
@seeds_option("Number of students of each method, with the seeds 0 to N - 1.", default=5, show_default=True)
@device_option()
@quiet_option()
def demo(out: Path, seeds: int, device: str, quiet: bool) -> None:
    """Do the whole job on the digits, from training to report.

    A small Vision Transformer, trained on all images of handwritten digits, teaches ResNet8 students that see five
    images of each class: by plain training, vanilla KD and DropKD. The same command goes on with a demo that was
    interrupted.

    \b
    Example:
      kdprobe demo --out demo --seeds 5
    """
    import torch

    steps, threads = Steps(out, device=device, quiet=quiet), torch.get_num_threads()
    try:
        torch.set_num_threads(1)  # two processes share the work, and the networks are too small for more threads
        _whole_job(steps, seeds)
    finally:
        torch.set_num_threads(threads)
        steps.close()


def _whole_job(steps: Steps, seeds: int) -> None:
    """All commands, in their order."""
    runs = steps.out / "runs"
    teacher = runs / "teacher"
    students = {method: [runs / f"{method}-seed{seed}" for seed in range(seeds)] for method in METHODS}
    inside, beyond = looks(steps.out, teacher, students), conclusions(steps.out, teacher, students)
    steps.announce(len(METHODS) * seeds, [["dump"], *inside, *beyond])
    _train(steps, teacher, students)
    steps.dump(teacher, students["dropkd"][0])
    for words in inside:
        steps.run(*words)
    result = _save_comparison(steps.out, students)
    for words in beyond:
        steps.run(*words)
    echo(methods_table(result))
    echo(f"report: {steps.out / 'report.html'}   ({steps.seconds:.0f} s)")


def _train(steps: Steps, teacher: Path, students: "dict[str, list[Path]]") -> None:
    """Train the teacher and its students: on a CPU, another process trains about half of them meanwhile."""
    jobs = {
        run: [STUDENT, *_given(method, teacher), "--seed", seed]
        for method, runs in students.items()
        for seed, run in enumerate(runs)
    }
    n_seeds = len(students["plain"])
    early, late = list(jobs)[:n_seeds], list(jobs)[n_seeds:]  # plain training needs no teacher
    with steps.helped() as give:
        for run in early:
            give(run, *jobs[run])
        steps.train(teacher, TEACHER)
        for run in late[1::2]:
            give(run, *jobs[run])
        for run in late[::2]:
            steps.train(run, *jobs[run])
    for run in [*early, *late[1::2]]:
        steps.train(run, *jobs[run])


def looks(out: Path, teacher: Path, students: "dict[str, list[Path]]") -> list[Words]:
    """The commands that look at the trained networks."""
    dropkd, first = students["dropkd"][0], [runs[0] for runs in students.values()]
    return [
        *(
            [
                "cka",
                "--teacher",
                teacher,
                "--student",
                run,
                *flags(calibrate=run in first),
                "--out",
                out / "cka" / run.name,
            ]
            for runs in students.values()
            for run in runs
        ),
        ["decompose", "--teacher", teacher, *_each("--student", first), "--images", 6, "--out", out / "knowledge"],
        *(
            ["evaluate", *_each("--checkpoint", [teacher, *of_seed]), "--out", out / "evaluation" / f"seed{seed}"]
            for seed, of_seed in enumerate(zip(*students.values(), strict=True))
        ),
        [
            "fidelity",
            *("--teacher", teacher, *_each("--student", [*students["kd"], *students["dropkd"]])),
            *(*_each("--control", students["plain"]), "--out", out / "fidelity"),
        ],
        ["images", "--teacher", teacher, *_each("--student", first), "--out", out / "images"],
        ["complexity", teacher, dropkd, "--out", out / "complexity"],
    ]


def conclusions(out: Path, teacher: Path, students: "dict[str, list[Path]]") -> list[Words]:
    """The commands that compare and report, when the comparison of the methods is saved."""
    everything = [teacher, *(run for runs in students.values() for run in runs)]
    return [
        ["figures", out / "comparison.npz"],
        ["runs", "curves", *everything, "--out", out / "training.npz"],
        ["sweep-dropout", STUDENT, "--rates", "0.3,0.7", "--seeds", 1, "--teacher", teacher, "--out", out / "sweep"],
        ["report", out, "--out", out / "report.html", "--title", "A Transformer teacher and its students"],
    ]


def _given(method: str, teacher: Path) -> Words:
    """A method, and the teacher where it has one."""
    return ["--method", method, *([] if method == "plain" else ["--teacher", teacher])]


def _each(option: str, values: "Iterable[object]") -> Words:
    return [word for value in values for word in (option, value)]


def _save_comparison(out: Path, students: "dict[str, list[Path]]") -> Any:
    from kdprobe.results import load_result, save_result
    from kdprobe.runs.compare import gather, group, to_result

    runs = [run for of_method in students.values() for run in of_method]
    measured = [out / "evaluation" / f"seed{seed}" / "evaluation.npz" for seed in range(len(students["plain"]))]
    measured += [out / "cka" / run.name / "cka.npz" for run in runs]
    groups = sorted(group(gather(runs)), key=lambda one: METHODS.index(one.config["method"]["name"]))
    result, rows = to_result(groups, [load_result(path) for path in measured])
    save_result(result, out / "comparison.npz", table=rows)
    return result


def methods_table(result: Any) -> str:
    """The comparison as a text table: mean and 95 % interval over seeds."""
    from kdprobe.mean_interval import worded_interval

    header = f"{'method':<10}{'accuracy %':>16}{'UAR %':>16}{'last-stage CKA':>18}"
    lines, n_images = [header, "-" * len(header)], result.facts["n_images"]
    for place, method in enumerate(result.facts["methods"]):
        accuracy, uar, cka = (result.arrays[name][place].tolist() for name in ("accuracy", "uar", "cka"))
        shares = [worded_interval(share, scale=100, n_images=n_images[place]) for share in (accuracy, uar)]
        lines.append(f"{method:<10} {shares[0]:>15} {shares[1]:>15} {worded_interval(cka, digits=3):>17}")
    lines.append(f"{'teacher':<10}{100 * result.facts['teacher_accuracy']:>16.2f}")
    n_seeds = len(result.facts["seeds"])
    shown = f"mean ± 95 % interval over {n_seeds} seeds" if n_seeds > 1 else "one seed, so no intervals"
    lines.append(f"{shown}; each student sees 5 images of each class")
    lines.append("differences are paired by seed; p is Holm's, over all of them")
    lines += [verdict(entry) for entry in result.facts["differences"] if entry["quantity"] == "accuracy"]
    return "\n".join(lines)


def verdict(entry: "dict[str, Any]") -> str:
    """Whether a method helps, harms, or cannot be told from plain training, in one line.

    Args:
        entry: the method's accuracy beside that of plain training, from `kdprobe.runs.differences.differences`.
    """
    from kdprobe.runs.differences import told, worded_difference

    words = {"higher": "helps", "lower": "harms", "cannot be told": f"cannot be told from {entry['other']} training"}
    shown = worded_difference(entry, scale=100, unit=" points")
    return f"{entry['method']}: {shown} over {entry['other']} training: {words[told(entry)]}"
