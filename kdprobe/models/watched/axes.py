"""What the axes of a tensor mean, carried through the operations that rearrange them.

An axis is a tuple of atoms, each a part of one root axis: a map [B, c, h, w] has the axes (b), (c), (y), (x); flattened
to tokens [B, h w, c] it has (b), (y, x), (c); cut into windows, its y is two atoms, which are y again when they meet
again. An unknown meaning is the atom `?`.
"""

from collections.abc import Sequence
from itertools import count
from math import prod
from typing import NamedTuple

_roots = count(1)

BATCH, CHANNEL, ROW, COLUMN, TOKEN, PREFIX, UNKNOWN = "b", "c", "y", "x", "n", "p", "?"
POSITIONS = (ROW, COLUMN, TOKEN)


class Atom(NamedTuple):
    """A part of a root axis: index = (index of the root // step) % size.

    Attributes:
        label: what the root means.
        size: number of values.
        total: number of values of the root.
        step: how far the root moves from one value to the next.
        root: which root it is.
    """

    label: str
    size: int
    total: int
    step: int
    root: int


Axis = tuple[Atom, ...]
Axes = tuple[Axis, ...]


class Meaning(NamedTuple):
    """What is known about a tensor that depends on the images.

    Attributes:
        axes: one for each dimension; () where its size is 1 and nothing is known.
        prefix: kinds of the tokens in front of the positions, of the axis `n`; of all tokens of the axis `p`.
        patches: what the axis `n` is after its prefix.
        pooled: whether it was averaged over all positions, or to a fixed grid.
        born: number of the operation that made it.
        worked: number of the last operation after which values were only moved, padded or resized.
        heads: layers whose values these are (`kdprobe.models.watched.lineage`).
    """

    axes: Axes
    prefix: tuple[str, ...] = ()
    patches: Axis = ()
    pooled: bool = False
    born: int = 0
    worked: int = 0
    heads: frozenset[int] = frozenset()

    @property
    def labels(self) -> tuple[str, ...]:
        """One for each dimension: b, c, y, x; n for tokens; 1 for a size of 1 without meaning; ?."""
        return tuple(label(axis) for axis in self.axes)

    @property
    def n_positions(self) -> int | None:
        """How many places of the image it holds; None for what is no map and no tokens."""
        kinds = self.labels
        if len(kinds) < 3 or kinds[0] != BATCH or kinds.count(CHANNEL) != 1:
            return None
        rest = [kind for kind in kinds[1:] if kind != CHANNEL]
        if any(kind not in (*POSITIONS, "1") for kind in rest) or len(rest) > 2:
            return None
        return prod(size(axis) for axis in self.axes[1:] if label(axis) in POSITIONS) - len(self.prefix)


def fresh(name: str, length: int) -> Axis:
    """A new root axis."""
    return (Atom(name, length, length, 1, next(_roots)),)


def size(axis: Axis) -> int:
    """Number of values."""
    return prod(atom.size for atom in axis)


def label(axis: Axis) -> str:
    """What a whole axis means; rows and columns together are tokens, in whatever order."""
    if not axis:
        return "1"
    if prod({atom.root: atom.total for atom in axis}.values()) != size(axis):
        return UNKNOWN
    labels = {atom.label for atom in axis}
    if len({atom.root for atom in axis}) == 1:
        return axis[0].label
    return TOKEN if labels == {ROW, COLUMN} else UNKNOWN


def unknown(shape: Sequence[int]) -> Axes:
    """Axes of which nothing is known."""
    return tuple(fresh(UNKNOWN, length) if length != 1 else () for length in shape)


def reshaped(axes: Axes, new_shape: Sequence[int]) -> Axes:
    """Axes after a reshape; unknown where old and new dimensions that hold the same values do not divide each other."""
    found: list[Axis] = []
    left, new = list(axes), list(new_shape)
    while new:
        old_group: list[Axis] = []
        new_group = [new.pop(0)]
        while (held := prod(map(size, old_group))) != (wanted := prod(new_group)):
            if held < wanted and left:
                old_group.append(left.pop(0))
            elif held > wanted and new:
                new_group.append(new.pop(0))
            else:
                return unknown(new_shape)
        found += _regrouped([atom for axis in old_group for atom in axis if atom.size != 1], new_group)
    return tuple(found)


def _regrouped(left: list[Atom], shape: Sequence[int]) -> Axes:
    """The same atoms, divided where needed, as axes of these sizes."""
    found = []
    for length in shape:
        taken: list[Atom] = []
        need = length
        while need > 1:
            atom = left.pop(0)
            if atom.size > need and atom.size % need == 0:
                inner = atom.size // need
                left.insert(0, atom._replace(size=inner))
                atom = atom._replace(size=need, step=atom.step * inner)
            elif need % atom.size:
                return unknown(shape)
            taken.append(atom)
            need //= atom.size
        found.append(_joined(taken))
    return tuple(found)


def _joined(atoms: Sequence[Atom]) -> Axis:
    """Neighbours that are the outer and the inner part of one root become one atom."""
    found: list[Atom] = []
    for atom in atoms:
        last = found[-1] if found else None
        if last is not None and last.root == atom.root and last.step == atom.step * atom.size:
            found[-1] = atom._replace(size=last.size * atom.size)
        else:
            found.append(atom)
    return tuple(found)


def permuted(axes: Axes, order: Sequence[int]) -> Axes:
    """Axes in another order."""
    return tuple(axes[place] for place in order)


def resampled(axes: Axes, shape: Sequence[int]) -> Axes:
    """Axes after pooling, padding, interpolation: those whose size changed keep what they mean, as new ones."""
    found = []
    for axis, length in zip(axes, shape, strict=True):
        kept = axis if size(axis) == length and axis else fresh(label(axis).replace("1", UNKNOWN), length)
        found.append(kept)
    return tuple(found)


def merged(several: Sequence[Axes], shape: Sequence[int]) -> Axes:
    """Axes of the result of an operation on each element; unknown where the operands contradict each other."""
    found: list[Axis] = []
    for place, length in enumerate(shape):
        back = place - len(shape)
        offered = [axes[back] for axes in several if len(axes) >= -back and size(axes[back]) == length and axes[back]]
        named = [axis for axis in offered if label(axis) != UNKNOWN]
        same = len({label(axis) for axis in named}) == 1
        one = (named if same else offered)[:1] if same or not named else []
        found.append(one[0] if one else fresh(UNKNOWN, length) if length != 1 else ())
    return tuple(found)


def rerooted(axes: Axes, gone: Axis) -> Axes:
    """Axes after parts of positions went elsewhere or were reduced: the parts that are left are coarser positions."""
    left = [atom for axis in axes for atom in axis]
    renewed: dict[Atom, Atom] = {}
    for root in {atom.root for atom in gone if atom.label in POSITIONS}:
        parts = sorted((atom for atom in left if atom.root == root), key=lambda atom: atom.step)
        total, new, step = prod(atom.size for atom in parts), next(_roots), 1
        for atom in parts:
            renewed[atom] = Atom(atom.label, atom.size, total, step, new)
            step *= atom.size
    return tuple(tuple(renewed.get(atom, atom) for atom in axis) for axis in axes)
