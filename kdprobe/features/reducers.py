"""Ways to reduce a layer's output, whose layout `kdprobe.models.layout` describes."""

from collections.abc import Callable

from torch import Tensor

from kdprobe.errors import CaptureError
from kdprobe.features.gram import centred_gram
from kdprobe.models.layout import Layout


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


def gram(output: Tensor, layout: Layout) -> Tensor:
    """Gram matrix of the centred flattened features: float64 [B, B]."""
    return centred_gram(output)


#: reducers that depend on what the dimensions mean
BY_LAYOUT = (gap, cls, tokens)
REDUCERS: dict[str, Callable[[Tensor, Layout], Tensor]] = {
    "whole": whole,
    "flatten": flatten,
    "gap": gap,
    "mean": gap,
    "cls": cls,
    "tokens": tokens,
    "gram": gram,
}


def reduce_stored(output: Tensor, layout: Layout, reduce: str, *, of: str) -> Tensor:
    """What is taken of a layer's stored output.

    Args:
        output: [B, ...].
        layout: what its dimensions mean.
        reduce: a name in `REDUCERS`.
        of: the layer, in words, for errors.

    Raises:
        CaptureError: if that layout has no such thing, naming the layer.
    """
    try:
        return REDUCERS[reduce](output, layout)
    except CaptureError as error:
        raise CaptureError(f"{of}: {error}") from error
