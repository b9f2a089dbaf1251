"""Own runs that repeat a published number: the same networks, method and kind of data, on its test images.

A network counts as a published one by the name it is created with; of MobileViTV2 and ViT-L/14 the publication leaves
the variant open, so that every one counts. What a method's options are is left to the reader: runs of different
configurations stand in lines of their own.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from typing import Any

import numpy as np

from figures.checks import require, require_length
from figures.pictures.comparison import image_counts
from kdprobe.mean_interval import seeds_interval
from kdprobe.results import Result

NETWORKS = {
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
}
DATA = {"table1": "cifar100", "imagenet": "imagenet"}  # of the tables that are not about RAF-DB
METHODS = {"Logit standardisation": "logit_standard"}  # that are not called as in the tables
UNLIKE = {("RegNetY-16GF to DeiT-Ti", "Student")}  # trained in a way that no method here repeats
# method, student and teacher of the rows that do not say them themselves
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
READINGS = {"Acc-both": "both", "Acc-single": "single", "Acc-single-top2": "single_top2"}
COSTS = {"FLOPs (G)": "operations", "Parameters (M)": "parameters"}
COST_PIXELS = 224  # side of the images that the published operations are for


@dataclass(frozen=True)
class Own:
    """Runs that differ in the seed alone.

    Attributes:
        name: what tells them from the other runs at hand.
        paths: of the runs.
        trained: `method`, `model`, `teacher` (a model's name or None), `data`, `evaluated_on`.
        measured: "accuracy" and `READINGS` in %, one number per run, NaN where there is none; `COSTS` in the units of
            the table, one number for all runs.
        n_images: by what was measured in %: on how many images, where that is known.
    """

    name: str
    paths: Sequence[str]
    trained: Mapping[str, Any]
    measured: Mapping[str, Sequence[float]]
    n_images: Mapping[str, int | None] = field(default_factory=dict)

    def interval(self, quantity: str) -> tuple[float, float, int]:
        """Mean over the runs, half-width of its 95 % interval (NaN for one number), and how many numbers there are."""
        values = np.asarray(self.measured.get(quantity, ()), dtype=np.float64)
        mean, half = seeds_interval(values / 100, n_images=self.n_images.get(quantity))
        return 100 * mean, 100 * half, int((~np.isnan(values)).sum())


def own_runs(comparison: Result, others: Iterable[Result] = ()) -> list[Own]:
    """All groups of a comparison, with what other results say of them.

    Args:
        comparison: of kind "comparison".
        others: of which "compound" belongs to runs by their checkpoints, "complexity" by model or run folder.

    Raises:
        ResultError: if a result lacks something.
    """
    require(comparison, {"accuracy": 2}, ("methods", "groups"))
    others = list(others)
    scores, operations = _compound_scores(others), _operations(others)
    accuracies = [100 * row[~np.isnan(row)] for row in comparison.arrays["accuracy"]]
    names = require_length(comparison, "methods", len(accuracies), "rows")
    groups = require_length(comparison, "groups", len(accuracies), "rows")
    found = []
    n_compound = min((one.facts.get("n_images") or 0 for one in others if one.kind == "compound"), default=0) or None
    for name, group, accuracy, judged in zip(
        names, groups, accuracies, image_counts(comparison, "accuracy"), strict=True
    ):
        of_runs = [next((scores[digest] for digest in run if digest in scores), {}) for run in group["sha256"]]
        percents = {reading: [one.get(reading, np.nan) for one in of_runs] for reading in READINGS.values()}
        counted = [operations[known] for known in (*group["runs"], group["model"]) if known in operations][:1]
        costs = {"operations": counted, "parameters": [group["parameters"] / 1e6]}
        n_images = {"accuracy": judged, **dict.fromkeys(READINGS.values(), n_compound)}
        measured = {"accuracy": accuracy.tolist(), **percents, **costs}
        found.append(Own(name, group["runs"], group, measured, n_images))
    return found


def repeats(own: Own, table: str, row: str, column: str) -> str | None:
    """The quantity by which runs repeat a published number; None where they do not, or where it is no such number."""
    if (row, column) in UNLIKE:
        return None
    method, student, teacher = _published(row, column)
    trained, quantity = own.trained, (READINGS | COSTS).get(column, "accuracy")
    alike = (
        trained["method"] == method
        and _is(trained["model"], student)
        and _is(trained["teacher"], teacher)
        and trained["data"].partition(":")[0] == DATA.get(table, "rafdb")
        and trained["evaluated_on"] == "test"
    )
    return quantity if alike and own.interval(quantity)[2] else None


def _published(row: str, column: str) -> tuple[str, str, str | None]:
    """Method, student and teacher of a number."""
    if row in ROWS:
        return ROWS[row]
    teacher, student = row.split(" to ")
    alone = {"Teacher": teacher, "Student": student}
    return (
        ("plain", alone[column], None) if column in alone else (METHODS.get(column, column.lower()), student, teacher)
    )


def _is(model: str | None, network: str | None) -> bool:
    """Whether a model's name, without the tag of its weights, is that of a published network."""
    if model is None or network is None:
        return model is network
    untagged = model if ":" in model else model.partition(".")[0]
    return fnmatch(untagged, NETWORKS[network])


def _compound_scores(results: Iterable[Result]) -> dict[str, dict[str, float]]:
    """A checkpoint's hash -> its scores in %."""
    scores = {}
    for result in results:
        if result.kind == "compound" and not result.facts.get("exclude_neutral"):
            require(result, dict.fromkeys(READINGS.values(), 2))
            for index, model in enumerate(result.provenance.get("models", [])):
                scores[model["sha256"]] = {key: 100 * float(result.arrays[key][index, 0]) for key in READINGS.values()}
    return scores


def _operations(results: Iterable[Result]) -> dict[str, float]:
    """A network's name, or run folder -> its operations in billions, counted as the publication's are, for its size."""
    return {
        name: float(count) / 1e9
        for result in results
        if result.kind == "complexity"
        for name, pixels, count in zip(
            result.facts["names"], result.facts["image_size"], result.arrays["module_operations"], strict=True
        )
        if pixels == COST_PIXELS
    }
