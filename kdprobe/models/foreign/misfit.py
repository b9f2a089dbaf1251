"""Where a network's tensors may be in a file from elsewhere, and what may help if they do not fit."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from kdprobe.models.cifar import CIFAR_NAMES
from kdprobe.models.creation import model_info
from kdprobe.models.foreign.published import is_timms
from kdprobe.models.foreign.weights import Groups

#: what the literature calls classifiers
CLASSIFIERS = ("fc", "head", "classifier", "head.fc", "linear", "last_linear", "classif", "output", "logits")
_OTHERWISE = (
    "; name the network that it is of, with its arguments (args=, --args, model.args), and save all of its "
    "state_dict() and nothing else"
)


@dataclass(frozen=True)
class Place:
    """Where a network's tensors may stand in a file, and how well they fit.

    Attributes:
        group: key of the mapping.
        prefix: the prefix of the network's names there, with its dot.
        tensors: those below the prefix, by the network's names.
        missing: names that the network needs and the file lacks.
        surplus: names below the prefix that the network does not have.
        shapes: names whose shape differs from the network's.
        beside: other names in the mapping.
        changes: in words, what was done to the tensors.
    """

    group: str
    prefix: str
    tensors: dict[str, Tensor]
    missing: list[str]
    surplus: list[str]
    shapes: list[str]
    beside: list[str]
    changes: list[str]

    @property
    def key(self) -> str:
        """The KEY that `FILE#KEY` takes."""
        return ".".join(filter(None, (self.group, self.prefix.removesuffix("."))))

    @property
    def fits(self) -> bool:
        """Whether network and tensors are of one form."""
        return not (self.missing or self.surplus or self.shapes)


def misfit(path: Path, groups: Groups, model: nn.Module, places: Sequence[Place]) -> str:
    """What is wrong with the place that fits best."""
    info = model_info(model)
    if not places:
        names = [name for tensors in groups.values() for name in tensors]
        held = f"its tensors are {listed(names)}" if names else "it holds no tensors"
        return f"{path} does not fit {info.name}: it has none of its tensors, {held}"
    best = places[0]
    said = [
        f"{what} {listed(names, 1)}"
        for what, names in (
            ("lacks", best.missing),
            ("has a surplus", best.surplus),
            ("has another shape of", best.shapes),
        )
        if names
    ]
    if best.shapes:
        theirs, ours = best.tensors[best.shapes[0]].shape, model.state_dict()[best.shapes[0]].shape
        said[-1] += f", {list(theirs)} instead of {list(ours)}"
    where = f" below {best.key!r}" if best.key else ""
    return f"{path} does not fit {info.name}: it {', '.join(said)}{where}{_way_out(model, best)}"


def _way_out(model: nn.Module, best: Place) -> str:
    """What may help, if that is known."""
    if best.shapes and not best.missing and not best.surplus:
        return _way_out_of_shapes(model, best)
    return next((hint for hint in _hints(model, best) if hint), _OTHERWISE)


def _hints(model: nn.Module, best: Place) -> Iterator[str]:
    """What may help if names differ, if that is known."""
    info, parents = model_info(model), {name.rpartition(".")[0] for name in best.missing}
    others = {name.rpartition(".")[0] for name in best.surplus}
    if (
        best.missing
        and all("pos" in one for one in best.shapes)
        and parents <= classifiers_of(model) | set(CLASSIFIERS)
    ):
        beside = f", with {listed(best.beside)} beside it" if best.beside else ""
        ends = ": n_classes=0 (--classes 0) loads them as a network without one" if is_timms(info.name) else ""
        yield f"; these are features without the network's classifier{beside}{ends}"
    if best.surplus and not best.missing and not info.n_classes and others <= set(CLASSIFIERS):
        yield "; it has a classifier: leave n_classes=0 (--classes 0) out"
    if {*parents, *others} == {"norm", "fc_norm"}:
        kind = "avg" if "fc_norm" in others else "token"
        yield f"; it pools otherwise: args={{'global_pool': '{kind}'}} (--args global_pool={kind})"
    rest = [name for name in (*best.missing, *best.surplus) if name.rpartition(".")[0] not in CLASSIFIERS]
    if info.name in CIFAR_NAMES and rest and all(".shortcut" in name or ".downsample" in name for name in rest):
        kind = "A" if rest[0] in best.missing else "B"
        yield f"; perhaps its shortcuts are of another kind: args={{'shortcut': '{kind}'}} (--args shortcut={kind})"
    if best.missing and all(name.endswith(("running_mean", "running_var")) for name in best.missing):
        yield "; batch normalisation needs its running statistics: save network.state_dict(), which holds them"
    if best.surplus and not best.missing:
        yield "; save a file without these, or name the network that has them"


def _way_out_of_shapes(model: nn.Module, best: Place) -> str:
    """What may help where nothing but shapes differs."""
    info, name = model_info(model), best.shapes[0]
    theirs, ours = best.tensors[name].shape, model.state_dict()[name].shape
    if {one.rpartition(".")[0] for one in best.shapes} <= classifiers_of(model) and theirs[1:] == ours[1:] and theirs:
        return f"; it knows {theirs[0]} classes, not {info.n_classes}"
    if len(theirs) == len(ours) == 2 and (theirs == ours[::-1] or (theirs[0] == ours[1] and theirs[1] != ours[1])):
        return "; it seems to be transposed: save it as torch has it, outputs by inputs"
    if all("pos" in one for one in best.shapes):
        return (
            f"; its position embeddings are of another image size than {info.image_size} px: give the one that it was "
            "trained at (image_size=, --image-size)"
        )
    return "; name the network that it is of, with its arguments (args=, --args, model.args)"


def classifiers_of(model: nn.Module) -> set[str]:
    """Names of what the network itself calls its classifier, and of the layers in it."""
    try:
        given = model.get_classifier()  # type: ignore[operator]
    except Exception:  # the user's own networks may have none, or one that takes arguments
        return set()
    heads = [head for head in (given if isinstance(given, list | tuple) else [given]) if isinstance(head, nn.Module)]
    inner = {id(module) for head in heads for module in head.modules()}
    return {name for name, module in model.named_modules() if id(module) in inner}


def listed(names: Sequence[str], most: int = 3) -> str:
    """The first of some names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(repr(name) for name in names[:most]) + more
