"""Your own runs that repeat a published number: the same networks, method and kind of data, on its test images.

A network counts as a published one if it is created under its name; the publication does not say which variants of
MobileViTV2 and ViT-L/14 it means, so all of them count. Whether a method's options are the published ones is left to
the reader: runs of different configurations have lines of their own.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from typing import Any, NamedTuple

import numpy as np

from figures.pictures.comparison import image_counts
from figures.pictures.compound import READING_LABELS
from kdprobe.errors import ResultError
from kdprobe.mean_interval import seeds_interval
from kdprobe.results import Result, by_checkpoint

NETWORK_NAMES = {
    "ResNet20": "resnet20",
    "ResNet32": "resnet32",
    "ResNet56": "resnet56",
    "ResNet110": "resnet110",
    "ResNet18": "resnet18",
    "ResNet34": "resnet34",
    "ResNet50": "resnet50",
    "MobileNetV2": "mobilenetv2_100",
    "MobileViTV2": "mobilevitv2_*",
    "ViT-L/14": "vit_large_patch14_*",
    "ViT-B/16": "vit_base_patch16_*",
    "RegNetY-16GF": "regnety_160",
    "DeiT-Ti": "*:dense_deit",
    "distilled DeiT-Ti": "deit_tiny_distilled_patch16_*",
    "MobileNetV1": "mobilenetv1_100",
    "DeiT III-S": "deit3_small_patch16_*",
    "DeiT III-L": "deit3_large_patch16_*",
    "DeiT-Tiny": "deit_tiny_patch16_*",
    "DeiT-Base": "deit_base_patch16_*",
}
# data of the tables that are not about RAF-DB, by what their names begin with
DATA = {"table1": "cifar100", "cifar100": "cifar100", "imagenet": "imagenet"}
# methods that have another name in the tables
METHOD_NAMES = {"Logit standardisation": "logit_standard", "SDD-DKD": "sdd", "CAT-KD": "cat_kd", "WKD-L": "wkd"}
UNLIKE = {("RegNetY-16GF to DeiT-Ti", "Student")}  # trained in a way that no method here can repeat
# students of numbers whose rows name another one
STUDENTS = {("RegNetY-16GF to DeiT-Ti", "DeiT"): "distilled DeiT-Ti"}
# method, student and teacher of the rows whose names do not say them
ROWS = {
    "ResNet50": ("plain", "ResNet50", None),
    "SCN": ("scn", "ResNet18", None),
    "EAC (ResNet18)": ("eac", "ResNet18", None),
    "ResNet18": ("plain", "ResNet18", None),
    "ResNet18 + DropKD": ("dropkd", "ResNet18", "ViT-L/14"),
    "MobileNetV2": ("plain", "MobileNetV2", None),
    "MobileNetV2 + DropKD": ("dropkd", "MobileNetV2", "ViT-L/14"),
    "KD": ("kd", "MobileNetV2", "ViT-L/14"),
    "DropKD": ("dropkd", "MobileNetV2", "ViT-L/14"),
}
_READINGS = {label: reading for reading, label in READING_LABELS.items()}
COSTS = {"FLOPs (G)": "operations", "Parameters (M)": "parameters"}
COST_PIXELS = 224  # side of the images that the published counts of operations are for


class Latency(NamedTuple):
    """How long a network's forward pass takes.

    Attributes:
        column: what it is called, with the batch size.
        quartiles: median, lower and upper quartile in ms.
        words: how and on what it was measured.
    """

    column: str
    quartiles: tuple[float, float, float]
    words: str


@dataclass(frozen=True)
class RunGroup:
    """Runs that differ in the seed alone.

    Attributes:
        name: what tells them from the other runs at hand.
        paths: their run folders.
        trained: `method`, `model`, `teacher` (a model's name or None), `data`, `evaluated_on`.
        measured: accuracy and compound accuracies in %, one number per run, NaN where there is none; `COSTS` in the
            units of the table, one number for all runs.
        n_images: for what is measured in %: on how many images, if that is known.
        latencies: of its network at the size of `COST_PIXELS`; nothing that is published repeats them.
    """

    name: str
    paths: Sequence[str]
    trained: Mapping[str, Any]
    measured: Mapping[str, Sequence[float]]
    n_images: Mapping[str, int | None] = field(default_factory=dict)
    latencies: Sequence[Latency] = ()

    def interval(self, quantity: str) -> tuple[tuple[float, float, float], int]:
        """Mean over the runs and the ends of its 95 % interval (NaN for one number), and the number of values."""
        values = np.asarray(self.measured.get(quantity, ()), dtype=np.float64)
        mean, low, high = seeds_interval(values / 100, n_images=self.n_images.get(quantity))
        return (100 * mean, 100 * low, 100 * high), int((~np.isnan(values)).sum())


def run_groups(comparison: Result, others: Iterable[Result] = ()) -> list[RunGroup]:
    """All groups of a comparison, with what other results say about them.

    Args:
        comparison: a result of kind "comparison".
        others: results of any kind; those of kind "compound" are matched with runs by their checkpoints, those of kind
            "complexity" by model or run folder.

    Raises:
        ResultError: if the comparison does not say what was trained on what, as the demo's of 0.1.0.
    """
    if "groups" not in comparison.facts:
        raise ResultError("a comparison without groups does not say which runs repeat a published number")
    others = list(others)
    judged = [one for one in others if one.kind == "compound" and _repeats_compounds(one)]
    scores, operations, latencies = _compound_scores(judged), _operations(others), _latencies(others)
    accuracies = [100 * row[~np.isnan(row)] for row in comparison.arrays["accuracy"]]
    found = []
    n_compound = min((one.facts["n_images"] for one in judged), default=None)
    parts = (comparison.facts["methods"], comparison.facts["groups"], accuracies, image_counts(comparison, "accuracy"))
    for name, group, accuracy, count in zip(*parts, strict=True):
        of_runs = [next((scores[digest] for digest in run if digest in scores), {}) for run in group["sha256"]]
        percents = {reading: [one.get(reading, np.nan) for one in of_runs] for reading in READING_LABELS}
        known = (*group["runs"], group["model"])
        counted = [operations[name] for name in known if name in operations][:1]
        timed = next((latencies[name] for name in known if name in latencies), ())
        costs = {"operations": counted, "parameters": [group["parameters"] / 1e6]}
        n_images = {"accuracy": count, **dict.fromkeys(READING_LABELS, n_compound)}
        measured = {"accuracy": accuracy.tolist(), **percents, **costs}
        found.append(RunGroup(name, group["runs"], group, measured, n_images, timed))
    return found


def repeats(group: RunGroup, table: str, row: str, column: str) -> str | None:
    """Which of their quantities repeats a published number; None if none does."""
    if (row, column) in UNLIKE:
        return None
    method, student, teacher = _published(row, column)
    trained, quantity = group.trained, (_READINGS | COSTS).get(column, "accuracy")
    alike = (
        trained["method"] == method
        and _is(trained["model"], student)
        and _is(trained["teacher"], teacher)
        and trained["data"].partition(":")[0] == DATA.get(table.partition("-")[0], "rafdb")
        and trained["evaluated_on"] == "test"
    )
    return quantity if alike and group.interval(quantity)[1] else None


def _published(row: str, column: str) -> tuple[str, str, str | None]:
    """Method, student and teacher of a number."""
    if row in ROWS:
        return ROWS[row]
    teacher, student = row.split(" to ")
    student = STUDENTS.get((row, column), student)
    alone = {"Teacher": teacher, "Student": student}
    return (
        ("plain", alone[column], None)
        if column in alone
        else (METHOD_NAMES.get(column, column.lower()), student, teacher)
    )


def _is(model: str | None, network: str | None) -> bool:
    """Whether a model's name, without the tag of its weights, is that of a published network.

    No name is that of a network which cannot be created by name, such as the WRN of the benchmarks.
    """
    if model is None or network is None:
        return model is network
    untagged = model if ":" in model else model.partition(".")[0]
    return network in NETWORK_NAMES and fnmatch(untagged, NETWORK_NAMES[network])


def _repeats_compounds(result: Result) -> bool:
    """Whether compound accuracies are what the publication states: on RAF-DB, by all seven basic classes."""
    return str(result.facts["data"]).partition(":")[0] == "rafdb-compound" and not result.facts.get("exclude_neutral")


def _compound_scores(judged: Iterable[Result]) -> dict[str, dict[str, float]]:
    """The scores in % of each checkpoint, by its hash."""
    return {
        digest: {key: 100 * float(result.arrays[key][row, 0]) for key in READING_LABELS}
        for digest, (result, row) in by_checkpoint(judged, "compound").items()
    }


def _operations(results: Iterable[Result]) -> dict[str, float]:
    """Operations in billions by a network's name or run folder, counted as the publication counts them."""
    return {name: float(result.arrays["module_operations"][row]) / 1e9 for name, result, row in _counted(results)}


def _latencies(results: Iterable[Result]) -> dict[str, tuple[Latency, ...]]:
    """Latencies by a network's name or run folder, one for each batch size."""
    found = {}
    for name, result, row in _counted(results):
        if "latency" in result.arrays:
            words = result.facts["conventions"].get("latency", "")
            by_batch = zip(result.arrays["batch_size"], 1000 * result.arrays["latency"][row], strict=True)
            found[name] = tuple(
                Latency(f"Latency (ms), batch of {size}", (value, low, high), words)
                for size, (value, low, high) in by_batch
            )
    return found


def _counted(results: Iterable[Result]) -> Iterator[tuple[str, Result, int]]:
    """Each network that was counted at the published size: its name or run folder, the result, and its place there."""
    for result in results:
        if result.kind == "complexity":
            for row, (name, pixels) in enumerate(zip(result.facts["names"], result.facts["image_size"], strict=True)):
                if pixels == COST_PIXELS:
                    yield name, result, row
