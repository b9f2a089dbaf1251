"""Ways to reduce a layer's output, whose layout `kdprobe.models.layout` describes."""

from collections.abc import Callable
from functools import partial

from torch import Tensor
from torch.nn import functional as F

from kdprobe.errors import CaptureError, ModelError, near_matches
from kdprobe.features.gram import centred_gram
from kdprobe.models.layout import Layout, as_map

Reducer = Callable[[Tensor, Layout], Tensor]


def whole(output: Tensor, layout: Layout) -> Tensor:
    """The output as it is, copied."""
    return output.contiguous() if not output.is_contiguous() else output.clone()


def flatten(output: Tensor, layout: Layout) -> Tensor:
    """[B, ...] -> [B, d], every value."""
    return whole(output, layout).flatten(1)


def gap(output: Tensor, layout: Layout) -> Tensor:
    """Mean over positions, without prefix tokens: [B, c]."""
    if output.ndim == 2:
        return output.clone()
    return tokens(output, layout).mean(1)


def cls(output: Tensor, layout: Layout) -> Tensor:
    """The class token: [B, d]."""
    if layout.kind != "tokens" or layout.class_token is None:
        by_hand = "if there is one, give a function as `reduce`, such as `lambda tokens: tokens[:, 0]`"
        if layout.kind == "other":
            raise CaptureError(f"it is not known whether {list(output.shape)} has a class token, or where; {by_hand}")
        if layout.n_prefix:
            raise CaptureError(
                f"there is no class token in {layout} of shape {list(output.shape)} whose name says that it is one; "
                f"{by_hand}"
            )
        raise CaptureError(f"there is no class token in {layout} of shape {list(output.shape)}; use gap or flatten")
    return output[:, layout.class_token].clone()


def tokens(output: Tensor, layout: Layout) -> Tensor:
    """Patch tokens, or the positions of a map, without prefix: [B, n, d]."""
    if layout.kind == "tokens" and output.shape[1] > layout.n_prefix:
        return output[:, layout.n_prefix :].clone()
    if layout.kind == "NCHW":
        return output.flatten(2).transpose(1, 2).clone()
    if layout.kind == "NHWC":
        return output.flatten(1, 2).clone()
    if layout.kind == "other":
        raise CaptureError(
            f"it is not known which dimensions of {list(output.shape)} are positions; use flatten, or "
            "a function as `reduce`, such as `lambda tokens: tokens[:, :-1].mean(1)` where a class token stands last"
        )
    raise CaptureError(f"there are no positions in {layout} of shape {list(output.shape)}; use flatten")


def spatial(output: Tensor, layout: Layout, *, side: int) -> Tensor:
    """Means over side x side areas of a map, or of the patch tokens' square grid: [B, c, side, side].

    A map with fewer rows or columns keeps those that it has.
    """
    try:
        found = as_map(output, layout)
    except ModelError as error:
        raise CaptureError(
            f"there are no rows and columns in {layout} of shape {list(output.shape)}; use gap or flatten"
        ) from error
    return F.adaptive_avg_pool2d(found, (min(side, found.shape[2]), min(side, found.shape[3])))


def gram(output: Tensor, layout: Layout) -> Tensor:
    """Gram matrix of the centred flattened features: float64 [B, B]."""
    return centred_gram(output)


#: reducers that need not know what the dimensions mean
_ANY_LAYOUT = {"whole": whole, "flatten": flatten, "gram": gram}
_BY_LAYOUT: dict[str, Reducer] = {"gap": gap, "mean": gap, "cls": cls, "tokens": tokens}


def reducer(name: str | Callable[[Tensor], Tensor]) -> tuple[Reducer, bool]:
    """A reducer by its name, and whether it asks what the dimensions mean.

    Args:
        name: `whole`, `flatten`, `gap` or `mean`, `cls`, `tokens`, `gram`, or `spatial:N` for areas N x N; or a
            function of the output.

    Raises:
        CaptureError: for another name.
    """
    if not isinstance(name, str):
        return lambda output, _layout: name(output), False
    kind, _, side = name.partition(":")
    if kind == "spatial":
        if not (side.isascii() and side.isdecimal() and int(side)):
            raise CaptureError(f"spatial takes its number of rows and columns, as in spatial:4, but got {name!r}")
        return partial(spatial, side=int(side)), True
    if name not in (known := _ANY_LAYOUT | _BY_LAYOUT):
        raise CaptureError(f"no reducer {name!r}{near_matches(name, [*known, 'spatial:N'])}")
    return known[name], name in _BY_LAYOUT


def layout_after(reduce: str, layout: Layout) -> Layout:
    """The layout of what a reducer makes of an output."""
    if reduce == "whole":
        return layout
    if reduce == "tokens":
        return Layout("tokens")
    return Layout("NCHW" if reduce.startswith("spatial") else "vector")


def reduce_stored(output: Tensor, layout: Layout, reduce: str, *, of: str) -> Tensor:
    """What is taken of a layer's stored output.

    Args:
        output: [B, ...].
        layout: what its dimensions mean.
        reduce: as `reducer` takes it.
        of: the layer, in words, for errors.

    Raises:
        CaptureError: if that layout has no such thing, naming the layer.
    """
    try:
        return reducer(reduce)[0](output, layout)
    except CaptureError as error:
        raise CaptureError(f"{of}: {error}") from error
