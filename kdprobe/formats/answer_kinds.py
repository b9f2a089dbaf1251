"""The kinds of results about networks' answers to images; `kdprobe.kinds` has them among all."""

from kdprobe.formats.pieces import COUNT, COUNTED, NETWORK, ORIGIN, SHARE
from kdprobe.formats.schema import Flag, Kind, List, Maybe, Number, Record, Text, Values

_ROLE = Text(words=("student", "control"))
_ORIGIN_OF_MODELS = {**ORIGIN, "data": Text(), "models": List(Record({"sha256": Maybe(Text())}), "names")}
_PROBE = {
    "kind": Text(words=("linear", "knn")),
    "words": List(Text(), "names"),
    "n_images": List(COUNTED, "names"),  # that it learnt from
    "dimension": List(COUNTED, "names"),
    "C": List(Number(COUNT), "names", required=False),
    "converged": List(Flag(), "names", required=False),
    "held_out": Number(SHARE, required=False),
    "neighbours": Number(COUNT, whole=True, required=False),
    "temperature": Number(COUNT, required=False),
}

ANSWER_KINDS = {
    "compound": Kind(
        arrays={
            "both": Values("names interval", within=SHARE),
            "single": Values("names interval", within=SHARE),
            "single_top2": Values("names interval", within=SHARE),
            "by_class": Values("names classes 3", within=SHARE, nan="all"),
        },
        facts={
            "names": List(Text(), "names"),
            "classes": List(Text(), "classes"),
            "data": Text(),
            "n_images": COUNTED,
            "confidence": Number(SHARE),
            "exclude_neutral": Flag(),
            "interval": Text(),
            "undefined": Text(),
        },
        provenance=_ORIGIN_OF_MODELS,
    ),
    "evaluation": Kind(
        arrays={
            "confusion": Values("names classes classes", "whole", within=COUNT),
            "targets": Values("images", "whole", index="classes"),
            "predictions": Values("names images", "whole", index="classes"),
            "confidences": Values("names images", within=SHARE),
            "accuracy": Values("names interval", within=SHARE),
            "uar": Values("names interval", within=SHARE),
            "ece": Values("names interval", within=(-1.0, 1.0)),  # intervals once reached below 0
            "recall": Values("names classes interval", within=SHARE, nan="all"),
            "precision": Values("names classes interval", within=SHARE, nan="all"),
            "accuracy_difference": Values("names 2", within=(-1.0, 1.0), required=False),
            "uar_difference": Values("names 2", within=(-1.0, 1.0), required=False),
        },
        facts={
            "names": List(Text(), "names"),
            "classes": List(Text(), "classes"),
            "data": Text(),
            "evaluated_on": Text(),
            "n_images": COUNTED,
            "confidence": Number(SHARE),
            "against": Maybe(Text()),
            "interval": Text(),
            "undefined": Text(),
            "probe": Record(_PROBE, required=False),
        },
        provenance=_ORIGIN_OF_MODELS,
        together=[("accuracy_difference", "uar_difference")],
    ),
    "fidelity": Kind(
        arrays={
            "values": Values("names quantities interval", nan="some"),
            "means": Values("groups quantities interval", nan="some"),
            "differences": Values("pairs quantities interval", nan="all", required=False),
            "p_values": Values("pairs quantities", within=SHARE, nan="all", required=False),
            "adjusted": Values(
                "pairs quantities", within=SHARE, nan="all", required=False
            ),  # by Holm, over all of them
            "teacher_accuracy": Values("interval", within=SHARE),
            "targets": Values("images", "whole", index="classes"),
            "teacher_predictions": Values("images", "whole", index="classes"),
            "predictions": Values("names images", "whole", index="classes"),
        },
        facts={
            **{key: List(Text(), "names") for key in ("names", "of_group")},
            "roles": List(_ROLE, "names"),
            "seeds": List(Maybe(Number(whole=True)), "names"),
            "groups": List(Text(), "groups"),
            "group_roles": List(_ROLE, "groups"),
            "quantities": List(Text(), "quantities"),
            "labels": List(Text(), "quantities"),
            "scales": List(Number(COUNT), "quantities"),  # 100 where percent are shown
            "classes": List(Text(), "classes"),
            **{key: Text() for key in ("teacher", "data", "evaluated_on", "interval", "tests")},
            "n_images": COUNTED,
            "temperature": Number(COUNT),
            "confidence": Number(SHARE),
            "pairs": List(Record({"one": Text(), "other": Text(), "by": Text(), "n": COUNTED})),
            "verdicts": List(Text()),
            "untested": List(Record({"one": Text(), "other": Text(), "reason": Text()})),
            "undefined": List(Record({"network": Text(), "quantity": Text(), "reason": Text()})),
        },
        provenance={**_ORIGIN_OF_MODELS, "teacher": NETWORK},
        together=[("differences", "p_values", "adjusted")],
    ),
    "images": Kind(
        arrays={
            "thumbnails": Values("shown height width 3", "uint8"),
            "shown": Values("shown", "whole", index="images", rising=True),  # those that have a thumbnail
            "targets": Values("images", "whole", index="classes"),
            "predictions": Values("names images", "whole", index="classes"),
            "confidences": Values("names images", within=SHARE),
            "margins": Values("names images", within=(-1.0, 1.0)),
            "coordinates": Values("names images 2"),
            "shares": Values("names 2", within=SHARE, nan="all"),  # of the variance, on each axis
        },
        facts={
            "names": List(Text(), "names"),
            "roles": List(Text(words=("teacher", "student")), "names"),
            "classes": List(Text(), "classes"),
            "paths": List(Text(), "images", required=False),
            **{key: Text() for key in ("data", "evaluated_on")},
            "projection": Text(words=("pca", "umap")),
            "n_images": COUNTED,
            "seed": Number(whole=True),
        },
        provenance=_ORIGIN_OF_MODELS,
    ),
    "inherited-errors": Kind(
        arrays={
            "images": Values("images height width 3", "uint8"),
            "index": Values("images", "whole", within=COUNT),
            "group": Values("images", "whole", index="groups"),
            "labels": Values("images", "whole", index="classes"),
            "answers": Values("images", "whole", index="classes"),
            "students": Values("images", within=SHARE),
            "controls": Values("images", within=SHARE, nan="all"),
            "confidence": Values("images", within=SHARE),
            "counts": Values("groups 2", within=COUNT, nan="some"),
        },
        facts={
            "groups": List(Text(), "groups"),
            "classes": List(Text(), "classes"),
            **{key: Text() for key in ("teacher", "data")},
            "n_controls": COUNTED,
            "n_teacher_wrong": COUNTED,
        },
        provenance={**_ORIGIN_OF_MODELS, "models": List(Record({"sha256": Maybe(Text())})), "teacher": NETWORK},
    ),
    "reliability": Kind(
        arrays={
            "edges": Values("bins+1", within=SHARE, rising=True),
            "count": Values("names bins", "whole", within=COUNT),
            "confidence": Values("names bins", within=SHARE, nan="some"),
            "accuracy": Values("names bins", within=SHARE, nan="some"),
            "ece": Values("names", within=SHARE),
            "targets": Values("images", "whole", within=COUNT, required=False),
            "bins": Values("names images", "whole", index="bins", required=False),
        },
        facts={
            "names": List(Text(), "names"),
            "data": Text(),
            "evaluated_on": Text(),
            "n_images": COUNTED,
            "undefined": Text(),
        },
        provenance=_ORIGIN_OF_MODELS,
        together=[("targets", "bins")],
    ),
}
