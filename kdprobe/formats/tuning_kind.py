"""What a fair comparison of methods holds: trials on held-out images, what was chosen, and final trainings."""

from kdprobe.formats.pieces import COUNT, COUNTED, ORIGIN, SHARE
from kdprobe.formats.schema import Anything, Dict, Fact, Kind, List, Maybe, Number, Record, Text, Values

_NUMBER, _P_VALUE = Number(), Number(SHARE)


def _differences(number: Fact, p_value: Fact) -> List:
    return List(
        Record(
            {
                **dict.fromkeys(("quantity", "method", "other", "reason"), Text()),
                **dict.fromkeys(("difference", "low", "high"), number),
                **dict.fromkeys(("p_value", "adjusted_p_value"), p_value),
            }
        )
    )


TUNED_COMPARISON = Kind(
    arrays={
        "held_out": Values("methods trials", within=SHARE, nan="some"),  # NaN where a training diverged
        "expected": Values("methods trials interval", within=SHARE),  # the best of 1, 2, ... trials
        "chosen": Values("methods", "whole", index="trials"),
        "accuracy": Values("methods seeds", within=SHARE, nan="some"),
        "published": Values("methods seeds", within=SHARE, nan="some", required=False),
        "trial_seconds": Values("methods trials", within=COUNT, nan="some"),
        "trial_teacher_images": Values("methods trials", within=COUNT, nan="some"),
        "seconds": Values("methods seeds", within=COUNT, nan="some"),
        "teacher_images": Values("methods seeds", within=COUNT, nan="some"),
    },
    facts={
        "methods": List(Text(), "methods"),
        "seeds": List(Number(whole=True), "seeds"),
        "trials": List(List(Dict(Anything()), "trials"), "methods"),
        "sources": List(Text(), "methods"),
        "student": Text(),
        "teacher": Maybe(Text()),
        "teacher_accuracy": Maybe(Number(SHARE)),
        "data": Text(),
        "evaluated_on": Text(),
        "n_images": COUNTED,
        "n_held_out": COUNTED,
        "holdout": Number(SHARE),
        "epochs": COUNTED,
        "trial_epochs": COUNTED,
        "confidence": Number(SHARE),
        "chosen_at": Text(),
        "tested_before": COUNTED,
        "differences": _differences(Maybe(_NUMBER), Maybe(_P_VALUE)),  # None for what could not be tested
        # tests with one variance for all methods; not in files of 0.1.0, nor where there are none
        "pooled": Record(
            {
                "deviation": Number(COUNT),
                "freedom": COUNTED,
                "detectable": Number(COUNT),
                "differences": _differences(_NUMBER, _P_VALUE),
            },
            required=False,
        ),
    },
    provenance={**ORIGIN, "folders": List(Text())},
)
