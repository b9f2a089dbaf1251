"""Which modules end the stages of a network, found in a watched forward pass.

A stage is a run of modules whose outputs have the same number of positions and are cuts of the network; it ends with
the last composite module of the run, or where there is none with its last layer, calls of shared layers included. A
network of one resolution has its repeated blocks as stages.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import groupby

from kdprobe.models.watched.tracing import Call, Trace


def ends_of_stages(trace: Trace) -> list[str]:
    """Names of modules, shallow to deep; none where no module's output is a map or tokens and a cut.

    Args:
        trace: trace of a forward pass of the whole network.
    """
    often = Counter(call.name for call in trace.calls)
    cuts = [call for call in trace.calls if _positions(call) and trace.is_cut(call) and not _is_none(trace, call)]
    maps = [call for call in cuts if often[call.name] == 1]
    tree = _Tree(trace, maps)
    units = tree.units("")
    runs = [list(run) for _, run in groupby(units, key=_positions)]
    ends = [max(run, key=lambda call: (call.composite, run.index(call))) for run in runs]
    composite = [run for run in runs if any(call.composite for call in run)]
    again = _called_again(cuts, often, ends)
    if len(composite) == 1 and len(runs) <= 2 and runs[-1] is composite[0] and not again:
        blocks = _repeated(maps, _positions(composite[0][0]))
        if blocks:
            return blocks
    if ends and _goes_on_unknown(trace, ends[-1]):
        return []
    order = {call: place for place, call in enumerate(trace.calls)}
    shared = [call for call in cuts if often[call.name] > 1 and call.entered is not None]
    later = _last_shared(ends, shared, order)
    named = {later.get(end, end): name for end, name in zip(ends, _named_alike(ends, maps), strict=True)}
    named |= {call: call.label for call in (*later.values(), *again)}
    return [named[call] for call in sorted(named, key=order.__getitem__)]


def _is_none(trace: Trace, call: Call) -> bool:
    """Whether it ends no stage: it computes nothing, or gives the network's output for each place."""
    return call.moves_alone or trace.is_head(call)


def _called_again(cuts: Sequence[Call], often: Counter[str], ends: Sequence[Call]) -> list[Call]:
    """For modules called several times: the last outermost call of each resolution that no stage has."""
    had, last = {_positions(call) for call in ends}, {}
    for call in cuts:
        if often[call.name] > 1 and _positions(call) not in had and call.entered is not None:
            last[_positions(call)] = call
    return list(last.values())


def _last_shared(ends: Sequence[Call], shared: Sequence[Call], order: Mapping[Call, int]) -> dict[Call, Call]:
    """By layers that end a stage, the last call of a shared layer that follows at this resolution, such as its ReLU."""
    following = dict(zip(ends, [order[end] for end in ends[1:]] + [len(order)], strict=False))
    found = {}
    for end in ends:
        if not end.composite:
            for call in shared:
                if order[end] < order[call] < following[end] and _positions(call) == _positions(end):
                    found[end] = call
    return found


def around(trace: Trace, names: Sequence[str]) -> list[Call]:
    """Calls of resolutions that no stage has, in no module that is a cut: what skip connections lead around.

    Args:
        trace: trace of a forward pass of the whole network.
        names: names of modules that end a stage.
    """
    cuts = {call.name: call for call in trace.calls if trace.is_cut(call) and _positions(call)}
    had = {_positions(call) for call in cuts.values()}
    had |= {_positions(call) for call in trace.calls if call.name in names or call.label in names}
    ends_in = {above for name in names for above in _above(name)}
    whole = [call for call in cuts.values() if call.name not in ends_in]
    return [
        call
        for call in trace.calls
        if _positions(call) not in (*had, None, 1)
        and not trace.is_cut(call)
        and not _is_none(trace, call)
        and not any(call.name.startswith(f"{one.name}.") and _born(one) >= _born(call) for one in whole)
    ]


def _born(call: Call) -> int:
    return call.meaning.born if call.meaning is not None else 0


def _goes_on_unknown(trace: Trace, last: Call) -> bool:
    """Whether modules after the last end give what look like maps, but nothing is known about these."""
    return any(
        call.composite
        and trace.is_cut(call)
        and call.meaning.n_positions is None
        and not call.meaning.pooled
        and sum(n > 1 for n in call.shape[1:]) > 1
        for call in trace.calls
        if call.meaning is not None and last.meaning is not None and call.meaning.born > last.meaning.born
    )


def _positions(call: Call) -> int | None:
    """How many positions the output has, if it is not a summary of them."""
    meaning = call.meaning
    return meaning.n_positions if meaning is not None and not meaning.pooled else None


class _Tree:
    """The calls as they are nested, lists of modules looked through."""

    def __init__(self, trace: Trace, maps: Sequence[Call]) -> None:
        self._maps = {call.name for call in maps}
        names = {call.name for call in trace.calls}
        branched = {name for call in trace.calls if not trace.is_cut(call) for name in _above(call.name)}
        self._blocks = [call for call in maps if call.name in branched and _positions(call) == _entering(call)]
        self._children: dict[str, list[Call]] = defaultdict(list)
        self._inside: dict[str, set[int]] = defaultdict(set)
        for call in trace.calls:
            above = _above(call.name)
            self._children[next((name for name in above if name in names), "")].append(call)
            if call.name in self._maps:
                for name in (call.name, *above):
                    self._inside[name].add(_positions(call) or 0)

    def units(self, name: str) -> list[Call]:
        """The calls below a module that have at most one resolution of their own, in order."""
        found: list[Call] = []
        for call in self._children[name]:
            own = self._inside[call.name] - {_entering(call)}
            if call.name in self._maps and len(own) < 2 and not self._ends_with_downsampling(call):
                found.append(call)
            else:
                found += self.units(call.name)
        return found

    def _ends_with_downsampling(self, call: Call) -> bool:
        """Whether blocks of the resolution that enters stand before the change of resolution."""
        entering = _entering(call)
        return _positions(call) != entering and any(
            block.name.startswith(f"{call.name}.") and _positions(block) == entering for block in self._blocks
        )


def _entering(call: Call) -> int | None:
    return call.entered.n_positions if call.entered is not None else None


def _above(name: str) -> list[str]:
    """Names of the modules around one, from the inside."""
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(len(parts) - 1, 0, -1)]


def _repeated(maps: Sequence[Call], positions: int | None) -> list[str]:
    """The outermost children of one module that are of one kind and keep this resolution; the most numerous ones."""
    groups: dict[tuple[str, str], list[str]] = defaultdict(list)
    for call in maps:
        if call.composite and _positions(call) == positions == _entering(call):
            groups[call.name.rpartition(".")[0], call.kind].append(call.name)
    several = [names for names in groups.values() if len(names) > 1]
    return max(several, key=lambda names: (-names[0].count("."), len(names)), default=[])


def _named_alike(ends: Sequence[Call], maps: Sequence[Call]) -> list[str]:
    """Among modules that give the same tensor, the one whose parent is that of most stages."""
    alike: dict[int, list[str]] = defaultdict(list)
    for call in maps:
        if call.meaning is not None:
            alike[call.meaning.born].append(call.name)
    choices = [alike[end.meaning.born] for end in ends if end.meaning is not None]
    parents = Counter(parent for names in choices for parent in {name.rpartition(".")[0] for name in names})
    found = []
    for end, names in zip(ends, choices, strict=True):
        best = max(names, key=lambda name: (parents[name.rpartition(".")[0]], -name.count("."), name == end.name))
        found.append(best)
    return found
