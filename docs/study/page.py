"""Write the tables of `docs/study/index.md`, and that of the README, from the results beside this file.

    python docs/study/page.py

What stands between two marks, `<!-- table: NAME -->` and `<!-- end -->`, is made anew; a table whose results are not
there says so.
"""

import csv
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray
from published_grids import N_IMAGES, Noise, noise_of, p_of_range, published_grids

from figures.paper.write import published_table
from figures.pictures.compound import READING_LABELS
from kdprobe.distillers import DISTILLERS
from kdprobe.mean_interval import detectable_difference, holm, worded, worded_interval, worded_p_value
from kdprobe.results import Result, load_result
from kdprobe.runs.differences import Compared, against, differences, worded_difference
from kdprobe.runs.pooled import Pooled, pooled_differences
from kdprobe.tuning.words import chosen_rows, note, pooled_note, pooled_rows, summary_rows

HERE = Path(__file__).parent
PAGE = HERE / "index.md"
README = HERE.parents[1] / "README.md"
RESULTS = HERE / "results"
MARKED = re.compile(r"<!-- table: (.+?) -->\n.*?<!-- end -->", re.DOTALL)
REFERENCE = "dropkd-without-dropout"
PUBLISHED = {"KD": "kd", "FitNet": "fitnet", "AT": "at", "RKD": "rkd", "DKD": "dkd", "DropKD": "dropkd"}
OURS = {
    "dinov2-resnet8": "DINOv2 ViT-S/14 to ResNet8, 50 classes",
    "cifar-resnet8": "ResNet20 to ResNet8, a fifth of CIFAR-10",
    "dinov2-mobilenetv2": "DINOv2 ViT-S/14 to MobileNetV2, 50 classes",
    "headless-resnet8": "DINOv2 ViT-S/14 without a head to ResNet8, 50 classes",
    "ferplus-resnet18": "DINOv2 ViT-S/14 to ResNet18, FER+",
    "ferplus-mobilenetv2": "DINOv2 ViT-S/14 to MobileNetV2, FER+",
}
READINGS = {
    "dropkd": "one mask for both networks; elements; in front of classifiers of the projection",
    "dropkd-independent": "a mask for each network",
    "dropkd-channels": "whole channels",
    "dropkd-logits": "class logits, the dropped ones left out of the distributions",
}
#: DropKD without dropout as it was published, beside a comparison in which that was chosen for it with dropout alone
UNTUNED = ("ferplus-published", "ferplus-resnet18", "DINOv2 ViT-S/14 to ResNet18, FER+, both as published")
#: what the student learns from: its labels, DropKD's classifier and reconstruction too, and the teacher too
LEARNS = {
    "plain": "plain training",
    "dropkd-without-transfer": "with DropKD's classifier and reconstruction, of the student alone",
    REFERENCE: "with the teacher's features and logits too (DropKD without dropout)",
}
_RIGHT = {"accuracy": "accuracy", "uar": "UAR"}
_DRAWS = 2000

Rows = Sequence[dict[str, str]]


def page(path: Path = PAGE) -> str:
    """A page with the tables of today."""
    return MARKED.sub(lambda found: _made(found.group(1)), path.read_text(encoding="utf-8"))


def _made(name: str) -> str:
    kind, _, about = name.partition(" ")
    try:
        text = TABLES[kind](about)
    except FileNotFoundError as error:
        text = f"*Not measured yet: there is no {Path(error.filename).relative_to(RESULTS.parent)}.*"
    return f"<!-- table: {name} -->\n{text}\n<!-- end -->"


def comparison(name: str) -> str:
    """Accuracies of all methods of a comparison, and how they differ from `kd` and `plain`."""
    result = _result(f"{name}/comparison.npz")
    remarks = [f"* {one['reason']}" for one in result.facts["remarks"]]
    return "\n".join([note(result), "", *markdown(list(summary_rows(result))), *([""] if remarks else []), *remarks])


def together(name: str) -> str:
    """The same differences, if the noise of a seed is as large for all methods: one variance from all of them."""
    result = _result(f"{name}/comparison.npz")
    return "\n".join([*markdown(list(pooled_rows(result))), "", pooled_note(result)])


def dropout(_: str) -> str:
    """DropKD with dropout minus the same without it, in each comparison that has both; Holm's p over all of these."""
    rows, tests, scatter = [], [], []
    for setting, result, table, methods, without in _with_and_without():
        pair, n_images = table[[methods.index("dropkd"), methods.index(without)]], result.facts["n_images"]
        named = dict.fromkeys(("dropkd", without), "dropkd")
        (paired,) = differences({"accuracy": pair}, named, [n_images] * 2, baseline=without)
        together = pooled_differences(table, methods, [("dropkd", without)])
        assert together is not None, "trainings of several seeds scatter"
        tests.append((paired, together.differences[0]))
        scatter.append((together.deviation * np.sqrt(2 / table.shape[1]), together.freedom))
        rows.append(
            {
                "setting": setting,
                "rates": _rates(result),
                "with dropout %": worded_interval(pair[0], scale=100, n_images=n_images),
                "without %": worded_interval(pair[1], scale=100, n_images=n_images),
            }
        )
    if not rows:
        return "*Not measured yet.*"
    for title, entries in zip(("difference, paired", "with one variance"), zip(*tests, strict=True), strict=True):
        for row, words in zip(rows, _over_table(entries, scale=100), strict=True):
            row[title] = words
    for row, (error, freedom) in zip(rows, scatter, strict=True):
        least = detectable_difference(error, freedom, tests=len(tests))
        row["found with a probability of 80 %"] = f"{100 * least:.1f} points"
    return "\n".join(markdown(rows))


def _with_and_without() -> Iterator[tuple[str, Result, ndarray, list[str], str]]:
    """Settings, their results, accuracies [methods, seeds] and methods, and which of these has no dropout."""
    for name, setting in OURS.items():
        if (RESULTS / name / "comparison.npz").exists():
            result = _result(f"{name}/comparison.npz")
            yield setting, result, result.arrays["accuracy"], result.facts["methods"], REFERENCE
    untuned, name, setting = UNTUNED
    if (RESULTS / untuned / "comparison.npz").exists():
        result, other = (_result(f"{one}/comparison.npz") for one in (name, untuned))
        assert result.arrays["chosen"][result.facts["methods"].index("dropkd")] == 0, "it is as published, too"
        table = np.concatenate([result.arrays["accuracy"], other.arrays["accuracy"]])
        yield setting, result, table, [*result.facts["methods"], "as published"], "as published"


def _over_table(entries: Sequence[Compared], **shown: Any) -> list[str]:
    """Differences in words, with Holm's p over all of these together."""
    adjusted = holm(np.array([np.nan if one["p_value"] is None else one["p_value"] for one in entries]))
    return [
        worded_difference({**one, "adjusted_p_value": float(p_value)}, **shown)
        for one, p_value in zip(entries, adjusted, strict=True)
    ]


def _rates(result: Result) -> str:
    """The rates that were chosen for DropKD: of features and of logits, the teacher's and the student's."""
    place = result.facts["methods"].index("dropkd")
    chosen = result.facts["trials"][place][int(result.arrays["chosen"][place])]
    published = DISTILLERS["dropkd"].Options().model_dump()
    rates = [
        [chosen.get(f"method.{kind}_rate_{who}", published[f"{kind}_rate_{who}"]) for who in ("teacher", "student")]
        for kind in ("feature", "logit")
    ]
    return "; ".join(f"{teacher:.2g}, {student:.2g}" for teacher, student in rates)


def parts(name: str) -> str:
    """DropKD beside itself without its features or without its logits."""
    result = _result(f"{name}/comparison.npz")
    methods, n_images = result.facts["methods"], result.facts["n_images"]
    shown = ["dropkd", "dropkd-feature", "dropkd-logit"]
    table = result.arrays["accuracy"][[methods.index(method) for method in shown]]
    compared = differences({"accuracy": table}, dict.fromkeys(shown, "dropkd"), [n_images] * 3, baseline=shown[0])
    paired = {entry["method"]: worded_difference(entry, scale=100) for entry in compared}
    together = pooled_differences(result.arrays["accuracy"], methods, [(one, shown[0]) for one in shown[1:]])
    pooled = (
        {entry["method"]: worded_difference(entry, scale=100) for entry in together.differences} if together else {}
    )
    rows = [
        {
            "method": method,
            "accuracy %": worded_interval(values, scale=100, n_images=n_images),
            "minus both parts, paired": paired.get(method, ""),
            "with one variance": pooled.get(method, ""),
        }
        for method, values in zip(shown, table, strict=True)
    ]
    return "\n".join(markdown(rows))


def readings(name: str) -> str:
    """DropKD with dropout as its text may be read otherwise, each beside the same without dropout."""
    result = _result(f"{name}/comparison.npz")
    methods, n_images = result.facts["methods"], result.facts["n_images"]
    of = dict(zip(methods, result.arrays["accuracy"], strict=True))
    pairs = [(method, _undropped(method)) for method in methods if method in READINGS]
    paired, pooled, together = _both_ways(result, pairs)
    rows = [
        {
            "reading": READINGS[method],
            "with dropout %": worded_interval(of[method], scale=100, n_images=n_images),
            "without %": worded_interval(of[without], scale=100, n_images=n_images),
            "difference, paired": paired[method],
            "with one variance": pooled[method],
        }
        for method, without in pairs
    ]
    least = (
        f"With one variance for all ({together.freedom} degrees of freedom, a standard deviation of "
        f"{100 * together.deviation:.2f} points) a true difference of {100 * together.detectable:.1f} points would "
        f"have been found with a probability of 80 % by the strictest of these {len(pairs)} tests."
    )
    return "\n".join([*markdown(rows), "", least])


def transfer(name: str) -> str:
    """What DropKD's student owes to its own classifier and reconstruction, and what to the teacher."""
    result = _result(f"{name}/comparison.npz")
    of = dict(zip(result.facts["methods"], result.arrays["accuracy"], strict=True))
    paired, pooled, _ = _both_ways(result, [(one, other) for other, one in pairwise(LEARNS)])
    return "\n".join(
        markdown(
            [
                {
                    "the student learns": label,
                    "accuracy %": worded_interval(of[method], scale=100, n_images=result.facts["n_images"]),
                    "minus the row above, paired": paired.get(method, ""),
                    "with one variance": pooled.get(method, ""),
                }
                for method, label in LEARNS.items()
            ]
        )
    )


def _both_ways(result: Result, pairs: Sequence[tuple[str, str]]) -> tuple[dict[str, str], dict[str, str], Pooled]:
    """Differences of pairs of methods in words, by the first of each: paired by seed, and with one variance."""
    table, methods = result.arrays["accuracy"], result.facts["methods"]
    named, n_images = dict.fromkeys(methods, "dropkd"), [result.facts["n_images"]] * len(methods)
    together = pooled_differences(table, methods, pairs)
    assert together is not None, "trainings of several seeds scatter"
    paired, pooled = (
        {entry["method"]: worded_difference(entry, scale=100) for entry in entries}
        for entries in (differences({"accuracy": table}, named, n_images, pairs=pairs), together.differences)
    )
    return paired, pooled, together


def _undropped(method: str) -> str:
    """The same reading without dropout, in which masks do not matter."""
    return "dropkd-logits-without-dropout" if method == "dropkd-logits" else REFERENCE


def published(_: str) -> str:
    """What each method gains over plain training: as published, and in our comparisons."""
    gains: dict[str, dict[str, str]] = {}
    for table in ("table1", "table2", "table3"):
        cells = published_table(table).cells
        for row in dict.fromkeys(cell.row for cell in cells):
            numbers = {cell.column: Decimal(cell.value) for cell in cells if cell.row == row}
            told = {name: f"{number - numbers['Student']:+}" for name, number in numbers.items() if name in PUBLISHED}
            gains[f"{row} ({table.replace('table', 'Table ')})"] = told
    numbers = {cell.row: Decimal(cell.value) for cell in published_table("table4").cells if cell.column == "Accuracy"}
    for student in ("ResNet18", "MobileNetV2"):
        gain = {"DropKD": f"{numbers[f'{student} + DropKD'] - numbers[student]:+}"}
        gains[f"ViT-L/14 to {student}, the teacher inferred (Table 4)"] = gain
    for name, setting in OURS.items():
        if (RESULTS / name / "comparison.npz").exists():
            found = {
                row["method"]: row.get("minus plain", "") for row in summary_rows(_result(f"{name}/comparison.npz"))
            }
            gains[setting] = {label: found.get(method, "") for label, method in PUBLISHED.items()}
    return "\n".join(
        markdown(
            [{"setting": setting} | {name: of.get(name, "") for name in PUBLISHED} for setting, of in gains.items()]
        )
    )


def short(name: str) -> str:
    """Accuracies, and differences from plain training, of a few methods, a column each."""
    shown = ("plain", "kd", "dkd", "dist", "fitnet", "cka", "dropkd", REFERENCE)
    of = {row["method"]: row for row in summary_rows(_result(f"{name}/comparison.npz"))}
    rows = [{"": key} | {method: of[method].get(key, "") for method in shown} for key in ("tuned %", "minus plain")]
    return "\n".join(markdown(rows)).replace("tuned %", "accuracy, %")


def chosen(name: str) -> str:
    """The settings that were chosen."""
    return "\n".join(markdown(list(chosen_rows(_result(f"{name}/comparison.npz")))))


def rates(kind: str) -> str:
    """Accuracies by equal rates of both networks, and what each differs from no dropout."""
    found, n_images = _of_rates(kind)
    table = np.stack(list(found.values()))
    compared = differences({"accuracy": table}, dict.fromkeys(found, "dropkd"), [n_images] * len(found), baseline="0")
    against = {entry["method"]: worded_difference(entry, scale=100) for entry in compared}
    swept = {
        _setting(one, rate): values for one in ("feature", "logit") for rate, values in _of_rates(one)[0].items()
    }  # the published rates are in both
    pairs = [(_setting(kind, rate), _setting(kind, "0")) for rate in against]
    together = pooled_differences(np.stack(list(swept.values())), list(swept), pairs)
    assert together is not None, "trainings of several seeds scatter"
    pooled = {entry["method"]: worded_difference(entry, scale=100) for entry in together.differences}
    rows = [
        {
            "rate": rate,
            "accuracy %": worded_interval(values, scale=100, n_images=n_images),
            "minus rate 0, paired": against.get(rate, ""),
            "with one variance": pooled.get(_setting(kind, rate), ""),
        }
        for rate, values in found.items()
    ]
    least = (
        f"With one variance for all {len(swept)} settings of the sweep ({together.freedom} degrees of freedom, a "
        f"standard deviation of {100 * together.deviation:.2f} points) it would have been "
        f"{100 * together.detectable:.1f} points."
    )
    return "\n".join([*markdown(rows), "", f"{_power(table - table[:1], len(compared))} {least}"])


def _of_rates(kind: str) -> tuple[dict[str, ndarray], int]:
    """Accuracies over seeds by equal rate, and the number of test images."""
    result = _result(f"rates-dropout-{kind}.npz")
    shares = result.arrays["accuracy"]
    return {f"{rate:g}": shares[place, place] for place, rate in enumerate(result.facts["rates_teacher"])}, int(
        result.facts["n_images"]
    )


def _setting(kind: str, rate: str) -> str:
    """The name of one setting of the sweep: rates of the other kind are the published ones."""
    return "published" if rate == "0.5" else f"{kind} {rate}"


def _power(paired: ndarray, n_tests: int) -> str:
    """The smallest difference that so many seeds would have shown."""
    n_seeds = paired.shape[1]
    deviation = float(np.sqrt(paired[1:].var(axis=1, ddof=1).mean()))
    error = deviation / np.sqrt(n_seeds)
    least = detectable_difference(error, n_seeds - 1, tests=n_tests)
    return (
        f"A true difference of {100 * least:.1f} points would have been found with a probability of 80 % by the "
        f"strictest of these {n_tests} tests ({n_seeds} seeds; differences of single seeds have a standard deviation "
        f"of {100 * deviation:.2f} points)."
    )


def inside(name: str) -> str:
    """What the last stages share with the teacher's, by method, and how methods differ from DropKD without dropout.

    Holm's p values are over all methods and quantities together.
    """
    values = last_stages(name)
    methods = list(next(iter(values.values())))
    tables = {
        quantity: np.array([list(of_seeds.values()) for of_seeds in of.values()]) for quantity, of in values.items()
    }
    named = dict.fromkeys(methods, "dropkd")
    entries = [
        {**entry, "quantity": quantity}
        for quantity, table in tables.items()
        for entry in differences({"cka": table}, named, [None] * len(methods), baseline=REFERENCE)
    ]
    compared = {
        (entry["quantity"], entry["method"]): words
        for entry, words in zip(entries, _over_table(entries, digits=3), strict=True)
    }
    rows = [
        {"method": method}
        | {
            quantity: f"{worded_interval(table[place], digits=3)}; {compared.get((quantity, method), 'the reference')}"
            for quantity, table in tables.items()
        }
        for place, method in enumerate(methods)
    ]
    last = _last(name).replace(" ", "` and `")
    return "\n".join([f"Teacher's and student's last stage, `{last}`:", "", *markdown(rows)])


def stages(name: str) -> str:
    """What DropKD's students share at each stage, and how that differs from the same without dropout.

    Holm's p values are over all stages and quantities together.
    """
    measured = at_stages(name)
    quantities = list(measured[_last(name)])
    places = [(stage, quantity) for stage in measured for quantity in quantities]
    rows = {
        (*place, method): list(measured[place[0]][place[1]][method].values())
        for place in places
        for method in ("dropkd", REFERENCE)
    }
    named = {" ".join(row): "dropkd" for row in rows}
    pairs = [(" ".join((*place, "dropkd")), " ".join((*place, REFERENCE))) for place in places]
    compared = differences({"cka": np.array(list(rows.values()))}, named, [None] * len(rows), pairs=pairs)
    told = {
        place: f"{worded_interval(np.array(rows[*place, 'dropkd']), digits=3)}; {worded_difference(entry, digits=3)}"
        for place, entry in zip(places, compared, strict=True)
    }
    return "\n".join(
        markdown(
            [
                {"stages": "`" + stage.replace(" ", "`, `") + "`"} | {key: told[stage, key] for key in quantities}
                for stage in measured
            ]
        )
    )


def at_stages(name: str) -> dict[str, dict[str, dict[str, dict[int, float]]]]:
    """What was measured at each pair of stages, by quantity, method and seed."""
    found: dict[str, dict[str, dict[str, dict[int, float]]]] = {}
    for row in _networks():
        if row["comparison"] == name and row["stages"]:
            of = found.setdefault(row["stages"], {}).setdefault(row["quantity"], {})
            of.setdefault(row["method"], {})[int(row["seed"])] = float(row["value"])
    return found


def last_stages(name: str) -> dict[str, dict[str, dict[int, float]]]:
    """What was measured of the last stages, by quantity, method and seed."""
    return at_stages(name)[_last(name)]


def accuracies(name: str) -> dict[str, dict[int, float]]:
    """Accuracy on the test images, by method and seed."""
    found: dict[str, dict[int, float]] = defaultdict(dict)
    for row in _networks():
        if row["comparison"] == name and row["quantity"] == "accuracy":
            found[row["method"]][int(row["seed"])] = float(row["value"])
    return found


def _last(name: str) -> str:
    measured = list(at_stages(name))
    if not measured:
        raise FileNotFoundError(2, "", str(RESULTS / name / "networks.csv"))
    return measured[-1]


def answers(name: str) -> str:
    """Agreement with the teacher, also where it is wrong."""
    result = _result(f"{name}/fidelity.npz")
    wanted = ("accuracy", "agreement", "agreement_wrong", "same_error", "jensen_shannon")
    places = [result.facts["quantities"].index(quantity) for quantity in wanted]
    labels, scales, called = result.facts["labels"], result.facts["scales"], methods_of(name, result)
    order = _result(f"{name}/comparison.npz").facts["methods"]
    rows = [
        {"method": f"{called[group]} ({role})"}
        | {
            labels[place]: worded(ends[place], scale=scales[place], digits=1 if scales[place] > 1 else 3)
            for place in places
        }
        for group, role, ends in zip(
            result.facts["groups"], result.facts["group_roles"], result.arrays["means"].tolist(), strict=True
        )
    ]
    rows.sort(key=lambda row: order.index(row["method"].rpartition(" (")[0]))
    told = [f"* {_renamed(verdict, called)}." for verdict in result.facts["verdicts"]]
    told.sort(key=lambda verdict: [order.index(word) for word in verdict.split() if word in order][1::-1])
    return "\n".join([*markdown(rows), "", *told])


def recalls(name: str) -> str:
    """Accuracy and unweighted average recall (UAR) by method, and how the recalls differ from `kd` and `plain`."""
    result = _result(f"{name}/evaluation.npz")
    n_images, trained = int(result.facts["n_images"]), by_method(name, result)
    tables = {key: _of_methods(result.arrays[key], trained) for key in ("accuracy", "uar")}
    methods = list(trained)
    pairs = against(methods, ("kd", "plain"))
    compared = differences({"uar": tables["uar"]}, dict.fromkeys(methods, ""), [n_images] * len(methods), pairs=pairs)
    both = [*compared, *map(_turned, compared)]
    minus = {
        f"UAR minus {baseline}": {
            entry["method"]: worded_difference(entry, scale=100) for entry in both if entry["other"] == baseline
        }
        for baseline in ("kd", "plain")
    }
    teacher = {"method": "the teacher"} | {
        f"{label} %": worded(result.arrays[key][0].tolist(), scale=100) for key, label in _RIGHT.items()
    }
    rows = [
        {"method": method}
        | {
            f"{label} %": worded_interval(tables[key][place], scale=100, n_images=n_images)
            for key, label in _RIGHT.items()
        }
        | {column: of.get(method, "") for column, of in minus.items()}
        for place, method in enumerate(methods)
    ]
    return "\n".join(markdown([teacher | dict.fromkeys(minus, ""), *rows]))


def _turned(entry: dict[str, Any]) -> dict[str, Any]:
    """A difference the other way round."""
    ends = {"difference": -entry["difference"], "low": -entry["high"], "high": -entry["low"]}
    return {**entry, "method": entry["other"], "other": entry["method"], **ends}


def compound(name: str) -> str:
    """How well both halves of a pair of emotions are recognised, by method."""
    result = _result(f"{name}/compound.npz")
    n_images, trained = int(result.facts["n_images"]), by_method(name, result)
    tables = {f"{label} %": result.arrays[key] for key, label in READING_LABELS.items()}
    teacher = {label: worded(table[0].tolist(), scale=100) for label, table in tables.items()}
    rows = [
        {"method": method}
        | {
            label: worded_interval(_of_methods(table, trained)[place], scale=100, n_images=n_images)
            for label, table in tables.items()
        }
        for place, method in enumerate(trained)
    ]
    return "\n".join(markdown([{"method": "the teacher"} | teacher, *rows]))


def by_method(name: str, result: Result) -> dict[str, list[int]]:
    """The places of each method's networks in a result, by seed; those of no method, as the teacher, are left out."""
    trained = {row["network"]: row for row in _networks() if row["comparison"] == name}
    runs = [Path(one["checkpoint"]).name for one in result.provenance["models"]]
    ordered = sorted((int(trained[run]["seed"]), place) for place, run in enumerate(runs) if run in trained)
    found: dict[str, list[int]] = {row["method"]: [] for row in trained.values()}
    for _, place in ordered:
        found[trained[runs[place]]["method"]].append(place)
    return found


def _of_methods(values: ndarray, trained: dict[str, list[int]]) -> ndarray:
    """The values [networks, (value, low, high)] of each method's networks [methods, seeds]."""
    return np.stack([values[places, 0] for places in trained.values()])


def methods_of(name: str, fidelity: Result) -> dict[str, str]:
    """What the comparison calls each group of networks, which their own settings tell apart in more words."""
    of_run = {row["network"]: row["method"] for row in _networks() if row["comparison"] == name}
    runs = [Path(one["checkpoint"]).name for one in fidelity.provenance["models"]]
    return {group: of_run[run] for run, group in zip(runs, fidelity.facts["of_group"], strict=True)}


def methods_on_map(name: str, result: Result) -> list[str | None]:
    """What the comparison calls the method of each network on a map; None for the teacher."""
    of_run = {row["network"]: row["method"] for row in _networks() if row["comparison"] == name}
    runs = [Path(one["checkpoint"]).name for one in result.provenance["networks"]]
    return [of_run.get(run, method) for run, method in zip(runs, result.facts["methods"], strict=True)]


def _renamed(text: str, called: dict[str, str]) -> str:
    for group in sorted(called, key=len, reverse=True):
        text = text.replace(f" {group} ", f" {called[group]} ")
    return text


def predicts(name: str) -> str:
    """Whether what is alike inside says which student is better: rank correlation over all students."""
    found, accuracy = last_stages(name), accuracies(name)
    rows = []
    for quantity, values in found.items():
        pairs = [
            (method, accuracy[method][seed], value)
            for method, of_seeds in values.items()
            for seed, value in of_seeds.items()
        ]
        rows.append(
            {"over all students": quantity, "rank correlation with accuracy": _correlation(pairs)}
            | {"without plain": _correlation([pair for pair in pairs if pair[0] != "plain"])}
        )
    return "\n".join(markdown(rows))


def _correlation(pairs: Sequence[tuple[str, float, float]]) -> str:
    """Spearman's, with the interval of a bootstrap over methods, whose seeds stay together."""
    by_method: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for method, accuracy, value in pairs:
        by_method[method].append((accuracy, value))
    groups, generator = list(by_method.values()), np.random.default_rng(0)
    values = np.array([pair for group in groups for pair in group])
    member = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    drawn = generator.integers(len(groups), size=(_DRAWS, len(groups)))
    times = np.stack([np.bincount(chosen, minlength=len(groups))[member] for chosen in drawn])
    low, high = np.nanquantile(_spearman(values, times), [0.025, 0.975])
    return f"{_spearman(values, np.ones((1, len(values))))[0]:+.2f} [{low:+.2f}, {high:+.2f}]"


def _spearman(values: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Rank correlations [draws] of two columns [n, 2], each pair of which is there so many times [draws, n]."""
    ranks = [times @ ((one[:, None] < one) + 0.5 * (one[:, None] == one)) for one in values.T]  # up to a constant
    a, b = (rank - ((times * rank).sum(1) / times.sum(1))[:, None] for rank in ranks)
    with np.errstate(invalid="ignore"):
        return (times * a * b).sum(1) / np.sqrt((times * a * a).sum(1) * (times * b * b).sum(1))


def apart(name: str) -> str:
    """Whether methods cluster, or seeds, and which methods have their nearest neighbours among others."""
    lines, result = [], _result(f"{name}/map.npz")
    for one in result.facts["groupings"]:
        given = "seeds" if one["of"] == "methods" else "methods"
        what = f"* {one['of'].capitalize()}, given {given}"
        lines.append(
            f"{what}: not tested ({one['reason']})."
            if one["share"] is None
            else f"{what}: {100 * one['share']:.1f} % of the squared distances{_by_chance(result, one)} "
            f"(PERMANOVA, p = {one['p_value']:.2g}, {one['n_networks']} networks)."
        )
    called = methods_on_map(name, result)
    students = [place for place, method in enumerate(called) if method is not None]
    methods = [called[place] for place in students]
    alike = result.arrays["similarity"][np.ix_(students, students)].copy()
    np.fill_diagonal(alike, -np.inf)
    found: dict[str, Counter[str]] = {method: Counter() for method in dict.fromkeys(methods)}
    for method, nearest in zip(methods, alike.argmax(1).tolist(), strict=True):
        found[method][methods[nearest]] += 1
    same = sum(of[method] for method, of in found.items())
    others = [
        f"{method} ({', '.join(f'{other} {count}' for other, count in sorted(of.items()) if other != method)})"
        for method, of in sorted(found.items())
        if of[method] < of.total()
    ]
    among = f"; others of {'; '.join(others)}" if others else ""
    lines.append(f"* The most similar other student is one of the same method for {same} of {len(methods)}{among}.")
    return "\n".join(lines)


def _by_chance(result: Result, grouping: dict[str, Any]) -> str:
    """What chance gives one grouping of a map, in words; empty where the other one was not tested."""
    (other,) = (one for one in result.facts["groupings"] if one["of"] != grouping["of"])
    if other["share"] is None:
        return ""
    groups = {of: len({label for label in result.facts[of] if label is not None}) for of in ("methods", "seeds")}
    share = share_by_chance(other["share"], groups[grouping["of"]], groups[other["of"]])
    return f", where chance gives {100 * share:.1f} %"


def share_by_chance(other: float, n_groups: int, n_others: int) -> float:
    """The mean share of squared distances between groups, over all exchanges of networks within the other groups.

    Args:
        other: share of the other grouping.
        n_groups: number of groups; each has one network in each of the other groups.
        n_others: number of the other groups.
    """
    return (1 - other) * (n_groups - 1) / (n_groups * n_others - n_others)


def grids(_: str) -> str:
    """The published grids beside the noise of our own runs."""
    settings = ("dinov2-resnet8", "ferplus-resnet18", "ferplus-mobilenetv2")
    noises = {name: _noise(name) for name in settings if (RESULTS / name / "fidelity.npz").exists()}
    rows = []
    for grid in published_grids():
        row = {
            "figure": f"{grid.name[-1]} ({grid.kind} rates, {grid.n_cells} cells)",
            "range": f"{grid.range:.2f} points",
            "noise that gives it once in 20 grids": f"{grid.enough:.2f} points",
        }
        for name, noise in noises.items():
            deviation = 100 * noise.deviation(N_IMAGES)
            as_large, as_small = map(worded_p_value, p_of_range(grid, deviation))
            row[f"noise of {name}"] = f"{deviation:.2f} points: as large {as_large}, as small {as_small}"
        row["equal rates minus others"] = f"{grid.on_diagonal:+.2f} points (p = {grid.p_diagonal:.2g})"
        rows.append(row)
    return "\n".join(markdown(rows))


def _noise(name: str) -> Noise:
    """Of all methods of a comparison together, from the answers of their seeds."""
    result = _result(f"{name}/fidelity.npz")
    right = result.arrays["predictions"] == result.arrays["targets"]
    of_group = np.array(result.facts["of_group"])
    groups = [right[of_group == group] for group in dict.fromkeys(of_group.tolist())]
    return noise_of([group for group in groups if len(group) > 1])


def markdown(rows: Rows) -> Iterator[str]:
    """Rows with the same keys as a table, in which a number and its interval, or `p` and its value, stay on a line."""
    for cells in (list(rows[0]), ["---"] * len(rows[0]), *(list(row.values()) for row in rows)):
        yield re.sub(r" ([±=<]) ", "\N{NO-BREAK SPACE}\\1\N{NO-BREAK SPACE}", "| " + " | ".join(cells) + " |")


def _result(name: str) -> Result:
    path = RESULTS / name
    if not path.exists():
        raise FileNotFoundError(2, "", str(path))
    return load_result(path)


def _networks() -> list[dict[str, Any]]:
    path = RESULTS / "networks.csv"
    if not path.exists():
        raise FileNotFoundError(2, "", str(path))
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


TABLES: dict[str, Callable[[str], str]] = {
    "comparison": comparison,
    "together": together,
    "chosen": chosen,
    "short": short,
    "dropout": dropout,
    "parts": parts,
    "readings": readings,
    "transfer": transfer,
    "published": published,
    "rates": rates,
    "inside": inside,
    "stages": stages,
    "answers": answers,
    "recalls": recalls,
    "compound": compound,
    "predicts": predicts,
    "apart": apart,
    "grids": grids,
}

if __name__ == "__main__":
    for path in (PAGE, README):
        path.write_text(page(path), encoding="utf-8")
