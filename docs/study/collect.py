"""Gather what the study's page needs from the trained networks and their measures, small enough to be kept beside it.

    python docs/study/collect.py OUT

OUT is what `docs/study/run.py` wrote. Kept are, in `docs/study/results`, for each comparison its result and the results
about answers and about all pairs of networks, and the records of its trials, from which `docs/study/run.py` goes on
without training them again; the sweep of rates; and `networks.csv`, which has a line for each number
that was measured of one network: its accuracy, and at each pair of stages the shares of general knowledge, CKA as it is
and set beside chance, and CKNNA. Of comparisons that are not in OUT, what was kept stays.
"""

import csv
import io
import json
import sys
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kdprobe.results import Result, load_result, save_result
from kdprobe.sweeps.ledger import open_ledger

RESULTS = Path(__file__).parent / "results"
COMPARISONS = (
    "dinov2-resnet8", "cifar-resnet8", "dinov2-mobilenetv2", "headless-resnet8", "ferplus-resnet18",
    "ferplus-mobilenetv2", "ferplus-published", "dinov2-readings",
)  # fmt: skip
#: the records of all trials of a comparison
TRIALS = "trials.tar.xz"
_NOT_KEPT = (".pt", ".safetensors", ".log", ".lock", ".csv")
#: results of all networks of a comparison: where they are, and what they are kept as
_OF_ALL = {
    "fidelity/fidelity.npz": "fidelity.npz",
    "map/map.npz": "map.npz",
    "evaluation/evaluation.npz": "evaluation.npz",
    "compound/compound.npz": "compound.npz",
}


class Number(NamedTuple):
    """A line of `networks.csv`: a number of one network, with its interval where it has one.

    Attributes:
        comparison: in which it was trained.
        method: as what.
        seed: with which.
        network: the name of its run's folder.
        quantity: what was measured.
        stages: teacher's and student's layer; empty for the whole network.
        value: the number.
        low: lower end of its 95 % interval.
        high: upper end.
        note: what limits it.
    """

    comparison: str
    method: str
    seed: int
    network: str
    quantity: str
    stages: str
    value: float
    low: float = float("nan")
    high: float = float("nan")
    note: str = ""


def networks(out: Path, name: str) -> Iterator[tuple[str, int, Path]]:
    """Method, seed and run folder of each final network of a comparison."""
    facts = load_result(out / name / "comparison.npz", kind="tuned-comparison").facts
    ledger = open_ledger(out / name / "finals")
    rows = [(method, seed) for method in facts["methods"] for seed in facts["seeds"]]
    for (method, seed), cell in zip(rows, ledger.cells, strict=False):
        yield method, seed, ledger.run(cell.id).path


def numbers(out: Path, name: str) -> Iterator[Number]:
    """All numbers of the networks of a comparison."""
    comparison = load_result(out / name / "comparison.npz", kind="tuned-comparison")
    accuracies = iter(comparison.arrays["accuracy"].ravel().tolist())
    measures = out / "measures" / name
    for (method, seed, run), accuracy in zip(networks(out, name), accuracies, strict=True):
        about = (name, method, seed, run.name)
        yield Number(*about, "accuracy", "", accuracy)
        split = measures / "decomposition" / run.name / "knowledge.npz"
        if split.exists():
            yield from _shares(about, load_result(split, kind="knowledge"))
            pairs = list(_pairs(load_result(split)))
            cka = load_result(measures / "cka" / run.name / "cka.npz", kind="cka")
            yield from _similarities(about, "CKA", cka, "matrix", pairs)
            yield from _similarities(about, "calibrated CKA", cka, "calibrated", pairs)
            cknna = load_result(measures / "cknna" / run.name / "cknna.npz", kind="similarity")
            yield from _similarities(about, "CKNNA", cknna, "matrix", pairs)


def _pairs(split: Result) -> Iterator[tuple[str, str]]:
    return zip(split.facts["teacher_layers"], split.facts["student_layers"], strict=True)


def _shares(about: tuple[str, str, int, str], split: Result) -> Iterator[Number]:
    for place, (teacher, student) in enumerate(_pairs(split)):
        for who in ("teacher", "student"):
            value, low, high = split.arrays[f"{who}_general"][place].tolist()
            limits = [key for key in ("lower_bound", "sample_limited") if split.facts[f"{who}_{key}"][place]]
            stages = f"{teacher} {student}"
            yield Number(*about, f"general share of the {who}", stages, value, low, high, " ".join(limits))


def _similarities(
    about: tuple[str, str, int, str], quantity: str, result: Result, key: str, pairs: list[tuple[str, str]]
) -> Iterator[Number]:
    rows, columns = result.facts["teacher_layers"], result.facts["student_layers"]
    for teacher, student in pairs:
        place = rows.index(teacher), columns.index(student)
        ends = [float(result.arrays[end][place]) for end in ("low", "high")] if key == "matrix" else []
        yield Number(*about, quantity, f"{teacher} {student}", float(result.arrays[key][place]), *ends)


def keep_numbers(out: Path, there: Sequence[str], file: Path) -> None:
    """Write the numbers of the comparisons that are there; the others' lines are left as they were."""
    lines: dict[str, list[list[object]]] = {name: [] for name in COMPARISONS}
    if file.exists():
        with file.open(encoding="utf-8", newline="") as kept:
            for row in csv.DictReader(kept):
                lines[row["comparison"]].append(list(row.values()))
    lines |= {name: [_written(number) for number in numbers(out, name)] for name in there}
    with file.open("w", encoding="utf-8", newline="") as written:
        writer = csv.writer(written, lineterminator="\n")
        writer.writerow(Number._fields)
        writer.writerows(line for of_one in lines.values() for line in of_one)


def keep(out: Path, source: Path, target: Path) -> None:
    """Copy a result, whose origin then names no folder of one machine."""
    result = load_result(source)
    origin = json.loads(json.dumps(result.provenance).replace(f"{out}/", "").replace(str(out), out.name))
    target.unlink(missing_ok=True)
    save_result(replace(result, provenance=origin), target, table="")
    target.with_suffix(".csv").unlink()


def keep_trials(out: Path, name: str) -> None:
    """Pack what a comparison's trials have written down, without networks and states, nor folders of one machine.

    Their results name no networks, as these are not there to be compared with their hashes.
    """
    file = RESULTS / name / TRIALS
    file.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(file, "w:xz") as archive:
        for path in sorted((out / name / "trials").rglob("*")):
            if path.is_file() and path.suffix not in _NOT_KEPT:
                content = path.read_bytes().replace(f"{out}/".encode(), b"")
                content = content.replace(str(out).encode(), out.name.encode())
                if path.name == "result.json":
                    content = json.dumps({**json.loads(content), "sha256": {}}, indent=1).encode()
                member = tarfile.TarInfo(str(path.relative_to(out)))
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))


def main() -> None:
    """Gather from the folder that the command line names."""
    out = Path(sys.argv[1]).resolve()
    there = [name for name in COMPARISONS if (out / name / "comparison.npz").exists()]
    RESULTS.mkdir(exist_ok=True)
    keep_numbers(out, there, RESULTS / "networks.csv")
    for name in COMPARISONS:
        if (out / name / "trials").exists():
            keep_trials(out, name)
    for name in there:
        folder = RESULTS / name
        keep(out, out / name / "comparison.npz", folder / "comparison.npz")
        for source, target in _OF_ALL.items():
            if (path := out / "measures" / name / source).exists():
                keep(out, path, folder / target)
    for path in (out / "measures" / "rates").glob("*.npz"):
        keep(out, path, RESULTS / f"rates-{path.name}")


def _written(number: Number) -> list[object]:
    return ["" if isinstance(value, float) and np.isnan(value) else value for value in number]


if __name__ == "__main__":
    main()
