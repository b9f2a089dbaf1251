"""What a network's output holds: logits, or the features of a network without a classifier, in a tuple or mapping.

    logits_in(model(images), model_info(model))

A tensor is what it is. In a tuple, a mapping (transformers' outputs) or a named tuple, the field counts that
`ModelInfo.output` names; without it, the one that is obvious.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from kdprobe.errors import ModelError
from kdprobe.models.creation import ModelInfo

#: fields that hold logits, and those that hold the features of a network without a classifier, the best one first
_LOGITS = ("logits",)
_FEATURES = ("pooler_output", "image_embeds", "last_hidden_state")
Field = str | int


def logits_in(output: Any, info: ModelInfo) -> Tensor:
    """The logits in what a network gives.

    Args:
        output: what it gives.
        info: what is known of it.

    Returns:
        [B, C]; of a network without a classifier, an empty tensor [B, 0].

    Raises:
        ModelError: as `answer_in`.
    """
    answer = answer_in(output, info)
    return answer if info.n_classes else answer.new_empty(len(answer), 0)


def answer_in(output: Any, info: ModelInfo) -> Tensor:
    """The tensor that counts in what a network gives.

    Args:
        output: what it gives.
        info: what is known of it.

    Returns:
        logits [B, C]; of a network without a classifier its features, [B, d], or a map or tokens.

    Raises:
        ModelError: if there is no such tensor, or if several could be it.
    """
    found = _chosen(output, info)
    if isinstance(found, Tensor) and found.is_floating_point():
        return found
    if isinstance(found, Tensor):
        raise ModelError(
            f"network {info.name!r} gives numbers of {found.dtype}, but logits must be real floating-point numbers"
        )
    wanted = "logits [images, classes]" if info.n_classes else "features [images, d]"
    raise ModelError(
        f"network {info.name!r} gives a {_described(output)}, but {wanted} are needed; say where they are, as in "
        "output='logits' or output=0 of kdprobe.describe (on the command line in a function of yours that builds it, "
        "MODULE:FUNCTION@FILE), or model.output; wrap a network that has them deeper inside"
    )


def field_of(output: Any, field: Field, name: str) -> Any:
    """A field of an output, or what stands at a place of it; a tensor is itself.

    Networks that give more in training than in evaluation, such as GoogLeNet, give a mere tensor in one of them.

    Raises:
        ModelError: naming the network, if there is none.
    """
    if isinstance(output, Tensor):
        return output
    try:
        if isinstance(output, Mapping):
            return output[field]
        return getattr(output, field) if isinstance(field, str) else output[field]
    except (LookupError, AttributeError, TypeError) as error:
        raise ModelError(
            f"network {name!r} gives a {_described(output)}, which has no {field!r}; give as output= (output: in a "
            "recipe) the field, or the place in a tuple, that holds the logits"
        ) from error


def features_in(output: Any) -> Tensor | None:
    """The features in an output whose fields tell them, as those of transformers' networks without a head do."""
    fields = {} if isinstance(output, Tensor) else _fields(output)
    named = () if any(name in fields for name in _LOGITS) else _FEATURES
    return next((fields[name] for name in named if isinstance(fields.get(name), Tensor)), None)


def _chosen(output: Any, info: ModelInfo) -> Any:
    """What the description names, or what is obvious; None if nothing is."""
    if info.output is not None:
        return field_of(output, info.output, info.name)
    if isinstance(output, Tensor):
        return output
    fields = _fields(output)
    if not info.n_classes and (features := features_in(output)) is not None:
        return features
    for name in _LOGITS:
        if isinstance(fields.get(name), Tensor):
            return fields[name]
    rows = [value for value in fields.values() if isinstance(value, Tensor) and value.is_floating_point()]
    fitting = [value for value in rows if value.ndim == 2 and info.n_classes in (0, value.shape[1])]
    return fitting[0] if len(fitting) == 1 else None


def _fields(output: Any) -> dict[Field, Any]:
    """What a mapping, a named tuple, a tuple or a data class holds, by field or place."""
    if isinstance(output, Mapping):
        return dict(output)
    if hasattr(output, "_asdict"):
        return dict(output._asdict())
    if isinstance(output, list | tuple):
        return dict(enumerate(output))
    return dict(getattr(output, "__dict__", {}))


def _described(output: Any) -> str:
    fields = _fields(output)
    inside = [
        f"{name!r} {list(value.shape)}" if isinstance(value, Tensor) else f"{name!r} ({type(value).__name__})"
        for name, value in fields.items()
    ]
    return f"{type(output).__name__} of {', '.join(inside)}" if inside else type(output).__name__
