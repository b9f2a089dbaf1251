"""Cells that do nothing, two at a time: kdprobe's sweeps against joblib and Optuna; and what a kill costs each.

Run by `make bench-sweep`; Optuna is left out where it is not installed. Each contender begins in a process of its own,
which is how a sweep begins, and both times are told: all of it, and from the first cell on. joblib keeps workers
(loky), which have imported nothing of kdprobe's; Optuna runs two threads of one process on a study in SQLite or in a
journal. Then cells of 0.2 seconds are killed with SIGKILL after half of them are done, the command is given again, and
counted is how often the work of a cell was done.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

SLOTS = 2


def work_of(journal: Path, seconds: float, number: int) -> float:
    """A cell: a line in a file, and a number."""
    with journal.open("ab", buffering=0) as file:
        file.write(f"{number} {time.time():.3f}\n".encode())
    time.sleep(seconds)
    return number / 100


def cell(config: Any, out: Path, _device: str) -> None:
    """The same as a cell of a sweep."""
    from kdprobe.runs.folder import RunFolder

    folder = out.parents[2]
    accuracy = work_of(folder / "journal", float(os.environ["CELL_SECONDS"]), config.seed)
    out.mkdir(parents=True, exist_ok=True)
    RunFolder(out).write_result({"model": "m", "data": "d", "seed": config.seed, "accuracy": accuracy, "seconds": 0.0})


def by_kdprobe(folder: Path, count: int, _seconds: float) -> None:
    """A ledger, and two slots that fork for each cell."""
    from kdprobe.sweeps.driver import Driver
    from kdprobe.sweeps.local import LocalEngine, Slot
    from kdprobe.sweeps.work import Order
    from tests import small_sweeps

    ledger = small_sweeps.ledger(folder / "sweep", (0.5,), count)
    engine = LocalEngine(Order(ledger.path, task="tests.benchmarks.bench_sweep:cell", device="cpu"), [Slot(1)] * SLOTS)
    counts = Driver(ledger, engine).run()
    engine.close()
    assert counts.found + counts.done == count, counts


def by_joblib(folder: Path, count: int, seconds: float) -> None:
    """Workers that are kept; nothing is remembered."""
    from joblib import Parallel, delayed

    one = partial(work_of, folder / "journal", seconds)
    assert len(Parallel(n_jobs=SLOTS)(delayed(one)(number) for number in range(count))) == count


def by_optuna(folder: Path, count: int, seconds: float, *, journal: bool = False) -> None:
    """A grid in a study on disk; what is done of it is asked before."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage: Any = f"sqlite:///{folder}/study.db"
    if journal:
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        storage = JournalStorage(JournalFileBackend(str(folder / "study.log")))
    sampler = optuna.samplers.GridSampler({"seed": list(range(count))}, seed=0)
    study = optuna.create_study(storage=storage, study_name="s", sampler=sampler, load_if_exists=True)

    def objective(trial: Any) -> float:
        return work_of(folder / "journal", seconds, trial.suggest_int("seed", 0, count - 1))

    done = sum(trial.state.is_finished() for trial in study.trials)
    study.optimize(objective, n_trials=count - done, n_jobs=SLOTS)


CONTENDERS: dict[str, Callable[[Path, int, float], None]] = {
    "kdprobe": by_kdprobe,
    "joblib": by_joblib,
    "optuna-sqlite": by_optuna,
    "optuna-journal": partial(by_optuna, journal=True),
}


def begin(name: str, folder: Path, count: int, seconds: float) -> "subprocess.Popen[bytes]":
    """A contender in a process of its own, which leads a group."""
    words = [sys.executable, "-m", "tests.benchmarks.bench_sweep", "--as", name, "--folder", str(folder)]
    words += ["--cells", str(count), "--seconds", str(seconds)]
    environment = {**os.environ, "CELL_SECONDS": str(seconds)}
    return subprocess.Popen(words, env=environment, start_new_session=True)


def cells_in(folder: Path) -> Iterator[tuple[int, float]]:
    """Number and time of each cell that was worked on."""
    with suppress(FileNotFoundError):
        for line in (folder / "journal").read_text().splitlines():
            number, when = line.split()
            yield int(number), float(when)


def speed(name: str, count: int) -> str:
    """How long cells that do nothing take."""
    with tempfile.TemporaryDirectory() as made:
        folder, start = Path(made), time.time()
        status = begin(name, folder, count, 0.0).wait()
        whole, times = time.time() - start, [when for _, when in cells_in(folder)]
        each = (max(times) - min(times)) / (len(times) - 1)
        return f"{whole:6.2f} s for {len(times)} cells, {each * 1e3:6.1f} ms between two (status {status})"


def killed(name: str, count: int) -> str:
    """What is done again when a sweep is killed in the middle and begun again."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        process = begin(name, folder, count, 0.2)
        while sum(1 for _ in cells_in(folder)) < count // 2 and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()
        before = sum(1 for _ in cells_in(folder))
        status = begin(name, folder, count, 0.2).wait()
        times = Counter(number for number, _ in cells_in(folder))
        again, missing = sum(value - 1 for value in times.values()), count - len(times)
        return f"killed after {before} of {count} cells: {again} done again, {missing} never (status {status})"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=100)
    parser.add_argument("--as", dest="name", choices=CONTENDERS)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--seconds", type=float, default=0.0)
    options = parser.parse_args()
    if options.name:
        CONTENDERS[options.name](options.folder, options.cells, options.seconds)
        return
    for name in CONTENDERS:
        if name.startswith("optuna") and not find_spec("optuna"):
            continue
        print(f"{name:15} {speed(name, options.cells)}", flush=True)
        print(f"{'':15} {killed(name, 20)}", flush=True)


if __name__ == "__main__":
    main()
