"""Rules of the operations that join and divide tokens."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from kdprobe.models.watched.axes import (
    BATCH,
    CHANNEL,
    POSITIONS,
    PREFIX,
    TOKEN,
    UNKNOWN,
    Axis,
    Meaning,
    fresh,
    label,
    merged,
    size,
)
from kdprobe.models.watched.operation import Operation, first, is_first, kept, nothing, with_prefix


def cat(operation: Operation, made: Sequence[Tensor]) -> list[Meaning]:
    """Tokens that are put in front of positions are their prefix."""
    shape, pieces = tuple(made[0].shape), list(operation.option(0, "tensors", ()))
    dim = int(operation.option(1, "dim", operation.kwargs.get("axis", 0)) or 0) % len(shape)
    known = {id(value): m for value, m, _ in operation.entered}
    metas = [known.get(id(piece)) for piece in pieces]
    full = [m for m in metas if m is not None and len(m.axes) == len(shape)]
    axes = list(merged([(*m.axes[:dim], (), *m.axes[dim + 1 :]) for m in full], shape))
    axes[dim] = fresh(UNKNOWN, shape[dim])
    kinds = [label(m.axes[dim]) if m in full else "" for m in metas if m is None or m in full]
    positions = [i for i, kind in enumerate(kinds) if kind in POSITIONS]
    if len(positions) == 1 and len(kinds) == len(pieces):
        found = _joined_tokens(operation, pieces, metas, positions[0], dim)
        if found is not None:
            axes[dim] = fresh(TOKEN, shape[dim])
            return [Meaning(tuple(axes), *found)]
    if kinds and all(kind == PREFIX or (m is None) for kind, m in zip(kinds, metas, strict=False)):
        names = sum((_names(operation, piece, m, dim) for piece, m in zip(pieces, metas, strict=True)), ())
        axes[dim] = fresh(PREFIX, shape[dim])
        return [Meaning(tuple(axes), names)]
    if kinds and set(kinds) <= {CHANNEL, "", UNKNOWN} and CHANNEL in kinds:
        axes[dim] = fresh(CHANNEL, shape[dim])
    return [with_prefix(tuple(axes), full)]


def stack(operation: Operation, made: Sequence[Tensor]) -> list[Meaning]:
    """Single images become a batch; otherwise the new dimension is not known."""
    pieces, dim = operation.option(0, "tensors", ()), operation.option(1, "dim", 0)
    meanings = [meaning for _, meaning, _ in operation.entered]
    if dim != 0 or len(meanings) != len(pieces) or any(BATCH in meaning.labels for meaning in meanings):
        return nothing(operation, made)
    shape = tuple(made[0].shape)
    return [Meaning((fresh(BATCH, shape[0]), *merged([meaning.axes for meaning in meanings], shape[1:])))]


def _joined_tokens(
    operation: Operation, pieces: list[Tensor], metas: list[Meaning | None], place: int, dim: int
) -> tuple[tuple[str, ...], Axis] | None:
    """Prefix and patches of tokens put together; None if anything follows the patches."""
    main = metas[place]
    if main is None or len(pieces) > place + 1:
        return None
    front = sum((_names(operation, *pair, dim) for pair in zip(pieces[:place], metas[:place], strict=True)), ())
    own = main.prefix if label(main.axes[dim]) == TOKEN and len(main.axes[dim]) == 1 else ()
    patches = main.patches if own else main.axes[dim]
    return (*front, *own), patches


def _names(operation: Operation, piece: Tensor, meaning: Meaning | None, dim: int) -> tuple[str, ...]:
    """The kinds of tokens that a piece holds."""
    if meaning is None:
        return (operation.role(piece) or "other",) * piece.shape[dim]
    if len(meaning.prefix) == piece.shape[dim]:
        return meaning.prefix
    return ("other",) * piece.shape[dim]


def part_of(operation: Operation, made: Sequence[Tensor]) -> list[Meaning]:
    """Basic indexing; a part of the tokens keeps the kinds of its prefix."""
    meaning, shape = first(operation)
    index = operation.args[1] if len(operation.args) > 1 else ()
    index = index if isinstance(index, tuple) else (index,)
    if not is_first(operation) or not all(
        one is None or one is Ellipsis or isinstance(one, int | slice) for one in index
    ):
        return nothing(operation, made)
    used = sum(1 for one in index if one is not None and one is not Ellipsis)
    filled: list[Any] = []
    for one in index if Ellipsis in index else (*index, Ellipsis):
        filled += [slice(None)] * (len(shape) - used) if one is Ellipsis else [one]
    axes, place, prefix, patches = [], 0, meaning.prefix, meaning.patches
    for one in filled:
        if one is None:
            axes.append(())
            continue
        if isinstance(one, slice):
            axis, prefix, patches = _cut(meaning, place, one.indices(shape[place]), prefix, patches)
            axes.append(axis)
        place += 1
    return [kept(meaning._replace(prefix=prefix, patches=patches), tuple(axes))]


def _cut(meaning: Meaning, place: int, part: tuple[int, int, int], prefix: Any, patches: Any) -> Any:
    """An axis from `start` to `stop`, with the prefix and patches that are left."""
    axis, (start, stop, step) = meaning.axes[place], part
    length, whole = len(range(start, stop, step)), size(axis)
    kind = label(axis)
    if length == whole:
        return axis, prefix, patches
    if kind == TOKEN and meaning.prefix and len(axis) == 1 and step == 1:
        return _cut_tokens(meaning, start, stop, whole)
    if kind == PREFIX:
        return fresh(PREFIX, length), meaning.prefix[start:stop:step], ()
    return fresh(kind if kind != "1" else UNKNOWN, length), prefix, patches


def _cut_tokens(meaning: Meaning, start: int, stop: int, whole: int) -> tuple[Axis, tuple[str, ...], Axis]:
    n_prefix = len(meaning.prefix)
    if stop <= n_prefix:
        return fresh(PREFIX, stop - start), meaning.prefix[start:stop], ()
    if stop == whole and start == n_prefix and size(meaning.patches) == stop - start:
        return meaning.patches, (), ()
    if stop == whole and start < n_prefix:
        return fresh(TOKEN, stop - start), meaning.prefix[start:], meaning.patches
    return fresh(UNKNOWN, stop - start), (), ()


def split(operation: Operation, made: Sequence[Tensor]) -> list[Meaning]:
    """Consecutive parts along a dimension."""
    meaning, shape = first(operation)
    dim = int(operation.option(2, "dim", 0)) % len(shape)
    start, found = 0, []
    for one in made:
        stop = start + one.shape[dim]
        axis, prefix, patches = _cut(meaning, dim, (start, stop, 1), meaning.prefix, meaning.patches)
        axes = (*meaning.axes[:dim], axis, *meaning.axes[dim + 1 :])
        found.append(kept(meaning._replace(prefix=prefix, patches=patches), axes))
        start = stop
    return found


def unbind(operation: Operation, made: Sequence[Tensor]) -> list[Meaning]:
    """Slices along a dimension, which goes."""
    meaning, shape = first(operation)
    dim = int(operation.option(1, "dim", 0)) % len(shape)
    axes = (*meaning.axes[:dim], *meaning.axes[dim + 1 :])
    return [kept(meaning, axes) for _ in made]
