"""Fidelity as a table, and in words: what the tests say of the teacher's function and of accuracy."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy import ndarray

from analyses.fidelity.comparisons import Comparisons
from analyses.fidelity.quantities import FIDELITIES
from kdprobe.results import Result

LEVEL = 0.05  # of the tests that words speak of
_COPIES = "agreement_wrong"  # a more accurate network has less of it, unless it takes over the teacher's mistakes


def fidelity_table(result: Result) -> pd.DataFrame:
    """One row for each number: of networks, of methods, and of the differences of methods."""
    arrays, facts = result.arrays, result.facts
    rows: list[dict[str, Any]] = []
    for what, names, roles, values in (
        ("network", facts["names"], facts["roles"], arrays["values"]),
        ("method", facts["groups"], facts["group_roles"], arrays["means"]),
    ):
        for name, role, of_one in zip(names, roles, values, strict=True):
            rows += [{"of": what, "name": name, "role": role, **_numbers(*pair)} for pair in _named(of_one)]
    for place, pair in enumerate(facts["pairs"]):
        tests = [arrays[key][place] for key in ("p_values", "adjusted")]
        for number, (quantity, ends) in enumerate(_named(arrays["differences"][place])):
            row = {"of": "difference", "name": pair["one"], "minus": pair["other"], "paired_by": pair["by"]}
            rows.append({**row, **_numbers(quantity, ends), "p_value": tests[0][number], "holm": tests[1][number]})
    return pd.DataFrame(rows)


def fidelity_summary(result: Result) -> str:
    """A table for reading, one line per method, then what the tests say."""
    facts, arrays = result.facts, result.arrays
    table = {"": [quantity.label for quantity in FIDELITIES.values()]}
    for name, role, ends in zip(facts["groups"], facts["group_roles"], arrays["means"], strict=True):
        title = name if role == "student" else f"{name} [control]"
        table[title] = [with_interval(*pair) for pair in _named(ends)]
    accuracy = with_interval("accuracy", arrays["teacher_accuracy"])
    lines = [
        f"compared with {facts['teacher']}: accuracy {accuracy} % on {facts['n_images']} images of {facts['data']}",
        pd.DataFrame(table).to_string(index=False),
        f"shares in %, with {100 * facts['confidence']:g} % intervals; divergence in nats, at temperature "
        f"{facts['temperature']:g}",
        *facts["verdicts"],
    ]
    return "\n".join([*lines, *(entry["reason"] for entry in facts["remarks"])])


def verdicts(compared: Comparisons, controls: Collection[str], untaught: Collection[str] = ()) -> Iterator[str]:
    """What the tests say of each method of students beside each of controls: the teacher's function, or accuracy.

    Args:
        compared: the tests.
        controls: names of the methods of controls.
        untaught: names of methods that did not learn from this teacher, or not from its answers to the same images.
    """
    for pair, differences, adjusted in zip(compared.pairs, compared.differences, compared.adjusted, strict=True):
        if pair["other"] not in controls:
            continue
        differ = {
            name: (value > 0) != (name == "jensen_shannon")
            for name, (value, *_), p_value in zip(FIDELITIES, differences, adjusted, strict=True)
            if p_value < LEVEL
        }
        above = [name for name, more in differ.items() if more]
        closer, further = (
            ", ".join(FIDELITIES[name].label for name, more in differ.items() if more == wanted and name != "accuracy")
            for wanted in (True, False)
        )
        told = f"Beside {pair['other']} ({pair['n']} {pair['by']}s), {pair['one']}"
        lost = -100 * differences[list(FIDELITIES).index("accuracy"), 0]
        if _COPIES in above and lost > 0 and "same_error" not in above:
            yield (
                f"{told} makes more of the teacher's mistakes, but gets {lost:.1f} points fewer images right, which "
                "brings mistakes in common by itself; it is not shown to have learnt its function"
            )
        elif _COPIES in above and pair["one"] in untaught:
            yield f"{told} makes more of the teacher's mistakes, although it did not learn its answers"
        elif _COPIES in above:
            yield f"{told} makes more of the teacher's mistakes: it has learnt its function, not only its accuracy"
        elif closer and further:
            yield f"{told} is closer to the teacher in one way ({closer}) and further from it in another ({further})"
        elif further:
            yield f"{told} is further from the teacher ({further})"
        elif closer:
            yield f"{told} is closer to the teacher ({closer}), but is not shown to make more of its mistakes"
        elif "accuracy" in above:
            yield f"{told} is more accurate, but is not shown to be closer to the teacher"
        else:
            yield f"{told} is not shown to be closer to the teacher"


def undefined_in_words(undefined: Sequence[Mapping[str, str]]) -> Iterator[str]:
    """Why quantities have no value or no interval, once for all networks that it is true of."""
    networks: dict[tuple[str, str], list[str]] = {}
    for entry in undefined:
        networks.setdefault((entry["quantity"], entry["reason"]), []).append(entry["network"])
    for (quantity, reason), names in networks.items():
        whose = names[0] if len(names) == 1 else f"{len(names)} networks"
        yield f"{FIDELITIES[quantity].label}, {whose}: {reason}"


def with_interval(quantity: str, ends: ndarray) -> str:
    """A number and its interval, shares in percent: `96.4 [94.1, 97.9]`; `-` where it is not defined."""
    scale = FIDELITIES[quantity].scale
    value, low, high = ends * scale
    digits = 1 if scale > 1 else 3
    if np.isnan(value):
        return "-"
    return f"{value:z.{digits}f}" + ("" if np.isnan(low) else f" [{low:z.{digits}f}, {high:z.{digits}f}]")


def _named(values: ndarray) -> Iterator[tuple[str, ndarray]]:
    return zip(FIDELITIES, values, strict=True)


def _numbers(quantity: str, ends: ndarray) -> dict[str, Any]:
    return {"quantity": quantity, **dict(zip(("value", "low", "high"), ends.tolist(), strict=True))}
