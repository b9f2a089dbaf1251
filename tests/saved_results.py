"""Small results of every kind, as the analyses save them, for the tests of figures and report."""

import numpy as np

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
