"""Small results of every kind, as the analyses save them, for the tests of figures and report."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from analyses.dropout import best_against_neighbours, equal_rates
from analyses.fidelity.quantities import FIDELITIES
from analyses.map import average_linkage, chord_distances, principal_coordinates
from analyses.similarity.null import calibrate, calibrate_pairs
from kdprobe.results import FORMAT, VERSION, Result
from kdprobe.runs.differences import against, differences
from kdprobe.runs.pooled import pooled_differences
from kdprobe.tuning.chosen import expected_best

PROVENANCE = {
    "seed": 0,
    "data": "digits",
    "versions": {"python": "3.11.2", "kdprobe": "0.1.0", "torch": "2.15.0"},
    "command": "kdprobe cka --teacher runs/vit --student runs/resnet8",
}
OF_PAIR = {**PROVENANCE, "teacher": {"sha256": "0" * 64}, "student": {"sha256": "1" * 64}}
MINIBATCHES = {
    "n_samples": 360,
    "batch_size": 90,
    "n_minibatches": 4,
    "n_left_out": 0,
    "kernel": "linear",
    "estimator": "unbiased",
    "weighting": "minibatches count by their samples",
    "confidence": 0.95,
    "interval": "delete-one jackknife over minibatches, Student's t",
    "permutations": 0,
    "no_interval": "",
}


def of_models(names: tuple[str, ...]) -> dict[str, Any]:
    """Provenance of what was measured of several networks."""
    return {**PROVENANCE, "models": [{"name": name, "sha256": None} for name in names]}


def cka_result(
    n_teacher: int = 4,
    n_student: int = 4,
    *,
    teacher: str = "vit_tiny",
    student: str = "resnet8",
    undefined: tuple[tuple[int, int], ...] = (),
    lowest: float = 0.02,
) -> Result:
    rng = np.random.default_rng(n_teacher * 100 + n_student)
    rows, columns = np.meshgrid(np.linspace(0, 1, n_teacher), np.linspace(0, 1, n_student), indexing="ij")
    matrix = lowest + (0.95 - lowest) * np.exp(-6 * (rows - columns) ** 2) * (0.6 + 0.4 * rows)
    matrix += rng.normal(0, 0.01, matrix.shape)
    matrix[0, -1] = lowest
    teacher_layers = [f"blocks.{index}" for index in range(n_teacher)]
    student_layers = [f"layer{1 + 3 * index // n_student}.{index}.conv2" for index in range(n_student)]
    for row, column in undefined:
        matrix[row, column] = np.nan
    reasons = [
        {
            "teacher_layer": teacher_layers[row],
            "student_layer": student_layers[column],
            "reason": "the student's features are constant",
        }
        for row, column in undefined
    ]
    facts = {
        "teacher": teacher,
        "student": student,
        "teacher_layers": teacher_layers,
        "student_layers": student_layers,
        "undefined": reasons,
        "reduce": "flatten",
        "data": "digits",
        **MINIBATCHES,
    }
    hsic = {"hsic_xy": np.ones((4, n_teacher, n_student)), "hsic_xx": np.ones((4, n_teacher))}
    arrays = {"matrix": matrix, "low": matrix - 0.03, "high": matrix + 0.03, **hsic, "hsic_yy": np.ones((4, n_student))}
    return Result("cka", arrays, facts, OF_PAIR)


def calibrated(result: Result, *, spread: float = 0.2) -> Result:
    """A result of kind "cka", "similarity" or "map" beside a null with a deviation of `spread`."""
    of_map = result.kind == "map"
    matrix = (
        np.where(np.eye(len(result.arrays["similarity"])), np.nan, result.arrays["similarity"])
        if of_map
        else (result.arrays["matrix"])
    )
    null = np.random.default_rng(1).normal(0, spread, (39, *matrix.shape))
    if of_map:
        how = {"alpha": 0.05, "permutations": 39, "correction": "all pairs together"}
        arrays = result.arrays | calibrate(matrix, null).arrays()
        return replace(result, arrays=arrays, facts=result.facts | {"calibration": how})
    beside = calibrate_pairs(matrix, null)
    facts = result.facts | {"calibration": beside.facts()}
    return replace(result, arrays={**result.arrays, **beside.arrays()}, facts=facts)


def evaluation_result(
    names: tuple[str, ...] = ("plain", "kd", "dropkd"), n_classes: int = 10, n_samples: int = 360
) -> Result:
    rng = np.random.default_rng(len(names))
    targets = rng.integers(0, n_classes, n_samples)
    wrong = rng.random((len(names), n_samples)) < 0.12
    predictions = np.where(wrong, rng.integers(0, n_classes, wrong.shape), targets)
    confusion = np.zeros((len(names), n_classes, n_classes), dtype=np.int64)
    for model, predicted in enumerate(predictions):
        np.add.at(confusion[model], (targets, predicted), 1)
    accuracy = (predictions == targets).mean(axis=1)
    interval = np.stack([accuracy, accuracy - 0.03, accuracy + 0.02], axis=1)
    arrays = {
        "confusion": confusion,
        "accuracy": interval,
        "uar": interval - 0.01,
        "ece": interval / 20,
        "recall": np.repeat(interval[:, None], n_classes, axis=1),
        "precision": np.repeat(interval[:, None], n_classes, axis=1),
        "targets": targets,
        "predictions": predictions,
        "confidences": np.where(wrong, 0.6, 0.9),
    }
    facts = {
        "names": list(names),
        "classes": [str(index) for index in range(n_classes)],
        "data": "digits",
        "evaluated_on": "test",
        "n_images": n_samples,
        "confidence": 0.95,
        "against": None,
        "interval": "Wilson's",
        "undefined": "NaN: a class without images",
    }
    return Result("evaluation", arrays, facts, of_models(names))


def comparison_result(methods: tuple[str, ...] = ("plain", "kd", "dropkd"), n_seeds: int = 3) -> Result:
    rng = np.random.default_rng(7)
    accuracy = 0.96 + 0.006 * rng.standard_normal((len(methods), n_seeds))
    cka = 0.5 + 0.1 * rng.standard_normal((len(methods), n_seeds))
    facts = {
        "methods": list(methods),
        "seeds": list(range(n_seeds)),
        "teacher": "vit_tiny",
        "teacher_accuracy": 0.964,
        "data": "digits",
        "cka_layers": ["blocks.3", "layer3"],
    }
    arrays = {"accuracy": accuracy, "uar": accuracy - 0.002, "cka": cka}
    facts["differences"] = differences(arrays, {name: name for name in methods}, [360] * len(methods))
    return Result("comparison", arrays, facts, {**PROVENANCE, "runs": [f"runs/{name}" for name in methods]})


def dropout_result(
    n_seeds: int = 3, rates: tuple[float, ...] = (0.3, 0.4, 0.5, 0.6, 0.7), *, answered: bool = False
) -> Result:
    """A sweep over rates; `answered` with what `analyses.dropout` says of it."""
    rng = np.random.default_rng(3)
    teacher, student = np.meshgrid(rates, rates, indexing="ij")
    means = 0.89 - 0.2 * (teacher - student) ** 2 - 0.1 * (student - 0.5) ** 2
    accuracy = means[..., None] + 0.002 * rng.standard_normal((*means.shape, n_seeds))
    accuracy[-1, 0] = np.nan
    facts: dict[str, Any] = {"kind": "feature", "rates_teacher": list(rates), "rates_student": list(rates)}
    facts |= {"seeds": list(range(n_seeds)), "student": "resnet8", "data": "digits"}
    if answered:
        both = rates, rates
        facts |= {"equal_rate": equal_rates(accuracy, both), "best": best_against_neighbours(accuracy, both)}
    return Result("dropout-sweep", {"accuracy": accuracy}, facts, {**PROVENANCE, "sweep": "sweep", "config": {}})


def training_result(names: tuple[str, ...] = ("teacher", "plain", "kd", "dropkd"), n_epochs: int = 12) -> Result:
    rng = np.random.default_rng(5)
    epoch = np.arange(1, n_epochs + 1)
    falling = np.exp(-epoch / 4) * (1 + 0.2 * np.arange(len(names)))[:, None]
    accuracy = 0.97 - 0.6 * falling + 0.01 * rng.standard_normal(falling.shape)
    accuracy = np.clip(accuracy, 0, 1)
    loss = 2.3 * falling
    loss[0, n_epochs // 2 :] = accuracy[0, n_epochs // 2 :] = np.nan
    arrays = {"epoch": epoch, "train_loss": loss, "accuracy": accuracy}
    origin = {**PROVENANCE, "runs": [f"runs/{name}" for name in names]}
    return Result("training", arrays, {"names": list(names)}, origin)


def knowledge_result(
    n_pairs: int = 3, *, measured: bool = False, rates: bool = False, name: str = "resnet8", samples: int = 0
) -> Result:
    """A decomposition; `measured` with dimensions, CKA and probes, some of them undefined; `rates` as by DropKD.

    Earlier results say nothing of single `samples`.
    """
    value = np.linspace(-0.01, 0.8, n_pairs)
    interval = np.stack([value, value - 0.03, value + 0.03], axis=1)
    facts = {
        "teacher": "vit_tiny",
        "student": name,
        "teacher_layers": [f"blocks.{index}" for index in range(n_pairs)],
        "student_layers": [f"layer{index + 1}" for index in range(n_pairs)],
        "confidence": 0.95,
        "method": "ridge",
        "reduce": "gap",
        "folds": 5,
        "seed": 0,
        "n_samples": 360,
        "parts": ["whole", "general", "specific"],
        "undefined": [],
        "left_out": [],
        "data": "digits",
    }
    general = {"teacher": interval, "student": interval[::-1] + 0.04}
    arrays = {
        **{f"{who}_general": ends for who, ends in general.items()},
        **{f"{who}_specific": 1 - ends[:, [0, 2, 1]] for who, ends in general.items()},
        **{f"{who}_by_fold": np.repeat(ends[:, :1], 5, axis=1) for who, ends in general.items()},
        "dimension": np.full(n_pairs, np.nan),
        "cka": np.full((n_pairs, 3, 3), np.nan),
    }
    if measured:
        parts = np.stack([interval + shift for shift in (0.1, 0.05, 0.0)], axis=1)
        parts[0, 1] = np.nan
        arrays |= {"dimension": np.arange(n_pairs) * 100.0}
        arrays |= dict.fromkeys(("cka", "teacher_probe", "student_probe"), parts)
        for who, rank in (("teacher", 192), ("student", 340)):
            counts = np.full(n_pairs, rank)
            used = np.where(counts < 300, counts, 120)
            arrays |= {f"{who}_rank": counts, f"{who}_used": used, f"{who}_held": used / counts}
        few = {"teacher_lower_bound": [True] * n_pairs, "student_lower_bound": [False] * n_pairs}
        facts |= few | {"method": "adjusted", "n_independent": 360}
        facts |= {name.replace("lower_bound", "sample_limited"): flags for name, flags in few.items()}
    if rates:
        kept = np.stack([interval - rate for rate in (0.0, 0.5, 0.9)], axis=1)
        arrays |= {"rates": np.array([0.0, 0.5, 0.9]), "teacher_by_rate": kept, "student_by_rate": kept - 0.1}
    if samples:
        arrays |= {"index": np.arange(samples), "labels": np.arange(samples) % 3}
        drawn = np.random.default_rng(8).exponential(0.5, (4, n_pairs, samples)).astype(np.float32)
        of = [f"{who}_{part}_by_sample" for who in ("teacher", "student") for part in ("general", "specific")]
        arrays |= dict(zip(of, drawn, strict=True))
    return Result("knowledge", arrays, facts, PROVENANCE)


def knowledge_comparison_result(names: tuple[str, ...] = ("plain", "kd", "dropkd"), n_pairs: int = 4) -> Result:
    """General fractions of several students at equal layers."""
    one = knowledge_result(n_pairs)
    shifts = 0.02 * np.arange(len(names))[:, None, None]
    arrays = {key: one.arrays[key] + shifts for key in ("teacher_general", "student_general")}
    kept = ("teacher", "teacher_layers", "student_layers", "method", "data", "confidence")
    facts = {**{key: one.facts[key] for key in kept}, "names": list(names), "students": ["resnet8"] * len(names)}
    if len(names) > 3:
        facts |= {"teacher_lower_bound": [[True] * n_pairs] * len(names)}
        facts |= {"student_lower_bound": [[False] * n_pairs] * len(names)}
    return Result("knowledge-comparison", arrays, facts, {**PROVENANCE, "of": [one.provenance] * len(names)})


def examples_result(n_images: int = 8, *, name: str = "vit_tiny") -> Result:
    """Images with the largest specific part."""
    rng = np.random.default_rng(2)
    shares = np.sort(rng.random((2, n_images)))[:, ::-1]
    arrays = {
        "images": rng.integers(0, 256, (2, n_images, 8, 8, 3), dtype=np.uint8),
        "index": rng.integers(0, 360, (2, n_images)),
        "labels": rng.integers(0, 2, (2, n_images)),
        "specific": shares,
        "other": shares / 2,
    }
    facts = {
        "teacher": name,
        "student": "resnet8",
        "teacher_layer": "blocks.3",
        "student_layer": "layer3",
        "classes": ["a class with a rather long name", "1"],
        "data": "digits",
    }
    return Result("examples", arrays, facts, PROVENANCE)


def reliability_result(names: tuple[str, ...] = ("plain", "kd", "dropkd")) -> Result:
    edges = np.linspace(0, 1, 11)
    count = np.arange(10) ** 2 * np.ones((len(names), 1), dtype=np.int64)
    accuracy = np.where(count > 0, 0.9 * (edges[:-1] + 0.05), np.nan)
    ece = np.full(len(names), 0.041)
    arrays = {"edges": edges, "confidence": accuracy, "accuracy": accuracy, "count": count, "ece": ece}
    images = np.repeat(np.arange(10), np.arange(10) ** 2)
    arrays |= {"targets": images % 3, "bins": np.stack([images] * len(names))}
    facts = {"names": list(names), "data": "digits", "evaluated_on": "test", "n_images": 360, "undefined": "NaN: empty"}
    return Result("reliability", arrays, facts, of_models(names))


def over_time_result(n_pairs: int = 4, n_epochs: int = 8) -> Result:
    epoch = np.arange(1, n_epochs + 1)
    cka = np.linspace(0.3, 0.9, n_pairs)[:, None] * (1 - np.exp(-epoch / 3))
    cka[0, 0] = np.nan
    facts = {
        "teacher": "vit_tiny",
        "student": "resnet8",
        "teacher_layers": [f"blocks.{index}" for index in range(n_pairs)],
        "student_layers": [f"layer{index}" for index in range(n_pairs)],
        "undefined": [{"pair": 0, "epoch": 1, "reason": "the student's features are constant"}],
        "data": "digits",
        **MINIBATCHES,
    }
    arrays = {"epoch": epoch, "cka": cka, "low": np.full_like(cka, np.nan), "high": np.full_like(cka, np.nan)}
    return Result("cka-over-time", arrays, facts, {**OF_PAIR, "run": "runs/resnet8"})


def compound_result(names: tuple[str, ...] = ("plain", "dropkd")) -> Result:
    value = np.linspace(0.3, 0.36, len(names))
    arrays = {
        key: np.stack([value, value - 0.03, value + 0.03], axis=1) + shift
        for key, shift in (("both", 0.0), ("single", 0.4), ("single_top2", 0.58))
    }
    arrays["by_class"] = np.full((len(names), 2, 3), 0.5)
    facts = {
        "names": list(names),
        "classes": ["happily surprised", "sadly angry"],
        "data": "rafdb-compound:x",
        "n_images": 792,
        "confidence": 0.95,
        "exclude_neutral": False,
        "interval": "Wilson's",
        "undefined": "NaN: compound class without images",
    }
    return Result("compound", arrays, facts, of_models(names))


def complexity_result(*, latency: bool = False) -> Result:
    """Costs of two networks; with latencies at two batch sizes."""
    keys = ("parameters", "macs", "flops", "module_operations")
    arrays = {key: np.array([11_180_000, 2_230_000]) * (index + 1) for index, key in enumerate(keys)}
    conventions = {key: f"how {key} are counted" for key in keys}
    facts = {
        "names": ["resnet18", "mobilenetv2_100"],
        "n_classes": [7, 7],
        "image_size": [224, 224],
        "conventions": conventions,
        "parts": [[["conv1", 1728, 884736]], [["conv_stem", 864, 442368]]],
    }
    if latency:
        arrays |= {"batch_size": np.array([1, 32]), "latency": np.array([[[0.0123, 0.012, 0.0131], [0.31, 0.3, 0.33]]])}
        arrays["latency"] = np.concatenate([arrays["latency"], arrays["latency"] / 3])
        conventions["latency"] = "median and quartiles in ms, on cpu (some processor) with 2 threads"
    return Result("complexity", arrays, facts, {**PROVENANCE, "models": facts["names"]})


def similarity_result(n_teacher: int = 4, n_student: int = 5) -> Result:
    result = cka_result(n_teacher, n_student)
    facts = {key: value for key, value in result.facts.items() if key not in MINIBATCHES}
    facts |= {"measure": "Procrustes similarity", "reduce": "gap", "n_samples": 360, "remarks": []}
    return Result("similarity", {"matrix": result.arrays["matrix"]}, facts, result.provenance)


def map_result(n_methods: int = 3, n_seeds: int = 2, *, undefined: bool = False, name: str = "kd") -> Result:
    """A teacher and runs of several methods, which lie around it on a circle."""
    n = 1 + n_methods * n_seeds
    angles = np.linspace(0, 2 * np.pi, n - 1, endpoint=False)
    places = np.vstack([[0, 0], 0.3 * np.stack([np.cos(angles), np.sin(angles)], 1)])
    similarity = 1 - ((places[:, None] - places) ** 2).sum(2) / 2
    if undefined:
        similarity[0, 1:] = similarity[1:, 0] = np.nan
    placed = slice(1 if undefined else 0, None)
    distances = chord_distances(similarity)[placed, placed]
    points = np.full((n, 2), np.nan)
    points[placed], shares, negative = principal_coordinates(distances)
    ends = np.where(np.eye(n) == 1, np.nan, similarity)
    arrays = {"similarity": similarity, "low": ends - 0.02, "high": ends + 0.02, "points": points, "shares": shares}
    methods = [None, *(f"{name}{place}" for place in range(n_methods) for _ in range(n_seeds))]
    nothing = dict.fromkeys(("f", "share", "p_value", "smallest_p"))
    entry = {"permutations": 9999, "n_networks": n - 1}
    tested = {"f": 3.2, "share": 0.4, "p_value": 0.004, "smallest_p": 0.0001, "reason": ""}
    facts = {
        "networks": ["vit_tiny", *(f"{method}, seed {place % n_seeds}" for place, method in enumerate(methods[1:]))],
        "methods": methods,
        "seeds": [None, *(place % n_seeds for place in range(n - 1))],
        "teachers": [True, *[False] * (n - 1)],
        "measure": "CKA",
        "layers": "the last stage",
        "reduce": "gap",
        "data": "digits",
        "n_samples": 359,
        "batch_size": 64,
        "confidence": 0.95,
        "negative": max(negative, 0.0),
        "no_interval": "",
        "undefined": [{"networks": ["vit_tiny", "x"], "reason": "constant"}] if undefined else [],
        "groupings": [{"of": "methods", **entry, **tested}, {"of": "seeds", **entry, **nothing, "reason": "one seed"}],
    }
    origin = {**PROVENANCE, "networks": [{"name": "resnet8", "sha256": None}] * n}
    return Result("map", arrays | {"tree": average_linkage(distances)}, facts, origin)


def write_bare(path: str | Path, kind: str = "cka") -> None:
    """A file of a kind that holds nothing else, which is never written but may be found."""
    meta = {"format": FORMAT, "version": VERSION, "kind": kind, "facts": {}, "provenance": {}}
    np.savez(path, meta=np.array(json.dumps(meta)))


def fidelity_result(
    groups: tuple[str, ...] = ("kd", "dropkd", "plain"), n_seeds: int = 3, *, tested: bool = True, n_images: int = 60
) -> Result:
    """Students of several methods, the last one a control; `tested` with the differences of the methods."""
    rng = np.random.default_rng(4)
    quantities = {"accuracy": 100.0, "agreement": 100.0, "agreement_wrong": 100.0, "kappa": 1.0, "jensen_shannon": 1.0}
    value = np.clip(0.8 - 0.1 * np.arange(len(groups))[:, None] + 0.02 * rng.random((len(groups), 5)), 0, 1)
    means = np.stack([value, value - 0.04, value + 0.03], axis=2)
    names = [f"{group}-seed{seed}" for group in groups for seed in range(n_seeds)]
    values = np.repeat(means, n_seeds, axis=0) + 0.01
    values[0, 3] = np.nan
    pairs = [(one, groups[-1]) for one in groups[:-1]] if tested else []
    arrays = {
        "values": values,
        "means": means,
        "teacher_accuracy": np.array([0.97, 0.95, 0.99]),
        "targets": rng.integers(0, 3, n_images),
        "teacher_predictions": rng.integers(0, 3, n_images),
        "predictions": rng.integers(0, 3, (len(names), n_images)),
    }
    if tested:
        arrays |= {"differences": means[:-1] - means[-1:, :, [0, 2, 1]]}
        arrays |= dict.fromkeys(("p_values", "adjusted"), np.full((len(pairs), 5), 0.004))
        arrays["differences"] = np.sort(arrays["differences"], axis=2)[:, :, [1, 0, 2]]
    roles = ["student"] * (len(groups) - 1) + ["control"]
    facts = {
        "names": names,
        "of_group": [group for group in groups for _ in range(n_seeds)],
        "roles": [role for role in roles for _ in range(n_seeds)],
        "seeds": [seed for _ in groups for seed in range(n_seeds)],
        "groups": list(groups),
        "group_roles": roles,
        "quantities": list(quantities),
        "labels": [FIDELITIES[name].label for name in quantities],
        "scales": list(quantities.values()),
        "classes": ["0", "1", "2"],
        "teacher": "vit",
        "data": "digits",
        "evaluated_on": "test",
        "interval": "over images",
        "tests": "paired by seed",
        "n_images": n_images,
        "temperature": 1.0,
        "confidence": 0.95,
        "pairs": [{"one": one, "other": other, "by": "seed", "n": n_seeds} for one, other in pairs],
        "verdicts": [
            f"Beside {other} (3 seeds), {one} is not shown to be closer to the teacher" for one, other in pairs
        ],
        "untested": [],
        "undefined": [{"network": names[0], "quantity": "kappa", "reason": "both give the same class to every image"}],
    }
    return Result("fidelity", arrays, facts, {**of_models(tuple(names)), "teacher": {"sha256": None}})


def images_result(
    names: tuple[str, ...] = ("vit", "plain", "kd"), n_images: int = 60, *, n_shown: int = 40, n_classes: int = 3
) -> Result:
    """What networks make of single images, of which some have a picture."""
    rng = np.random.default_rng(9)
    targets = rng.integers(0, n_classes, n_images)
    wrong = rng.random((len(names), n_images)) < 0.3
    margins = np.where(wrong, -0.2, 0.5)
    arrays = {
        "thumbnails": rng.integers(0, 256, (n_shown, 8, 8, 3), dtype=np.uint8),
        "shown": np.sort(rng.permutation(n_images)[:n_shown]),
        "targets": targets,
        "predictions": np.where(wrong, (targets + 1) % n_classes, targets),
        "confidences": np.where(wrong, 0.6, 0.75),
        "margins": margins,
        "coordinates": rng.standard_normal((len(names), n_images, 2)),
        "shares": np.full((len(names), 2), 0.3),
    }
    facts = {
        "names": list(names),
        "roles": ["teacher", *["student"] * (len(names) - 1)],
        "classes": [str(place) for place in range(n_classes)],
        "data": "digits",
        "evaluated_on": "test",
        "projection": "pca",
        "n_images": n_images,
        "seed": 0,
    }
    return Result("images", arrays, facts, of_models(names))


def of_the_same_images(result: Result, images: Result) -> Result:
    """An evaluation or a fidelity of the test images that another result is of."""
    n_images, n_classes = len(images.arrays["targets"]), len(images.facts["classes"])
    assert n_classes == len(result.facts["classes"])
    changed = {
        key: result.arrays[key][..., :n_images] for key in ("predictions", "confidences") if key in result.arrays
    }
    return replace(result, arrays=result.arrays | changed | {"targets": images.arrays["targets"]})


def inherited_errors_result(n_images: int = 11, *, controls: bool = True, name: str = "kd") -> Result:
    """Images that two methods learnt to get wrong; a third one learnt none."""
    rng = np.random.default_rng(6)
    arrays = {
        "images": rng.integers(0, 256, (n_images, 8, 8, 3), dtype=np.uint8),
        "index": np.arange(n_images) * 7,
        "group": np.sort(rng.integers(0, 2, n_images)),
        "labels": np.zeros(n_images, dtype=np.int64),
        "answers": np.ones(n_images, dtype=np.int64),
        "students": np.linspace(1, 0.4, n_images),
        "controls": np.full(n_images, 0.25 if controls else np.nan),
        "confidence": np.linspace(0.9, 0.5, n_images),
        "counts": np.array([[7.5, 3.0], [5.0, 3.0], [3.0, 3.0]]) * [1, 1 if controls else np.nan],
    }
    facts = {
        "groups": [name, "dropkd", "at"],
        "classes": ["a class with a rather long name", "1"],
        "teacher": "vit",
        "data": "digits",
        "n_controls": 4 * controls,
        "n_teacher_wrong": 14,
    }
    return Result("inherited-errors", arrays, facts, {**of_models(("a",)), "teacher": {"sha256": None}})


def tuned_result(
    methods: tuple[str, ...] = ("plain", "kd", "dropkd"),
    n_trials: int = 5,
    n_seeds: int = 3,
    *,
    published: bool = True,
    late: bool = False,
) -> Result:
    """Methods tuned alike; one trial diverged."""
    rng = np.random.default_rng(8)
    held_out = 0.9 + 0.02 * rng.standard_normal((len(methods), n_trials))
    held_out[0, -1] = np.nan if n_trials > 1 else held_out[0, -1]
    accuracy = 0.93 + 0.002 * np.arange(len(methods))[:, None] + 0.004 * rng.standard_normal((len(methods), n_seeds))
    arrays = {
        "held_out": held_out,
        "expected": np.stack([expected_best(row) for row in held_out]),
        "accuracy": accuracy,
    }
    arrays |= {"chosen": np.nanargmax(held_out, axis=1)}
    arrays |= {f"trial_{key}": np.full(held_out.shape, 7.5) for key in ("seconds", "teacher_images")}
    arrays |= {key: np.full(accuracy.shape, 10.0) for key in ("seconds", "teacher_images")}
    arrays |= {"published": accuracy - 0.01} if published else {}
    settings = [{"training.optimizer.lr": 0.05 * (1 + trial), "method.weight": 1.5} for trial in range(n_trials)]
    pairs = against(methods, ("kd", "plain"))
    pooled = pooled_differences(accuracy, methods, pairs)
    facts = {
        "methods": list(methods),
        "seeds": list(range(n_seeds)),
        "trials": [settings for _ in methods],
        "sources": ["the authors' code" for _ in methods],
        "student": "resnet8",
        "teacher": "vit_tiny",
        "teacher_accuracy": 0.964,
        "data": "digits",
        "evaluated_on": "test",
        "n_images": 360,
        "n_held_out": 287,
        "holdout": 0.2,
        "epochs": 8,
        "trial_epochs": 4,
        "confidence": 0.95,
        "chosen_at": "2026-11-26T15:28:41+00:00",
        "tested_before": 6 * late,
        "differences": differences(
            {"accuracy": accuracy}, {name: name for name in methods}, [360] * len(methods), pairs=pairs
        ),
        "pooled": pooled._asdict() if pooled else None,
        "remarks": [{"reason": "after 6 final trainings had been tested, on 2026-11-26: kd was added"}] * late,
    }
    facts = {key: value for key, value in facts.items() if key != "pooled" or pooled}
    return Result("tuned-comparison", arrays, facts, {**PROVENANCE, "folders": ["c/trials", "c/finals"]})


def diagnosis_result(terms: tuple[str, ...] = ("ce", "feature", "logit"), n_minibatches: int = 3) -> Result:
    """Of a distilled run; the last of several terms is in the method's own modules alone."""
    rng = np.random.default_rng(len(terms))
    gradients = rng.normal(0, 1, (n_minibatches, len(terms), 8))
    gradients[:, 2:][:, -1:] = 0
    norms = np.sqrt(np.square(gradients).reshape(n_minibatches, len(terms), 2, 4).sum(3))
    inner = gradients @ gradients.swapaxes(1, 2)
    shares = np.sqrt(np.einsum("ktt->kt", inner)).mean(0)
    low = np.array([[[0.9, 0.85, 0.95], [0.92, 0.9, 0.94], [0.9, 0.8, 0.95], [0.95, 0.9, 0.97]]])
    arrays = {
        "loss": rng.random((n_minibatches, len(terms))),
        "unweighted": np.array([2.3, *[0.4] * (len(terms) - 1)]),
        "inner": inner,
        "norms": np.concatenate([norms, rng.random((n_minibatches, len(terms), 1))], axis=2),
        "share": shares / shares.sum(),
        "cosine": np.array([1.0, *[-0.2] * (len(terms) - 2), *[np.nan] * (len(terms) > 1)]),
        "accuracy": np.concatenate([low, low / 2]),
        "epoch": np.array([1, 2]),
        "train_loss": np.array([2.3, 1.9]),
        "rate": np.array([0.1, 0.05]),
    }
    arrays["accuracy"][1, 3] = np.nan
    facts = {
        **{"run": "runs/dropkd", "method": "dropkd", "student": "resnet8", "teacher": "runs/vit", "data": "digits"},
        "weights": "those after 2 of 2 epochs",
        "course": "training loss 2.3 in epoch 1, 1.9 in epoch 2",
        "terms": list(terms),
        "task": terms[0],
        "options": ["method.ce_weight", *[None] * (len(terms) - 1)],
        "parts": ["student.stem", "student.layer1", "method.projection"],
        "networks": ["teacher", "student"],
        "views": ["training views", "training images", "test images", "test images, the teacher's own way"],
        "n_images": [512, 512, 359, 359],
        "undefined": [],
        "parameters": {"total": 78042, "frozen": 0, "unused": 0, "idle": 12},
        "idle": [],
        "batch_size": 64,
        "highest_rate": 0.1,
        "step_change": 0.01,
        "findings": [
            {
                "sentence": "the term 'feature' makes 96 % of the gradient",
                "advice": "less",
                "value": 0.96,
                "threshold": 0.9,
            }
        ],
    }
    return Result("diagnosis", arrays, facts, {**PROVENANCE, "run": "runs/dropkd"})
