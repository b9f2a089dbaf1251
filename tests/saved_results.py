"""Small results of every kind, as the analyses save them, for the tests of figures and report."""

import numpy as np

from analyses.dropout import best_against_neighbours, equal_rates
from kdprobe.results import Result

PROVENANCE = {
    "seed": 0,
    "data": "digits",
    "versions": {"python": "3.11.2", "kdprobe": "0.1.0", "torch": "2.15.0"},
    "command": "kdprobe cka --teacher runs/vit --student runs/resnet8",
}


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
        "n_samples": 360,
        "batch_size": 90,
        "n_minibatches": 4,
        "n_left_out": 0,
        "kernel": "linear",
        "estimator": "unbiased",
        "confidence": 0.95,
        "data": "digits",
    }
    return Result("cka", {"matrix": matrix, "low": matrix - 0.03, "high": matrix + 0.03}, facts, PROVENANCE)


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
        "targets": targets,
        "predictions": predictions,
    }
    classes = [str(index) for index in range(n_classes)]
    facts = {"names": list(names), "classes": classes, "data": "digits", "confidence": 0.95}
    return Result("evaluation", arrays, facts, PROVENANCE)


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
    return Result("comparison", {"accuracy": accuracy, "uar": accuracy - 0.002, "cka": cka}, facts, PROVENANCE)


def dropout_result(
    n_seeds: int = 3, rates: tuple[float, ...] = (0.3, 0.4, 0.5, 0.6, 0.7), *, answered: bool = False
) -> Result:
    """A sweep over rates; `answered` with what `analyses.dropout` says of it."""
    rng = np.random.default_rng(3)
    teacher, student = np.meshgrid(rates, rates, indexing="ij")
    means = 0.89 - 0.2 * (teacher - student) ** 2 - 0.1 * (student - 0.5) ** 2
    accuracy = means[..., None] + 0.002 * rng.standard_normal((*means.shape, n_seeds))
    accuracy[-1, 0] = np.nan
    facts = {"kind": "feature", "rates_teacher": list(rates), "rates_student": list(rates), "data": "digits"}
    if answered:
        both = rates, rates
        facts |= {"equal_rate": equal_rates(accuracy, both), "best": best_against_neighbours(accuracy, both)}
    return Result("dropout-sweep", {"accuracy": accuracy}, facts, PROVENANCE)


def training_result(names: tuple[str, ...] = ("teacher", "plain", "kd", "dropkd"), n_epochs: int = 12) -> Result:
    rng = np.random.default_rng(5)
    epoch = np.arange(1, n_epochs + 1)
    falling = np.exp(-epoch / 4) * (1 + 0.2 * np.arange(len(names)))[:, None]
    accuracy = 0.97 - 0.6 * falling + 0.01 * rng.standard_normal(falling.shape)
    loss = 2.3 * falling
    loss[0, n_epochs // 2 :] = accuracy[0, n_epochs // 2 :] = np.nan
    arrays = {"epoch": epoch, "train_loss": loss, "accuracy": accuracy}
    return Result("training", arrays, {"names": list(names)}, PROVENANCE)


def knowledge_result(n_pairs: int = 3, *, measured: bool = False, rates: bool = False, name: str = "resnet8") -> Result:
    """A decomposition; `measured` with dimensions, CKA and probes, some of them undefined; `rates` as by DropKD."""
    value = np.linspace(-0.01, 0.8, n_pairs)
    interval = np.stack([value, value - 0.03, value + 0.03], axis=1)
    facts = {
        "teacher": "vit_tiny",
        "student": name,
        "teacher_layers": [f"blocks.{index}" for index in range(n_pairs)],
        "student_layers": [f"layer{index + 1}" for index in range(n_pairs)],
        "confidence": 0.95,
        "method": "ridge",
        "data": "digits",
    }
    arrays = {"teacher_general": interval, "student_general": np.abs(interval[::-1])}
    if measured:
        parts = np.stack([interval + shift for shift in (0.1, 0.05, 0.0)], axis=1)
        parts[0, 1] = np.nan
        arrays |= {
            "dimension": np.arange(n_pairs) * 100.0,
            "cka": parts,
            "teacher_probe": parts,
            "student_probe": parts,
        }
    if rates:
        kept = np.stack([interval - rate for rate in (0.0, 0.5, 0.9)], axis=1)
        arrays |= {"rates": np.array([0.0, 0.5, 0.9]), "teacher_by_rate": kept, "student_by_rate": kept - 0.1}
    return Result("knowledge", arrays, facts, PROVENANCE)


def knowledge_comparison_result(names: tuple[str, ...] = ("plain", "kd", "dropkd"), n_pairs: int = 4) -> Result:
    """General fractions of several students at equal layers."""
    one = knowledge_result(n_pairs)
    shifts = 0.02 * np.arange(len(names))[:, None, None]
    arrays = {key: array + shifts for key, array in one.arrays.items()}
    facts = {**one.facts, "names": list(names), "students": ["resnet8"] * len(names)}
    return Result("knowledge-comparison", arrays, facts, PROVENANCE)


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
    arrays = {"edges": edges, "accuracy": accuracy, "count": count, "ece": ece}
    return Result("reliability", arrays, {"names": list(names), "data": "digits"}, PROVENANCE)


def over_time_result(n_pairs: int = 4, n_epochs: int = 8) -> Result:
    epoch = np.arange(1, n_epochs + 1)
    cka = np.linspace(0.3, 0.9, n_pairs)[:, None] * (1 - np.exp(-epoch / 3))
    cka[0, 0] = np.nan
    facts = {
        "teacher": "vit_tiny",
        "student": "resnet8",
        "teacher_layers": [f"blocks.{index}" for index in range(n_pairs)],
        "student_layers": [f"layer{index}" for index in range(n_pairs)],
        "data": "digits",
    }
    return Result("cka-over-time", {"epoch": epoch, "cka": cka}, facts, PROVENANCE)


def compound_result(names: tuple[str, ...] = ("plain", "dropkd")) -> Result:
    value = np.linspace(0.3, 0.36, len(names))
    arrays = {
        key: np.stack([value, value - 0.03, value + 0.03], axis=1) + shift
        for key, shift in (("both", 0.0), ("single", 0.4), ("single_top2", 0.58))
    }
    facts = {"names": list(names), "data": "rafdb-compound:x", "confidence": 0.95, "n_images": 792}
    return Result("compound", arrays, facts, PROVENANCE)


def complexity_result() -> Result:
    keys = ("parameters", "macs", "flops", "module_operations")
    arrays = {key: np.array([11_180_000, 2_230_000]) * (index + 1) for index, key in enumerate(keys)}
    conventions = {key: f"how {key} are counted" for key in keys}
    facts = {
        "names": ["resnet18", "mobilenetv2_100"],
        "n_classes": [7, 7],
        "image_size": [224, 224],
        "conventions": conventions,
    }
    return Result("complexity", arrays, facts, PROVENANCE)


def similarity_result(n_teacher: int = 4, n_student: int = 5) -> Result:
    result = cka_result(n_teacher, n_student)
    facts = {**result.facts, "measure": "Procrustes similarity", "reduce": "gap"}
    return Result("similarity", {"matrix": result.arrays["matrix"]}, facts, result.provenance)
