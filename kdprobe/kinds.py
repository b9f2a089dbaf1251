"""The one schema of stored results: what each kind of them holds.

`save_result` and `load_result` check every result against it, so that readers need no checks of their own. Names of
dimensions are shared within a kind: `"teacher_layers"` is both the number of rows of CKA's matrix and the number of
its fact of that name.

To add a kind from a package of one's own, describe it, name it under the entry point `kdprobe.kinds`, and, if it has a
picture, name what draws that under `kdprobe.figures`; a kind without a picture is a table in the report:

    # rhymes/kinds.py
    from kdprobe.kinds import ORIGIN, SHARE, Kind, List, Text, Values

    RHYME = Kind(
        arrays={"purity": Values("poems lines", within=SHARE, nan="some")},
        facts={"poems": List(Text(), "poems"), "data": Text()},
        provenance=ORIGIN,
    )

    # setup.cfg
    [options.entry_points]
    kdprobe.kinds =
        rhyme = rhymes.kinds:RHYME
    kdprobe.figures =
        rhyme = rhymes.pictures:draw

`draw(result: kdprobe.results.Result) -> matplotlib.figure.Figure` gets a result that fits. A kind that no installed
package registers may hold any numbers and any JSON values; it is saved, loaded and shown as a table.
"""

from dataclasses import replace
from math import inf
from typing import Any

from kdprobe.errors import ResultError, meant
from kdprobe.formats.answer_kinds import ANSWER_KINDS
from kdprobe.formats.map_kind import MAP
from kdprobe.formats.null_kinds import EPOCHS_NULL_ARRAYS, EPOCHS_NULL_FACTS, NULL_ARRAYS, NULL_FACTS, NULL_TOGETHER
from kdprobe.formats.pieces import COUNT, COUNTED, NETWORK, ORIGIN, SHARE
from kdprobe.formats.schema import Anything, Dict, Fact, Flag, Kind, List, Maybe, Number, Record, Text, Values
from kdprobe.formats.tuning_kind import TUNED_COMPARISON
from kdprobe.packages import installed, offered

__all__ = [
    "COUNT", "KINDS", "OPEN", "ORIGIN", "SHARE", "Anything", "Dict", "Fact", "Flag", "Kind", "List", "Maybe", "Number",
    "Record", "Text", "Values", "find_kind", "installed", "kind_meant", "offered",
]  # fmt: skip

OPEN = Kind(open=True)

_LABEL = Text(longest=200)  # stands in pictures as it is
_NUMBER = Maybe(Number())
_DIFFERENCE = {"difference": _NUMBER, "low": _NUMBER, "high": _NUMBER}
_ORIGIN_OF_PAIR = {**ORIGIN, "data": Text(), "teacher": NETWORK, "student": NETWORK}
_PAIR = {"teacher": Text(), "student": Text(), "data": Text()}
_CONVENTIONS = ("parameters", "macs", "flops", "module_operations", "latency")
_MINIBATCHES = {
    **dict.fromkeys(("n_samples", "n_minibatches", "n_left_out", "batch_size", "permutations"), COUNTED),
    "kernel": _LABEL,
    "estimator": _LABEL,
    "weighting": Text(required=False),
    "confidence": Number(SHARE),
    "interval": Text(required=False),  # how it was found; in 0.1.0 by resampling minibatches
    "no_interval": Text(),
}
_ENDS, _FLAGS = Values("pairs interval", nan="some"), List(Flag(), "pairs", required=False)
_COMPONENTS = Values("pairs", "whole", within=COUNT, required=False)
_LAYERS = {"teacher_layers": List(Text(), "teacher_layers"), "student_layers": List(Text(), "student_layers")}
_PAIRS = {"teacher_layers": List(Text(), "pairs"), "student_layers": List(Text(), "pairs")}
_CELL = Record({"teacher_layer": Text(), "student_layer": Text(), "reason": Text()})
_CELLS = List(_CELL)
_LOW_HIGH = {end: Values("teacher_layers student_layers", nan="all", required=False) for end in ("low", "high")}
_GROUP = {
    "method": Text(),
    "model": Text(),
    "teacher": Maybe(Text()),
    "data": Text(),
    "evaluated_on": Maybe(Text()),
    "parameters": COUNTED,
    "runs": List(Text()),
    "sha256": List(List(Text())),
}
_P_VALUES: dict[str, Fact] = dict.fromkeys(("p_value", "adjusted_p_value"), Maybe(Number(SHARE)))
_COMPARED = {
    "quantity": Text(words=("accuracy", "uar", "cka")),
    **dict.fromkeys(("method", "other", "reason"), Text()),
    **_DIFFERENCE,
    **_P_VALUES,
}
_NEIGHBOUR = {"teacher_rate": Number(SHARE), "student_rate": Number(SHARE), **_DIFFERENCE}


def _of_both(**of: Any) -> dict[str, Any]:
    return {f"{who}_{name}": each for who in ("teacher", "student") for name, each in of.items()}


_OF_SAMPLES = {  # earlier results have none
    **dict.fromkeys(("index", "labels"), Values("samples", "whole", within=COUNT, required=False)),
    **_of_both(
        general_by_sample=Values("pairs samples", required=False),
        specific_by_sample=Values("pairs samples", within=COUNT, required=False),
    ),
}

KINDS = {
    **ANSWER_KINDS,
    "cka": Kind(
        arrays={
            "matrix": Values("teacher_layers student_layers", nan="all"),
            "low": Values("teacher_layers student_layers", nan="all", at_most="high"),
            "high": Values("teacher_layers student_layers", nan="all"),
            "hsic_xy": Values("minibatches teacher_layers student_layers"),
            "hsic_xx": Values("minibatches teacher_layers"),
            "hsic_yy": Values("minibatches student_layers"),
            **NULL_ARRAYS,
        },
        facts={
            **_PAIR,
            **_LAYERS,
            **_MINIBATCHES,
            "reduce": _LABEL,
            **NULL_FACTS,
            "until": Maybe(Number(COUNT), required=False),  # of 0.1.0
            "undefined": _CELLS,
        },
        provenance=_ORIGIN_OF_PAIR,
        together=NULL_TOGETHER,
    ),
    "cka-over-time": Kind(
        arrays={
            "epoch": Values("epochs", "whole", within=COUNT, rising=True),
            "cka": Values("pairs epochs", nan="all"),
            "low": Values("pairs epochs", nan="all", at_most="high"),
            "high": Values("pairs epochs", nan="all"),
            **EPOCHS_NULL_ARRAYS,
        },
        facts={
            **_PAIR,
            **_PAIRS,
            **_MINIBATCHES,
            **EPOCHS_NULL_FACTS,
            "undefined": List(Record({"pair": COUNTED, "epoch": COUNTED, "reason": Text()})),
            "missing_epochs": List(COUNTED, required=False),
        },
        provenance={**ORIGIN, "data": Text(), "run": Text(), "teacher": NETWORK},
        together=[tuple(EPOCHS_NULL_ARRAYS)],
    ),
    "comparison": Kind(
        arrays={
            "accuracy": Values("methods seeds", within=SHARE, nan="some"),
            "uar": Values("methods seeds", within=SHARE, nan="all"),
            "cka": Values("methods seeds", nan="all"),
        },
        facts={
            "methods": List(Text(), "methods"),
            "seeds": List(Number(whole=True), "seeds"),
            "teacher": Maybe(Text()),
            "teacher_accuracy": Maybe(Number(SHARE)),
            "data": Text(),
            "cka_layers": List(Text()),
            # the demo of 0.1.0 states none of these
            "n_images": List(Maybe(COUNTED), "methods", required=False),
            "budget_differences": Text(required=False),
            "groups": List(Record(_GROUP), "methods", required=False),
            "differences": List(Record(_COMPARED), required=False),
        },
        provenance={**ORIGIN, "runs": List(Text())},
    ),
    "complexity": Kind(
        arrays={
            "parameters": Values("names", "whole", within=COUNT),
            "macs": Values("names", "whole", within=COUNT),
            "flops": Values("names", "whole", within=COUNT),
            "module_operations": Values("names", "whole", within=COUNT),
            "batch_size": Values("batches", "whole", within=(1, inf), rising=True, required=False),
            "latency": Values("names batches interval", within=COUNT, required=False),  # seconds, with quartiles
        },
        facts={
            "names": List(Text(), "names"),
            "n_classes": List(COUNTED, "names"),
            "image_size": List(COUNTED, "names"),
            "conventions": Record({key: Text(required=key != "latency") for key in _CONVENTIONS}),
            "parts": List(List(List(Anything(), "3")), "names"),
        },
        provenance={**ORIGIN, "models": List(Text(), "names")},
        together=[("batch_size", "latency")],
    ),
    "diagnosis": Kind(
        arrays={
            "loss": Values("minibatches terms", nan="all"),  # NaN where it is not finite, and so below
            "unweighted": Values("terms", nan="all"),
            "inner": Values("minibatches terms terms", nan="all"),
            "norms": Values("minibatches terms parts", within=COUNT, nan="all"),
            "share": Values("terms", within=SHARE, nan="all"),
            "cosine": Values("terms", within=(-1.0, 1.0), nan="all"),
            "accuracy": Values("networks views interval", within=SHARE, nan="all"),
            "epoch": Values("epochs", "whole", within=COUNT, rising=True, required=False),
            "train_loss": Values("epochs", nan="all", required=False),
            "rate": Values("epochs", within=COUNT, required=False),
        },
        facts={
            **dict.fromkeys(("run", "method", "student", "data", "weights", "course"), Text()),
            "teacher": Maybe(Text()),
            "terms": List(Text(), "terms"),
            "task": Maybe(Text()),
            "options": List(Maybe(Text()), "terms"),
            "parts": List(Text(), "parts"),
            "networks": List(Text(words=("teacher", "student")), "networks"),
            "views": List(Text(), "views"),
            "n_images": List(COUNTED, "views"),
            "undefined": List(Record({"network": Text(), "view": Text(), "reason": Text()})),
            "parameters": Record(dict.fromkeys(("total", "frozen", "unused", "idle"), COUNTED)),
            "idle": List(Text()),
            "batch_size": COUNTED,
            "highest_rate": Number(COUNT),
            "step_change": Maybe(Number(COUNT)),
            "findings": List(Record({"sentence": Text(), "advice": Text(), "value": Number(), "threshold": Number()})),
        },
        provenance={**ORIGIN, "data": Text(), "run": Text()},
        together=[("epoch", "train_loss", "rate")],
    ),
    "dropout-sweep": Kind(
        arrays={"accuracy": Values("rates_teacher rates_student seeds", within=SHARE, nan="some")},
        facts={
            "kind": Text(words=("feature", "logit")),
            "rates_teacher": List(Number(SHARE), "rates_teacher", rising=True),
            "rates_student": List(Number(SHARE), "rates_student", rising=True),
            "student": Text(),
            "data": Text(),
            # of sweeps, not of published numbers:
            "seeds": List(Number(whole=True), "seeds", required=False),
            "teacher": Maybe(Text(), required=False),
            "fixed_rates": Dict(_NUMBER, required=False),
            "n_images": Maybe(COUNTED, required=False),
            "n_missing": Number(COUNT, whole=True, required=False),
            "confidence": Number(SHARE, required=False),
            "equal_rate": List(
                Record(
                    {
                        "fixed": Text(words=("teacher", "student")),
                        "rate": Number(SHARE),
                        "other": Number(SHARE),
                        "wins": Flag(),
                        **_DIFFERENCE,
                    }
                ),
                required=False,
            ),
            "best": Record(
                {
                    "teacher_rate": Number(SHARE),
                    "student_rate": Number(SHARE),
                    "mean": Number(SHARE),
                    "neighbours": List(Record(_NEIGHBOUR)),
                    "distinguishable": Maybe(Flag()),
                },
                required=False,
            ),
        },
        provenance={**ORIGIN, "sweep": Text(), "config": Record()},
    ),
    "examples": Kind(
        arrays={
            "images": Values("2 images height width 3", "uint8"),
            "index": Values("2 images", "whole", within=COUNT),
            "labels": Values("2 images", "whole", index="classes"),
            "specific": Values("2 images", within=COUNT),
            "other": Values("2 images", within=COUNT),
        },
        facts={
            **_PAIR,
            "teacher_layer": Text(),
            "student_layer": Text(),
            "classes": List(Text(), "classes"),
            "method": Text(required=False),
            "reduce": Text(required=False),
        },
        provenance={**ORIGIN, "data": Text()},
    ),
    "knowledge": Kind(
        arrays={
            **_of_both(general=_ENDS, specific=_ENDS, by_fold=Values("pairs folds", nan="some")),
            "dimension": Values("pairs", within=COUNT, nan="all"),
            "cka": Values("pairs parts interval", nan="all"),
            **_of_both(rank=_COMPONENTS, used=_COMPONENTS, held=Values("pairs", within=SHARE, required=False)),
            **_of_both(probe=Values("pairs parts interval", nan="all", required=False)),
            "rates": Values("rates", within=SHARE, rising=True, required=False),
            **_of_both(by_rate=Values("pairs rates interval", nan="some", required=False)),
            **_OF_SAMPLES,
        },
        facts={
            **_PAIR,
            **_PAIRS,
            "method": _LABEL,
            "reduce": Text(required=False),
            "folds": COUNTED,
            "seed": Number(whole=True),
            "confidence": Number(SHARE),
            "n_samples": COUNTED,
            "n_independent": Number(COUNT, whole=True, required=False),
            **_of_both(lower_bound=_FLAGS, sample_limited=_FLAGS),
            "parts": List(Text(), "parts"),
            "undefined": List(Record({"pair": COUNTED, "quantity": Text(), "reason": Text()})),
            "left_out": List(_CELL, required=False),
        },
        provenance={**ORIGIN, **dict.fromkeys(("teacher", "student"), replace(NETWORK, required=False))},
        together=[
            ("teacher_probe", "student_probe"),
            tuple(_of_both(rank=None, used=None, held=None)),
            ("rates", "teacher_by_rate", "student_by_rate"),
            tuple(_OF_SAMPLES),
        ],
    ),
    "knowledge-comparison": Kind(
        arrays={**_of_both(general=Values("names pairs interval", nan="some"))},
        facts={
            **_PAIRS,
            "names": List(Text(), "names"),
            "students": List(Text(), "names"),
            "teacher": Text(),
            "data": Text(),
            "method": _LABEL,
            "confidence": Number(SHARE),
            **_of_both(lower_bound=List(List(Flag(), "pairs"), "names", required=False)),
        },
        provenance={**ORIGIN, "of": List(Record())},
    ),
    "map": MAP,
    "similarity": Kind(
        arrays={"matrix": Values("teacher_layers student_layers", nan="all"), **_LOW_HIGH, **NULL_ARRAYS},
        facts={
            **_PAIR,
            **_LAYERS,
            **NULL_FACTS,
            **{key: Text(required=False) for key in ("interval", "no_interval")},
            "measure": _LABEL,
            "reduce": _LABEL,
            "n_samples": COUNTED,
            "neighbours": Number((1.0, inf), whole=True, required=False),
            "chance": Number(SHARE, required=False),
            "undefined": _CELLS,
            "remarks": _CELLS,
        },
        provenance=_ORIGIN_OF_PAIR,
        together=[*NULL_TOGETHER, ("low", "high")],
    ),
    "training": Kind(
        arrays={
            "epoch": Values("epochs", "whole", within=COUNT, rising=True),
            "train_loss": Values("names epochs", nan="all"),
            "accuracy": Values("names epochs", within=SHARE, nan="all"),
        },
        facts={"names": List(Text(), "names"), "sizes": List(Dict(COUNTED), "names", required=False)},
        provenance={**ORIGIN, "runs": List(Text(), "names")},
    ),
    "tuned-comparison": TUNED_COMPARISON,
}


def kind_meant(name: str) -> str:
    """What a kind that nothing registers may be a mistake for, in words; empty where it is registered, or is like none.

    Example:
        >>> from kdprobe.kinds import kind_meant
        >>> kind_meant("ckaa"), kind_meant("rhyme")
        ("; did you mean 'cka'?", '')
    """
    if name in KINDS or name in (added := offered("kdprobe.kinds")):
        return ""
    return meant(name, KINDS.keys() | added, limit=1)


def find_kind(name: str) -> Kind:
    """The schema of a kind: kdprobe's own, what an installed package registers, or `OPEN`, which takes anything.

    Raises:
        ResultError: if what is registered cannot be imported, or is no `Kind`.

    Example:
        >>> from kdprobe.kinds import find_kind
        >>> find_kind("cka").arrays["matrix"].dims, find_kind("rhyme").open
        ('teacher_layers student_layers', True)
    """
    found = KINDS.get(name) or installed("kdprobe.kinds", name, ResultError) or OPEN
    if not isinstance(found, Kind):
        raise ResultError(
            f"what is registered as {name!r} must be a kdprobe.kinds.Kind, but is a {type(found).__name__}"
        )
    return found
