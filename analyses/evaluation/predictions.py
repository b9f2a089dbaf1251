"""Logits of trained networks for the images of a data set."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float32
from torch import Tensor, nn

from analyses.evaluation.names import network_names
from kdprobe import load
from kdprobe.data import AS_IT_IS, DataSet, Split, View
from kdprobe.data.judged import check_held_out, load_judged
from kdprobe.devices import exact_float32, pick_device
from kdprobe.errors import AnalysisError
from kdprobe.features.minibatches import Forward, Minibatches, as_minibatches, feed, moved
from kdprobe.features.shared_images import shown_batches
from kdprobe.models import model_info
from kdprobe.models.checkpoint import facts_for
from kdprobe.models.creation import ModelInfo, described
from kdprobe.models.description import shown_as
from kdprobe.models.hooks import in_evaluation
from kdprobe.models.identity import network_name
from kdprobe.models.outputs import answer_in, logits_in
from kdprobe.terminal.progress import say
from kdprobe.user_code import trusting


@dataclass(frozen=True, eq=False)
class Judged:
    """A network, the data set it was shown at its own input size, and its logits.

    Attributes:
        name: short and unique among those judged together.
        checkpoint: what was asked for.
        info: of the network.
        data: whose test images were judged.
        logits: float32 [n, C], on the CPU.

    Example:
        >>> from pathlib import Path
        >>> from analyses.evaluation import judge
        >>> from kdprobe.models import create, save
        >>> save(create("resnet8", n_classes=10, image_size=8), Path("student.safetensors"))
        >>> (judged,) = judge("student.safetensors", "digits")
        >>> judged
        Judged('student': resnet8 on digits, logits [359, 10])
    """

    name: str
    checkpoint: str
    info: ModelInfo
    data: DataSet
    logits: Tensor

    def __repr__(self) -> str:
        """The network, the data set, and how many logits there are."""
        return f"Judged({self.name!r}: {self.info.name} on {self.data.spec}, logits {list(self.logits.shape)})"

    def origin(self) -> dict[str, str | None]:
        """Where the logits come from, for a result's provenance."""
        info = self.info
        said = {key: value for key, value in (("remark", info.remark), ("decode", info.view.decode)) if value}
        return {"name": self.name, "model": info.name, "checkpoint": self.checkpoint, "sha256": info.sha256, **said}


@exact_float32
@torch.inference_mode()
def predict(
    model: nn.Module,
    split: Minibatches,
    *,
    batch_size: int = 256,
    workers: int | None = None,
    device: str | torch.device = "cpu",
    quiet: bool = True,
    forward: Forward | None = None,
) -> Float32[Tensor, "n C"]:
    """Logits of every image of a split or of a loader's minibatches, in their order.

    Args:
        model: from `kdprobe.load`, or any network; it is in evaluation mode meanwhile.
        split: images of the network's input size; or a loader of them, as `analyses.cka.cka` takes it.
        batch_size: images of a split at a time.
        workers: processes that decode files of a split; as `shown_batches` has it if not given.
        device: where to compute; the network is moved there.
        quiet: no progress on stderr.
        forward: `forward(model, batch)` gives a network's output for a minibatch of any form.

    Raises:
        AnalysisError: for a loader that gives no minibatches.
        ModelError: if it is not clear what of the output is the logits.

    Example:
        >>> import torch
        >>> from analyses.evaluation import predict
        >>> from kdprobe.models import create
        >>> predict(create("resnet8", n_classes=10, image_size=16), [torch.rand(4, 3, 16, 16)]).shape
        torch.Size([4, 10])
    """
    name, device = network_name(model), pick_device(device)
    model.to(device)
    options: dict[str, Any] = {"batch_size": batch_size, "workers": workers, "device": device}
    batches: Iterable[Any]
    if isinstance(split, Split):
        batches = shown_batches(split, label=name, quiet=quiet, **options)
    else:
        batches = as_minibatches(split)
    with in_evaluation(model):
        outputs = (feed(model, moved(batch, device), forward) for batch in batches)
        logits = [_logits(output, model).float().cpu() for output in outputs]
    if not logits:
        raise AnalysisError("the loader gave no minibatches")
    return torch.cat(logits)


def _logits(output: Any, model: nn.Module) -> Tensor:
    """What counts in the output of a network, described or not."""
    info = described(model)
    return logits_in(output, info) if info else answer_in(output, ModelInfo(network_name(model), 0, 1))


@dataclass(frozen=True, eq=False)
class Opened:
    """A network that was loaded, and the data set that it is to be shown at its own input size.

    Attributes:
        name: short and unique among those opened together.
        checkpoint: what was asked for.
        model: the network, on `device`.
        spec: the data set's name.
        data: the data set.
        device: where it is.
    """

    name: str
    checkpoint: str
    model: nn.Module
    spec: str
    data: DataSet
    device: torch.device

    @property
    def info(self) -> ModelInfo:
        """What is known about the network."""
        return model_info(self.model)


def open_networks(
    checkpoints: str | Path | Sequence[str | Path],
    spec: str | None = None,
    *,
    device: str | torch.device = "cpu",
    quiet: bool = True,
    trust: Iterable[str] = (),
    told: Mapping[str, Any] | None = None,
    view: View = AS_IT_IS,
    decode: bool | Literal["test"] = "test",
) -> Iterator[Opened]:
    """Load networks one after the other, and one data set as each sees it.

    Args:
        checkpoints: one or several of whatever `kdprobe.load` takes.
        spec: the data set; the one that the first checkpoint names, if not given.
        device: where to compute.
        quiet: do not say what a user of the data set should know.
        trust: modules whose code the checkpoints may name.
        told: `n_classes`, `image_size`, `mean`, `std` for checkpoints whose files do not give them.
        view: how image files are shown to all of them; what it leaves open is as each was published, or as the data
            set has it.
        decode: which image files may be decoded at once, as `kdprobe.data.load_data` takes it.

    Raises:
        AnalysisError: if there is no data set to take.
        DataError: if a network may have learnt from images that another one held out.
    """
    given = [str(one) for one in ([checkpoints] if isinstance(checkpoints, str | Path) else checkpoints)]
    names, sets = network_names(given), dict[tuple[int, View], DataSet]()
    named_by: str | None = None
    for name, checkpoint, of_it in zip(names, given, facts_for(given, told or {}), strict=True):
        model = load(checkpoint, device=device, trust=trust, **of_it)
        info = model_info(model)
        if spec is None:
            spec, named_by = info.data, checkpoint
        if spec is None:
            raise AnalysisError(f"{checkpoint} does not name its data set; give one with --data")
        shown = info.image_size, info.view
        with trusting(trust):
            options: dict[str, Any] = {"image_size": info.image_size, "view": view, "published": info.view}
            data = sets.get(shown) or load_judged(spec, given[0], named_by=named_by, decode=decode, **options)
        check_held_out(spec, data, given[0], checkpoint)
        if not sets and not quiet:
            for note in data.notes:
                say(note)
        sets[shown] = data
        shown_as(model, data.shown.view.decode)
        yield Opened(name, checkpoint, model, spec, data, pick_device(device))


@exact_float32
def judge(
    checkpoints: str | Path | Sequence[str | Path],
    spec: str | None = None,
    *,
    device: str | torch.device = "cpu",
    batch_size: int = 256,
    workers: int | None = None,
    quiet: bool = True,
    same_classes: bool = True,
    **options: Any,
) -> list[Judged]:
    """Show the test images of one data set to several networks.

    Args:
        checkpoints: one or several of whatever `kdprobe.load` takes.
        spec: the data set; the one that the first checkpoint names, if not given.
        device: where to compute.
        batch_size: images at a time.
        workers: as `predict` takes it.
        quiet: no progress on stderr.
        same_classes: whether the networks must have the data set's number of classes.
        options: `trust`, `told` and `view`, as `open_networks` takes them.

    Raises:
        AnalysisError: if there is no data set to take, or a network has no classes, or another number of them, or
            logits that are not finite.
        DataError: if the data set has no labels.

    Example:
        >>> from analyses.evaluation import judge
        >>> from pathlib import Path
        >>> from kdprobe.models import create, save
        >>> for name in ("teacher", "student"):
        ...     save(create("resnet8", n_classes=10, image_size=8), Path(f"{name}.safetensors"))
        >>> [one.name for one in judge(["teacher.safetensors", "student.safetensors"], "digits")]
        ['teacher', 'student']
    """
    judged = []
    for one in open_networks(checkpoints, spec, device=device, quiet=quiet, **options):
        info, data = one.info, one.data
        order = answer_order(one) if same_classes else None
        logits = predict(one.model, data.test, batch_size=batch_size, workers=workers, device=device, quiet=quiet)
        judged.append(Judged(one.name, one.checkpoint, info, data, in_order(one, logits, order)))
    return judged


def answer_order(one: Opened) -> list[int] | None:
    """Where a data set's classes stand in a network's logits; None where that is in order, or not known.

    Raises:
        AnalysisError: for a network that has no classes, another number of them, or others.
        DataError: if the data set has no labels.
    """
    info, data = one.info, one.data
    data.check_labelled("evaluation")
    if info.n_classes == 0:
        raise AnalysisError(
            f"{one.checkpoint} has no classifier, so it answers nothing; kdprobe evaluate judges its features, "
            "with --probe linear or knn"
        )
    if info.n_classes != data.n_classes:
        raise AnalysisError(f"{one.checkpoint} knows {info.n_classes} classes, but {one.spec} has {data.n_classes}")
    return _class_order(one.checkpoint, info.classes, one.spec, data.classes)


def in_order(one: Opened, logits: Tensor, order: list[int] | None) -> Tensor:
    """A network's logits in the order of the data set's classes.

    Raises:
        AnalysisError: for logits that are not finite.
    """
    if broken := int((~logits.isfinite()).any(1).sum()):
        raise AnalysisError(
            f"{one.checkpoint} gives NaN or infinity for {broken} of {len(logits)} images of {one.spec}"
        )
    return logits if order is None else logits[:, order]


def _class_order(checkpoint: str, known: Sequence[str], spec: str, wanted: Sequence[str]) -> list[int] | None:
    """Where the data set's classes stand in a network's logits; None where that is in order, or not known."""
    if not known or not wanted or tuple(known) == tuple(wanted):
        return None
    if missing := [name for name in wanted if name not in known]:
        some = ", ".join(map(repr, known[:12])) + (", ..." if len(known) > 12 else "")
        raise AnalysisError(f"{checkpoint} does not know the class {missing[0]!r} of {spec}; it knows {some}")
    if double := next((name for name in wanted if known.count(name) > 1), None):
        raise AnalysisError(
            f"{checkpoint} calls several of its classes {double!r}, and those of {spec} come in another order, so that "
            "it is not known which is which; give data whose classes come in the network's order"
        )
    return [known.index(name) for name in wanted]
