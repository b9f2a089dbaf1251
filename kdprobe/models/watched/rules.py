"""What each of torch's operations makes of the meaning of axes."""

from collections.abc import Callable, Sequence
from math import isqrt
from typing import Any

from torch import Tensor

from kdprobe.models.watched.axes import (
    CHANNEL,
    COLUMN,
    POSITIONS,
    PREFIX,
    ROW,
    TOKEN,
    UNKNOWN,
    Axes,
    Axis,
    Meaning,
    fresh,
    label,
    merged,
    permuted,
    rerooted,
    resampled,
    reshaped,
    size,
    unknown,
)
from kdprobe.models.watched.operation import Operation, first, is_first, kept, nothing, with_prefix
from kdprobe.models.watched.token_rules import cat, part_of, split, stack, unbind


def derive(operation: Operation, made: Sequence[Tensor]) -> list[Meaning]:
    """The meaning of each result."""
    rule = _RULES.get(operation.name)
    if rule is None:
        rule = _pool if "pool" in operation.name else _elementwise
    try:
        found = rule(operation, made)
    except (LookupError, TypeError, ValueError, AttributeError):  # arguments in a form that the rule does not know
        return nothing(operation, made)
    fit = len(found) == len(made) and all(len(m.axes) == one.ndim for m, one in zip(found, made, strict=True))
    return found if fit else nothing(operation, made)


def _elementwise(operation: Operation, made: Sequence[Tensor]) -> list[Meaning]:
    found = []
    for one in made:
        shape = tuple(one.shape)
        fit = [m for _, m, was in operation.entered if _broadcasts(was, shape)]
        if not fit:
            found.append(Meaning(unknown(shape)))
            continue
        axes = merged([m.axes for m in fit], shape)
        meaning = with_prefix(axes, fit)._replace(pooled=all(m.pooled for m in fit))
        found.append(_as_token(operation, meaning, shape) if "add" in operation.name else meaning)
    return found


def _as_token(operation: Operation, meaning: Meaning, shape: tuple[int, ...]) -> Meaning:
    """What is added to a token, is that token."""
    if len(shape) != 3 or label(meaning.axes[1]) not in ("1", UNKNOWN):
        return meaning
    for value in operation.args[:2]:
        role = operation.role(value) if isinstance(value, Tensor) else None
        if role not in (None, "other") and value.shape[-2:] == shape[-2:]:
            axes = (meaning.axes[0], fresh(PREFIX, shape[1]), meaning.axes[2])
            return meaning._replace(axes=axes, prefix=(str(role),) * shape[1])
    return meaning


def _broadcasts(shape: tuple[int, ...], out: tuple[int, ...]) -> bool:
    if len(shape) > len(out):
        return False
    return all(n in (1, m) for n, m in zip(reversed(shape), reversed(out), strict=False))


def _convolve(operation: Operation, made: Sequence[Tensor]) -> list[Meaning]:
    meaning, _ = first(operation)
    found = []
    for one in made:
        shape = tuple(one.shape)
        if one.ndim == 4 and not any(atom.label == CHANNEL for axis in meaning.axes[2:] for atom in axis):
            spatial: Axes = (fresh(ROW, shape[2]), fresh(COLUMN, shape[3]))
        else:
            spatial = resampled(meaning.axes, shape)[2:] if len(meaning.axes) == one.ndim else unknown(shape)[2:]
        axes = (meaning.axes[0], fresh(CHANNEL, shape[1]), *spatial)
        found.append(meaning._replace(axes=axes) if len(axes) == one.ndim else Meaning(unknown(shape)))
    return found


def _normalise(operation: Operation, made: Sequence[Tensor]) -> list[Meaning]:
    """Over channels at dimension 1; what is unknown of a map is known by that."""
    (found,) = _elementwise(operation, made[:1])
    axes: Axes = tuple(found.axes)
    if len(axes) == 4 and label(axes[1]) == UNKNOWN and all(label(axis) == UNKNOWN for axis in axes[2:]):
        shape = made[0].shape
        axes = axes[0], fresh(CHANNEL, shape[1]), fresh(ROW, shape[2]), fresh(COLUMN, shape[3])
    return [found._replace(axes=axes), *(_elementwise(operation, made[1:]))]


def _normalise_last(operation: Operation, made: Sequence[Tensor]) -> list[Meaning]:
    found = _elementwise(operation, made)
    shape = operation.option(1, "normalized_shape", ())
    one = found[0]
    if len(tuple(shape)) == 1 and label(one.axes[-1]) == UNKNOWN:
        axes = _into_channels(one.axes, made[0].shape[-1])
        found[0] = one._replace(axes=axes)
    return found


def _into_channels(axes: Axes, width: int) -> Axes:
    """Axes after an operation over the last one, which makes new channels of it unless it mixes whole positions.

    What mixed positions were made into, beside channels, becomes no channels by being mixed again.
    """
    last = axes[-1]
    parts = [atom for atom in last if atom.label in (*POSITIONS, PREFIX)]
    whole = any(label(tuple(a for a in parts if a.root == atom.root)) != UNKNOWN for atom in parts)
    whole |= label(last) == UNKNOWN and any(label(axis) == CHANNEL for axis in axes[:-1])
    return (*rerooted(axes[:-1], last), fresh(UNKNOWN if whole else CHANNEL, width))


def _linear(operation: Operation, made: Sequence[Tensor]) -> list[Meaning]:
    meaning, _ = first(operation)
    if len(meaning.axes) != made[0].ndim or not meaning.axes:
        return nothing(operation, made)
    return [kept(meaning, _into_channels(meaning.axes, made[0].shape[-1]))]


def _reshape(operation: Operation, made: Sequence[Tensor]) -> list[Meaning]:
    meaning, _ = first(operation)
    if not is_first(operation):
        return nothing(operation, made)
    return [kept(meaning, reshaped(meaning.axes, tuple(one.shape))) for one in made]


def _permute(operation: Operation, made: Sequence[Tensor]) -> list[Meaning]:
    meaning, shape = first(operation)
    n = len(shape)
    dims: tuple[Any, ...] = operation.args[1:] or (operation.kwargs.get("dims", ()),)
    dims = tuple(dims[0]) if len(dims) == 1 and isinstance(dims[0], tuple | list) else dims
    return [meaning._replace(axes=permuted(meaning.axes, [int(d) % n for d in dims]))]


def _transpose(operation: Operation, made: Sequence[Tensor]) -> list[Meaning]:
    meaning, shape = first(operation)
    order = list(range(len(shape)))
    if operation.name in ("mT", "mH", "adjoint"):
        one, other = -2, -1
    elif operation.name in ("t", "T"):
        one, other = (0, -1) if len(order) == 2 else (0, 0)
        if len(order) > 2:
            order.reverse()
    else:
        one, other = int(operation.option(1, "dim0")), int(operation.option(2, "dim1"))
    if order:
        order[one], order[other] = order[other], order[one]
    return [meaning._replace(axes=permuted(meaning.axes, order))]


def _movedim(operation: Operation, made: Sequence[Tensor]) -> list[Meaning]:
    meaning, shape = first(operation)
    n, source, target = len(shape), operation.option(1, "source"), operation.option(2, "destination")
    sources = [s % n for s in ([source] if isinstance(source, int) else source)]
    targets = [t % n for t in ([target] if isinstance(target, int) else target)]
    rest = iter(place for place in range(n) if place not in sources)
    placed = dict(zip(targets, sources, strict=True))
    return [meaning._replace(axes=permuted(meaning.axes, [placed[i] if i in placed else next(rest) for i in range(n)]))]


def _expand(operation: Operation, made: Sequence[Tensor]) -> list[Meaning]:
    meaning, _ = first(operation)
    return [kept(meaning, merged([meaning.axes], tuple(one.shape))) for one in made]


def _resample(operation: Operation, made: Sequence[Tensor]) -> list[Meaning]:
    meaning, shape = first(operation)
    if len(shape) != made[0].ndim:
        return nothing(operation, made)
    return [kept(meaning, resampled(meaning.axes, tuple(one.shape))) for one in made]


def _pool(operation: Operation, made: Sequence[Tensor]) -> list[Meaning]:
    """To a fixed grid, or to one place, it is a summary of the map and no map any more."""
    meaning, _ = first(operation)
    found = _resample(operation, made)
    places = _n_places(found[0].axes)
    to_one = places == 1 and _n_places(meaning.axes) > 1
    return [one._replace(pooled=meaning.pooled or to_one or "adaptive" in operation.name) for one in found]


def _n_places(axes: Axes) -> int:
    n = 1
    for axis in axes:
        n *= size(axis) if label(axis) in POSITIONS else 1
    return n


def _reduce(operation: Operation, made: Sequence[Tensor]) -> list[Meaning]:
    meaning, shape = first(operation)
    dim = operation.kwargs.get(
        "dim", operation.kwargs.get("axis", operation.args[1] if len(operation.args) > 1 else None)
    )
    if dim is None or isinstance(dim, Tensor | float) or (operation.name in ("norm", "logsumexp") and len(made) > 1):
        return _elementwise(operation, made)
    gone = {int(d) % len(shape) for d in ([dim] if isinstance(dim, int) else dim)}
    found = []
    for one in made:
        full = one.ndim == len(shape)
        axes = [() if place in gone else axis for place, axis in enumerate(meaning.axes) if full or place not in gone]
        lost = sum((meaning.axes[place] for place in gone), ())
        pooled = meaning.pooled or any(label(meaning.axes[place]) in POSITIONS for place in gone)
        left = tuple(axes) if pooled else rerooted(tuple(axes), lost)
        found.append(kept(meaning, left)._replace(pooled=pooled))
    return found


def _matmul(operation: Operation, made: Sequence[Tensor]) -> list[Meaning]:
    shape = tuple(made[0].shape)
    known = {id(value): m for value, m, _ in operation.entered}
    pair = [known.get(id(value)) for value in operation.args[:2]]
    one, other = (m.axes if m is not None else () for m in (*pair, None, None)[:2])
    axes = list(merged([a for a in (one, other) if len(a) > 2], shape)) if len(shape) > 2 else list(unknown(shape))
    if len(one) >= 2 and len(shape) >= 2:
        axes[:-2] = list(merged([one[:-2], other[:-2]], shape[:-2]))
        axes[-2] = one[-2] if size(one[-2]) == shape[-2] else axes[-2]
    if len(shape) >= 2:
        mixed = not len(one) or {atom.label for atom in one[-1]} <= {CHANNEL, UNKNOWN}
        axes[-1] = other[-1] if len(other) >= 2 else fresh(CHANNEL if mixed else UNKNOWN, shape[-1])
    return [with_prefix(tuple(axes), [m for m in pair if m is not None])]


def _attend(operation: Operation, made: Sequence[Tensor]) -> list[Meaning]:
    """Queries' positions, values' channels."""
    query, value = operation.option(0, "query"), operation.option(2, "value")
    known = {id(one): m for one, m, _ in operation.entered}
    q, v = known.get(id(query)), known.get(id(value))
    if q is None:
        return nothing(operation, made)
    last = v.axes[-1] if v is not None else fresh(UNKNOWN, made[0].shape[-1])
    return [q._replace(axes=(*q.axes[:-1], last))] + [Meaning(unknown(one.shape)) for one in made[1:]]


def _attend_whole(operation: Operation, made: Sequence[Tensor]) -> list[Meaning]:
    """Torch's multi-head attention gives what the query is, with new channels."""
    known = {id(one): m for one, m, _ in operation.entered}
    q = known.get(id(operation.option(0, "query")))
    first = q._replace(axes=(*q.axes[:-1], fresh(CHANNEL, made[0].shape[-1]))) if q else Meaning(unknown(made[0].shape))
    return [first, *(Meaning(unknown(one.shape)) for one in made[1:])]


def _einsum(operation: Operation, made: Sequence[Tensor]) -> list[Meaning]:
    equation, tensors = operation.args[0], tuple(operation.args[1:])
    tensors = tuple(tensors[0]) if len(tensors) == 1 and isinstance(tensors[0], tuple | list) else tensors
    if not isinstance(equation, str) or "->" not in equation or "." in equation:
        return nothing(operation, made)
    entering, _, leaving = equation.replace(" ", "").partition("->")
    known = {id(one): m for one, m, _ in operation.entered}
    axis_of: dict[str, Axis] = {}
    for letters, one in zip(entering.split(","), tensors, strict=True):
        for letter, axis in zip(letters, known[id(one)].axes if id(one) in known else (), strict=False):
            axis_of.setdefault(letter, axis)
    axes = tuple(axis_of.get(letter, fresh(UNKNOWN, n)) for letter, n in zip(leaving, made[0].shape, strict=True))
    return [with_prefix(axes, [m for _, m, _ in operation.entered])]


def _unfold(operation: Operation, made: Sequence[Tensor]) -> list[Meaning]:
    """Patches of a map, as columns: [B, c k k, h w]; rows and columns are known if there is the same number of each."""
    meaning, _ = first(operation)
    if made[0].ndim != 3:
        return nothing(operation, made)
    n = made[0].shape[2]
    side = isqrt(n)
    square = side * side == n and side > 1
    last = (*fresh(ROW, side), *fresh(COLUMN, side)) if square else fresh(TOKEN, n)
    return [Meaning((meaning.axes[0], fresh(CHANNEL, made[0].shape[1]), last), pooled=meaning.pooled)]


def _fold(operation: Operation, made: Sequence[Tensor]) -> list[Meaning]:
    meaning, _ = first(operation)
    one = made[0].shape
    return [Meaning((meaning.axes[0], *(fresh(k, n) for k, n in zip((CHANNEL, ROW, COLUMN), one[1:], strict=True))))]


_Rule = Callable[[Operation, Sequence[Tensor]], list[Meaning]]
_BY_RULE: tuple[tuple[_Rule, str], ...] = (
    (_convolve, "conv1d conv2d conv_transpose1d conv_transpose2d"),
    (_normalise, "batch_norm group_norm instance_norm"),
    (_normalise_last, "layer_norm rms_norm"),
    (_linear, "linear"),
    (_reshape, "reshape view flatten unflatten squeeze unsqueeze view_as reshape_as unsafe_view ravel"),
    (_permute, "permute"),
    (_transpose, "transpose swapaxes swapdims t T mT mH adjoint"),
    (_movedim, "movedim moveaxis"),
    (_expand, "expand expand_as repeat tile broadcast_to repeat_interleave"),
    (_resample, "pad interpolate upsample grid_sample pixel_shuffle pixel_unshuffle roll flip"),
    (_reduce, "mean sum amax amin max min std var norm logsumexp median nanmean prod"),
    (_matmul, "matmul __matmul__ bmm mm"),
    (_attend, "scaled_dot_product_attention"),
    (_attend_whole, "multi_head_attention_forward"),
    (_einsum, "einsum"),
    (stack, "stack"),
    (cat, "cat concat concatenate"),
    (part_of, "__getitem__"),
    (split, "chunk split tensor_split split_with_sizes"),
    (unbind, "unbind select"),
    (_unfold, "unfold"),
    (_fold, "fold"),
    (nothing, "fft_rfft2 fft_irfft2 gather index_select take_along_dim outer cdist"),
)
_RULES = {name: rule for rule, names in _BY_RULE for name in names.split()}
