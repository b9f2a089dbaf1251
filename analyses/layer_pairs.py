"""Pairs of a teacher layer and a student layer: how they are matched, and their table."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kdprobe.errors import AnalysisError

if TYPE_CHECKING:
    import pandas as pd

_Cell = Mapping[str, str]  # teacher_layer, student_layer, reason


def match_layers(teacher: Sequence[str], student: Sequence[str], chosen: Sequence[str] = ()) -> list[tuple[str, str]]:
    """Pairs of layers.

    Args:
        teacher: its layers, shallow to deep.
        student: its layers, shallow to deep.
        chosen: `TEACHER=STUDENT` pairs; without any, each student layer goes with the teacher layer at the same
            relative depth.

    Raises:
        AnalysisError: for a pair that is not two of the layers.
    """
    if not chosen:
        return [(teacher[max(round((i + 1) / len(student) * len(teacher)) - 1, 0)], s) for i, s in enumerate(student)]
    pairs = []
    for text in chosen:
        one, _, other = text.partition("=")
        if one not in teacher or other not in student:
            raise AnalysisError(
                f"{text!r} is not TEACHER=STUDENT of the teacher's layers {', '.join(teacher)} and the student's "
                f"layers {', '.join(student)}"
            )
        pairs.append((one, other))
    return pairs


def pairs_table(
    teacher_layers: Sequence[str],
    student_layers: Sequence[str],
    values: Mapping[str, NDArray[Any]],
    reasons: Mapping[str, Iterable[_Cell]],
) -> "pd.DataFrame":
    """One row per pair of layers.

    Args:
        teacher_layers: rows of each array.
        student_layers: columns of each array.
        values: arrays [Lt, Ls] by the names of their columns in the table.
        reasons: cells, each with a text that stands in the table's column of that name; empty for other pairs.

    Returns:
        teacher_layer, student_layer, and one column for each of the values and reasons.
    """
    import pandas as pd

    rows, columns = np.indices((len(teacher_layers), len(student_layers))).reshape(2, -1)
    pairs = [(teacher_layers[row], student_layers[column]) for row, column in zip(rows, columns, strict=True)]
    texts = {
        name: {(cell["teacher_layer"], cell["student_layer"]): cell["reason"] for cell in cells}
        for name, cells in reasons.items()
    }
    return pd.DataFrame(
        {
            "teacher_layer": [row for row, _ in pairs],
            "student_layer": [column for _, column in pairs],
            **{name: array.ravel() for name, array in values.items()},
            **{name: [known.get(pair, "") for pair in pairs] for name, known in texts.items()},
        }
    )
