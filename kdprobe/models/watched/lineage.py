"""Where the values of a tensor come from: the last operation that computed them, and layers that give logits."""

from collections.abc import Mapping, Sequence

from kdprobe.models.watched.operation import Operation


def _words(text: str) -> list[str]:
    return text.split()


_LAYERS = frozenset(_words("conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d linear "))
_MOVES = frozenset(
    _words(
        "pad interpolate upsample grid_sample roll flip pixel_shuffle pixel_unshuffle __getitem__ narrow crop "
        "reshape view flatten unflatten squeeze unsqueeze view_as reshape_as unsafe_view ravel permute transpose "
        "swapaxes swapdims t T mT mH adjoint movedim moveaxis expand expand_as broadcast_to contiguous clone "
        "detach to type float half type_as alias identity dropout dropout1d dropout2d dropout3d alpha_dropout "
        "feature_alpha_dropout feature_dropout "
    )
)
_SUMMARIES = frozenset(_words("mean sum amax amin max min "))
_JOINS = frozenset(_words("add __add__ __radd__ __iadd__ sub cat stack mul __mul__ "))
_POINTWISE = frozenset(
    _words(
        "relu relu6 leaky_relu elu celu selu gelu silu mish hardswish hardtanh hardsigmoid sigmoid tanh softplus "
        "softmax log_softmax logsigmoid clamp div __truediv__ "
    )
)


def origin(operation: Operation, now: int) -> tuple[int, frozenset[int]]:
    """Where the results of an operation come from.

    Args:
        operation: with what entered it.
        now: its number.

    Returns:
        the number of the last operation that computed the values, rather than moved, cut, padded or resized them; and
        numbers of the layers without neighbours (linear, 1 x 1) whose values these are, other than by an activation, a
        sum, a mean or a resize. A layer with neighbours counts too, as a negative number, until an activation.
    """
    meanings = [meaning for _, meaning, _ in operation.entered]
    name = operation.name
    if name in _LAYERS:
        weight = operation.option(1, "weight")
        alone = all(n == 1 for n in getattr(weight, "shape", (0, 0, 2))[2:])
        return now, frozenset([now if alone else -now])
    held: frozenset[int] = frozenset().union(*(meaning.heads for meaning in meanings))
    if name in _MOVES:
        return max((meaning.worked for meaning in meanings), default=now), held
    if name in _SUMMARIES or "pool" in name:
        return now, held
    if name in _POINTWISE and len(meanings) == 1:
        return now, frozenset(one for one in held if one > 0)
    if name in _JOINS and all(meaning.heads for meaning in meanings):
        return now, held
    return now, frozenset()


def counting(
    shapes: Sequence[tuple[int, ...]], n_images: int | None, known: Mapping[int, bool]
) -> tuple[int | None, list[tuple[int, ...]]]:
    """Which of several tensors of an output counts: the one with a row per image; of several, the map or the tokens.

    Args:
        shapes: shapes of all floating tensors, in order.
        n_images: number of rows; None if not known.
        known: for each place, whether it is known to be a map or tokens; missing places are not.

    Returns:
        its place, None where there is no tensor; and the shapes among which nothing decides, if there are such.
    """
    fit = [place for place, shape in enumerate(shapes) if n_images is None or shape[:1] == (n_images,)]
    if not fit:
        return (0 if shapes else None), []
    best = [place for place in fit if known.get(place)] or [place for place in fit if len(shapes[place]) > 2] or fit
    return best[0], [shapes[place] for place in best] if len({shapes[place] for place in best}) > 1 else []
