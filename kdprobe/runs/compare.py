"""Finished runs side by side: those that differ in the seed alone form one group."""

import json
import math
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy import ndarray

from kdprobe.errors import RunError
from kdprobe.mean_interval import worded_interval
from kdprobe.provenance import provenance
from kdprobe.results import Result, by_checkpoint
from kdprobe.runs.contender_names import contender_names
from kdprobe.runs.differences import Compared, differences
from kdprobe.runs.folder import RunFolder, differing_keys, find_runs
from kdprobe.runs.group_names import PARTS, parts_of, short_names, value_at, worded_value
from kdprobe.runs.weak_teacher import judged_on, weak_teacher

#: what may differ between the runs of a group
_APART = (
    *(("seed",), ("data", "workers"), ("data", "storage")),
    *(("training", "saving"), ("training", "evaluate"), ("probe",)),
)
#: what is read of each result
_NEEDED = (
    "model", "method", "data", "evaluated_on", "seed", "epochs", "images_seen", "accuracy", "best_accuracy",
    "parameters", "auxiliary_parameters", "seconds",
)  # fmt: skip


@dataclass(frozen=True)
class Group:
    """Finished runs of one configuration.

    Attributes:
        name: in a comparison its name there; else what distinguishes the group from the others, the method first.
        config: the configuration without the seed and whatever cannot change the outcome.
        runs: one per seed, in the order of the seeds.
        results: the result of each run.
    """

    name: str
    config: dict[str, Any]
    runs: tuple[RunFolder, ...]
    results: tuple[dict[str, Any], ...]

    @property
    def seeds(self) -> list[int]:
        """The seeds of the runs."""
        return [result["seed"] for result in self.results]

    def values(self, key: str) -> list[float]:
        """One number from each run's result; NaN where it has none, as an accuracy without labels."""
        return [math.nan if result[key] is None else float(result[key]) for result in self.results]

    @property
    def n_images(self) -> int | None:
        """On how many images each run was judged; None where an older kdprobe did not write that down."""
        return min(int(result.get("evaluated_images", 0)) for result in self.results) or None

    @property
    def speed(self) -> float:
        """Training images per second, over all runs; NaN if these took less time than is recorded (10 ms)."""
        seconds = sum(self.values("seconds"))
        return sum(self.values("images_seen")) / seconds if seconds else math.nan


def gather(paths: Iterable[str | Path]) -> list[RunFolder]:
    """The runs in folders and below them, each once.

    Raises:
        RunError: if there is no such folder, or no run in it.
    """
    found: dict[Path, RunFolder] = {}
    for path in paths:
        runs = find_runs(path)
        if not runs:
            raise RunError(f"there is no run in {path}")
        found |= {run.path.resolve(): run for run in runs}
    return list(found.values())


def group(runs: Sequence[RunFolder]) -> list[Group]:
    """Put finished runs of one configuration together, in the order of method, model, teacher and data.

    Raises:
        RunError: if none is finished, one is damaged, two have the same configuration and seed, or two had different
            teachers or data at the same path.
    """
    finished = [(_comparable(run.values()), run, run.result(_NEEDED)) for run in runs if run.finished]
    if not finished:
        raise RunError(f"none of {len(runs)} runs is finished, so there is nothing to compare")
    _check_inputs(finished)
    finished.sort(key=lambda entry: (_key(entry[0]), entry[2]["seed"]))
    groups = []
    for _, same in groupby(finished, key=lambda entry: _key(entry[0])):
        configs, members, results = zip(*same, strict=True)
        for one, other in zip(range(len(members)), range(1, len(members)), strict=False):
            if results[one]["seed"] == results[other]["seed"]:
                raise RunError(f"{members[one].path} and {members[other].path} have the same configuration and seed")
        groups.append(Group("", configs[0], members, results))
    names = short_names([entry.config for entry in groups])
    called = contender_names([entry.runs[0] for entry in groups])
    told = [one or name for one, name in zip(called, names, strict=True)]
    names = told if len(set(told)) == len(told) else names
    return [Group(name, entry.config, entry.runs, entry.results) for name, entry in zip(names, groups, strict=True)]


def run_names(groups: Sequence[Group]) -> dict[Path, str]:
    """What to call each run, by its folder: its group's name, with its seed where seeds tell runs apart."""
    alone = all(len(entry.runs) == 1 for entry in groups)
    differ = alone and len({seed for entry in groups for seed in entry.seeds}) > 1
    return {
        run.path: f"{entry.name}, seed {seed}" if differ or len(entry.runs) > 1 else entry.name
        for entry in groups
        for run, seed in zip(entry.runs, entry.seeds, strict=True)
    }


def _check_inputs(finished: Sequence[tuple[dict[str, Any], RunFolder, dict[str, Any]]]) -> None:
    """Refuse runs whose teachers or data have the same name but not the same content."""
    seen: dict[tuple[str, Any, Any], tuple[str, Path]] = {}
    for config, run, result in finished:
        names = {"teacher": (config["teacher"], None), "data": (config["data"]["spec"], config["data"]["image_size"])}
        names |= {"weights": (config["model"]["weights"], None)}
        for what, name in names.items():
            digest = result.get(f"{what}_sha256")
            if not isinstance(digest, str):
                continue  # there is none, or it was not written down
            other, where = seen.setdefault((what, *name), (digest, run.path))
            if other != digest:
                raise RunError(
                    f"{where} and {run.path} cannot be compared: their {what} {name[0]} was not the same: its sha256 "
                    f"was {other} and {digest}; compare runs that share one {what}"
                )


def unknown_inputs(groups: Sequence[Group]) -> str:
    """The number of runs that do not identify what they learnt from by its content, in a sentence; empty if all do."""
    results = [(result, entry.config["teacher"]) for entry in groups for result in entry.results]
    count = sum(
        not isinstance(result.get("data_sha256"), str)
        or (teacher is not None and not isinstance(result.get("teacher_sha256"), str))
        for result, teacher in results
    )
    return (
        f"{count} of {len(results)} runs name their teacher and data by path alone, because an older kdprobe trained "
        "them"
        if count
        else ""
    )


def table(groups: Sequence[Group], *, best: bool = False) -> pd.DataFrame:
    """A row for each group: its cost and its accuracy.

    Args:
        groups: groups from `group`.
        best: also show the accuracy after each run's best epoch, which was chosen on the evaluation images.
    """
    rows = []
    for entry in groups:
        first = entry.results[0]
        row = {
            "": entry.name,
            "epochs": first["epochs"],
            "images seen": f"{first['images_seen']:,}",
            "seeds": ", ".join(map(str, entry.seeds)),
            "accuracy %": _percent(entry, "accuracy"),
        }
        if best:
            row["best-epoch accuracy %"] = _percent(entry, "best_accuracy")
        row |= {"images/s": f"{entry.speed:,.0f}", "auxiliary parameters": f"{first['auxiliary_parameters']:,}"}
        rows.append(row)
    return pd.DataFrame(rows)


def _percent(entry: Group, key: str) -> str:
    return worded_interval(entry.values(key), scale=100, n_images=entry.n_images)


def shared(groups: Sequence[Group]) -> str:
    """The method, model, teacher and data that all groups share, in words."""
    values = {part: {parts_of(entry.config)[part] for entry in groups} for part in PARTS}
    return ", ".join(
        f"{part} {next(iter(found))}" for part, found in values.items() if len(found) == 1 and found != {None}
    )


def budget_differences(groups: Sequence[Group]) -> str:
    """Which budgets differ between the groups, in one sentence; empty if none do."""
    budgets = [_budget(entry) for entry in groups]
    keys = dict.fromkeys(key for budget in budgets for key in differing_keys(budgets[0], budget))
    said = []
    for key in keys:
        values = dict.fromkeys(worded_value(value_at(budget, key)) for budget in budgets)
        said.append(f"{key} ({', '.join(values)})")
    return f"budgets differ in {', '.join(said)}" if said else ""


def to_result(
    groups: Sequence[Group], measured: Sequence[Result] = (), *, baseline: str | None = None
) -> tuple[Result, str]:
    """A result of kind "comparison" and its table as CSV text.

    Args:
        groups: groups from `group`.
        measured: results of the kinds "evaluation" and "cka", of which those of the runs' last checkpoints, by their
            hashes, give the UAR and the CKA of the last layers; NaN where there is none.
        baseline: as `accuracy_differences` takes it.

    Raises:
        RunError: if no run has an accuracy, or no group has the name to test against.
    """
    if all(run["accuracy"] is None for entry in groups for run in entry.results):
        raise RunError(
            "these runs learnt without labels, so none has an accuracy to compare; judge their networks on labelled "
            "images with kdprobe evaluate --probe"
        )
    evaluations, ckas = (by_checkpoint(measured, kind) for kind in ("evaluation", "cka"))
    columns: dict[str, Callable[[dict[str, Any]], float]] = {
        "accuracy": _accuracy,
        "uar": lambda run: _joined(run, evaluations, lambda result, row: result.arrays["uar"][row, 0]),
        "cka": lambda run: _joined(run, ckas, lambda result, _: result.arrays["matrix"][-1, -1]),
    }
    arrays = {name: _by_seed(groups, value) for name, value in columns.items()}
    layers = [[result.facts[f"{who}_layers"][-1] for who in ("teacher", "student")] for result, _ in ckas.values()]
    teacher, teacher_accuracy = _teacher(groups)
    n_images = [entry.n_images for entry in groups]
    weak = teacher_remark(groups)
    facts = {
        "methods": [entry.name for entry in groups],
        "seeds": _seeds(groups),
        "teacher": teacher,
        "teacher_accuracy": teacher_accuracy,
        "data": ", ".join(sorted({entry.config["data"]["spec"] for entry in groups})),
        "cka_layers": layers[-1] if layers else [],
        "n_images": n_images,
        "differences": differences(arrays, _methods(groups), n_images, baseline=baseline),
        "budget_differences": budget_differences(groups),
        "groups": _described(groups),
        **({"remarks": [{"reason": weak}]} if weak else {}),
    }
    origin = provenance(runs=[str(run.path) for entry in groups for run in entry.runs])
    rows = [
        {
            "group": entry.name,
            **parts_of(entry.config),
            **{key: run[key] for key in ("seed", "epochs", "images_seen", "accuracy", "seconds")},
            **({name: columns[name](run) for name in ("uar", "cka")} if measured else {}),
        }
        for entry in groups
        for run in entry.results
    ]
    return Result("comparison", arrays, facts, origin), pd.DataFrame(rows).to_csv(index=False)


def accuracy_differences(groups: Sequence[Group], *, baseline: str | None = None) -> list[Compared]:
    """How the groups' accuracies differ, paired by seed.

    Args:
        groups: groups from `group`.
        baseline: name of the group that the others are tested against; if not given, the one that was trained without
            distillation, if there is just one, and else each is tested with each.

    Raises:
        RunError: if no group has the name to compare with.
    """
    values = {"accuracy": _by_seed(groups, _accuracy)}
    return differences(values, _methods(groups), [entry.n_images for entry in groups], baseline=baseline)


def teacher_remark(groups: Sequence[Group]) -> str | None:
    """That the groups' one teacher is less accurate than they are, as `weak_teacher` words it."""
    return weak_teacher(_methods(groups), _by_seed(groups, _accuracy), _teacher(groups)[1])


def _methods(groups: Sequence[Group]) -> dict[str, str]:
    """The method by which each group was trained, by the group's name."""
    return {entry.name: entry.config["method"]["name"] for entry in groups}


def _by_seed(groups: Sequence[Group], value: Callable[[dict[str, Any]], float]) -> ndarray:
    """A number of each run [groups, seeds]; NaN where a group has none for a seed."""
    seeds = _seeds(groups)
    found = np.full((len(groups), len(seeds)), math.nan)
    for row, entry in enumerate(groups):
        for run in entry.results:
            found[row, seeds.index(run["seed"])] = value(run)
    return found


def _seeds(groups: Sequence[Group]) -> list[int]:
    return sorted({seed for entry in groups for seed in entry.seeds})


def _accuracy(run: dict[str, Any]) -> float:
    return math.nan if run["accuracy"] is None else float(run["accuracy"])


def _joined(
    run: dict[str, Any], places: dict[str, tuple[Result, int]], number: Callable[[Result, int], float]
) -> float:
    """A number of the run's last checkpoint, wherever it was measured."""
    place = places.get(run.get("sha256", {}).get("last.safetensors", ""))
    return math.nan if place is None else float(number(*place))


def _described(groups: Sequence[Group]) -> list[dict[str, Any]]:
    """What was trained on what in each group, the teacher by its model, and the runs with their checkpoints' hashes."""
    results = [result for entry in groups for result in entry.results]
    models = {digest: result["model"] for result in results for digest in result.get("sha256", {}).values()}
    return [
        {
            **{key: entry.results[0][key] for key in ("method", "model", "data", "evaluated_on", "parameters")},
            "teacher": models.get(entry.results[0].get("teacher_sha256")) or _model(entry.config["teacher"]),
            "runs": [str(run.path) for run in entry.runs],
            "sha256": [list(result.get("sha256", {}).values()) for result in entry.results],
        }
        for entry in groups
    ]


def _model(spec: str | None) -> str | None:
    """The model of a checkpoint that is not among the runs; None if it can no longer be known."""
    if spec is None:
        return None
    name, colon, weights = spec.partition(":")
    if colon and name == "timm":
        return weights
    name, mark, _ = spec.partition("@")
    path = Path(spec)
    if mark and not path.exists():
        return name
    folder = RunFolder(path if path.is_dir() else path.parent)
    return str(folder.result()["model"]) if folder.finished else None


def _comparable(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration without what may differ between runs of a group."""
    kept: dict[str, Any] = json.loads(json.dumps(config))
    for *parents, last in _APART:
        section = kept
        for key in parents:
            section = section[key]
        section.pop(last, None)
    return kept


def _key(config: dict[str, Any]) -> tuple[str, ...]:
    return (*(part or "" for part in parts_of(config).values()), json.dumps(config, sort_keys=True))


def _budget(entry: Group) -> dict[str, Any]:
    """What a comparison should hold equal."""
    data, training = entry.config["data"], entry.config["training"]
    return {
        "epochs": max(result["epochs"] for result in entry.results),
        "images seen": max(result["images_seen"] for result in entry.results),
        "batch size": training["batch_size"],
        "precision": " and ".join(sorted({result.get("precision", training["precision"]) for result in entry.results})),
        "augmentation": data["augment"],
        "decoding": data.get("decode", "exact"),
        "mixing": training["mixing"],
        "evaluated on": entry.results[0]["evaluated_on"],
    }


def _teacher(groups: Sequence[Group]) -> tuple[str | None, float | None]:
    """Model and accuracy of the one teacher of all groups that have any; no accuracy on other data."""
    specs = {entry.config["teacher"] for entry in groups} - {None}
    if len(specs) != 1:
        return None, None
    runs = [pair for one in groups for pair in zip(one.runs, one.results, strict=True)]
    return known_teacher(specs.pop(), {judged_on(*pair) for pair in runs})


def known_teacher(spec: str, images: Collection[tuple[Any, ...]]) -> tuple[str, float | None]:
    """A teacher's model, or how it was given where that cannot be known, and its accuracy if it is a run's.

    Args:
        spec: how it was given.
        images: that the students were judged on, as `judged_on` tells them; no accuracy if it was judged on others.
    """
    folder = RunFolder(Path(spec))
    if not folder.finished:
        return _model(spec) or spec, None
    result = folder.result(("model", "accuracy", "data", "evaluated_on", "seed"))
    return result["model"], result["accuracy"] if set(images) == {judged_on(folder, result)} else None
