"""Position embeddings of another image size, resampled as timm does it when it loads its own weights."""

import warnings
from collections.abc import Mapping
from math import isqrt
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

_MOST_PREFIXES = 9


def regridded(tensors: Mapping[str, Tensor], model: nn.Module) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors with those position embeddings resampled that are of another grid than the network's.

    Args:
        tensors: tensors of a file, by the network's names.
        model: the network, built for its image size.

    Returns:
        all tensors, and for each resampled one "from 37 x 37 to 7 x 7"; tensors whose shape differs otherwise are as
        they were. A row of embeddings is taken to be of square images.
    """
    state, found, said = model.state_dict(), dict(tensors), dict[str, str]()
    for name, tensor in tensors.items():
        if name in state and tensor.shape != state[name].shape and tensor.is_floating_point():
            grids = _grids(name, tuple(tensor.shape), tuple(state[name].shape), model)
            if grids is not None:
                found[name] = _resample(tensor, state[name], *grids)
                said[name] = "from {} x {} to {} x {}".format(*grids[0], *grids[1])
    return found, said


def uncovered(model: nn.Module, image_size: int) -> str:
    """That a network's patches leave an edge of its images out, in words; empty if they do not."""
    embed = getattr(model, "patch_embed", None)
    cut = getattr(embed, "proj", None)
    if not isinstance(cut, nn.Conv2d) or cut.kernel_size != cut.stride or any(cut.padding):
        return ""  # patches overlap, or are padded
    side = cut.stride[0]
    rest = image_size % side
    if not rest or getattr(embed, "dynamic_img_pad", False):
        return ""
    return (
        f"its patches of {side} px cover {image_size - rest} of {image_size} px, and the edge beyond them is not "
        f"seen: take a multiple of {side}"
    )


_Grid = tuple[int, int]


def _grids(
    name: str, theirs: tuple[int, ...], ours: tuple[int, ...], model: nn.Module
) -> tuple[_Grid, _Grid, int] | None:
    """Rows and columns in the file and in the network, and the number of prefix tokens; None if these are not known."""
    if len(theirs) != len(ours) or "pos" not in name:
        return None
    if len(theirs) == 4 and theirs[:2] == ours[:2]:  # [1, d, h, w]
        return (theirs[2], theirs[3]), (ours[2], ours[3]), 0
    if len(theirs) == 3 and (theirs[0], theirs[2]) == (ours[0], ours[2]) == (1, ours[2]):  # [1, n_prefix + n, d]
        return _grids_of_rows(theirs[1], ours[1], model)
    if len(theirs) == 2 and theirs[1] == ours[1] and name.endswith("relative_position_bias_table"):
        extra = 3 if ours[0] % 2 == 0 else 0  # each window is 2 w - 1 wide, and BEiT adds three pairs of a class token
        windows = [(isqrt(n - extra) + 1) // 2 for n in (theirs[0], ours[0])]
        if [(2 * w - 1) ** 2 + extra for w in windows] == [theirs[0], ours[0]]:
            return (windows[0], windows[0]), (windows[1], windows[1]), extra
    return None


def _grids_of_rows(theirs: int, ours: int, model: Any) -> tuple[_Grid, _Grid, int] | None:
    grid = getattr(getattr(model, "patch_embed", None), "grid_size", None)
    prefixes = range(min(theirs, ours, _MOST_PREFIXES + 1))
    if grid is not None and 0 <= ours - grid[0] * grid[1] <= _MOST_PREFIXES:
        prefixes = range(ours - grid[0] * grid[1], ours - grid[0] * grid[1] + 1)
    for prefix in prefixes:
        side, own = isqrt(max(theirs - prefix, 0)), isqrt(ours - prefix)
        new = tuple(grid) if grid is not None else (own, own)
        if side * side == theirs - prefix > 0 and new[0] * new[1] == ours - prefix:
            return (side, side), (new[0], new[1]), prefix
    return None


def _resample(tensor: Tensor, like: Tensor, old: _Grid, new: _Grid, n_prefix: int) -> Tensor:
    """Bicubic, on the grid; prefix tokens keep their embeddings."""
    whole = tensor.float()
    if tensor.ndim == 4:
        return F.interpolate(whole, size=new, mode="bicubic", antialias=True)
    from timm.layers.pos_embed import resample_abs_pos_embed
    from timm.layers.pos_embed_rel import resize_rel_pos_bias_table

    if tensor.ndim == 2:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch remarks on how timm computes it
            found: Tensor = resize_rel_pos_bias_table(whole, new_window_size=new, new_bias_shape=tuple(like.shape))
    else:
        found = resample_abs_pos_embed(whole, new_size=list(new), old_size=list(old), num_prefix_tokens=n_prefix)
    return found
