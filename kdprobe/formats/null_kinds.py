"""What a result of layers' similarity keeps of its permutation null, where it was calibrated."""

from math import inf

from kdprobe.formats.schema import Maybe, Number, Record, Text, Values

_SHARE = (0.0, 1.0)
NULL_RANGES = {
    "null_mean": (-inf, inf),
    "null_deviation": (0.0, inf),
    "threshold": (-inf, inf),
    "calibrated": (-inf, inf),
    "p_values": _SHARE,
    "p_adjusted": _SHARE,
}

#: of each pair of layers, and of the best one for each layer of the student
NULL_ARRAYS = {
    prefix + name: Values(dims, within=within, nan="all", required=False)
    for prefix, dims in (("", "teacher_layers student_layers"), ("student_", "student_layers"))
    for name, within in NULL_RANGES.items()
}
NULL_TOGETHER = [tuple(name for name in NULL_ARRAYS if name != "p_values")]  # p values come from permutations alone
_MADE = {"alpha": Number(_SHARE), "permutations": Number((1.0, inf), whole=True), "correction": Text()}
#: how it was made, and the best of all pairs
NULL_FACTS = {
    "calibration": Record(
        {**_MADE, "best": Record({name: Maybe(Number(within)) for name, within in NULL_RANGES.items()})}, required=False
    )
}
#: the same of pairs of layers over epochs
EPOCHS_NULL_ARRAYS = {
    name: Values("pairs epochs", within=within, nan="all", required=False) for name, within in NULL_RANGES.items()
}
EPOCHS_NULL_FACTS = {"calibration": Record(_MADE, required=False)}
