"""Describing a network of one's own, once: everything else reads what is attached here.

    kdprobe.describe(model, stages=["layer1", "layer2"], classifier="fc", image_size=32)

What is not given is observed where it is needed (`kdprobe.models.facts`). What is given is checked in one forward pass
of two made-up images, so that a mistake shows here and not in a training.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from kdprobe.data.dataset import IMAGENET_MEAN, IMAGENET_STD
from kdprobe.errors import CaptureError, ModelError, near_matches
from kdprobe.models.building import told_size
from kdprobe.models.creation import ModelInfo, attach, check_info, described, model_info, relabel, unwrap
from kdprobe.models.facts import classifiers_in, made_up_images, stage_places, watched
from kdprobe.models.layers import module_name
from kdprobe.models.outputs import answer_in, features_in, field_of
from kdprobe.models.rebuilding import rebuildable
from kdprobe.models.watched.tracing import Trace, meaning_of, trace


def describe(
    model: nn.Module,
    *,
    stages: Sequence[str] | None = None,
    classifier: str | None = None,
    prefix_tokens: int | None = None,
    output: str | int | None = None,
    image_size: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    n_classes: int | None = None,
    classes: Sequence[str] | None = None,
    name: str | None = None,
    args: dict[str, Any] | None = None,
) -> nn.Module:
    """Attach to a network what is known of it; what is not given stays as it was, or is observed.

    Args:
        model: any network that is called with images [B, c, s, s].
        stages: names of the modules that end a stage, shallow to deep; `NAME#2` is the second call of a module.
        classifier: name of the module that turns pooled features into logits.
        prefix_tokens: number of class, distillation and register tokens in front of the patch tokens.
        output: the field of its output, or its place in a tuple, that holds the logits, or the features of a network
            without a classifier.
        image_size: side of its input in pixels.
        mean: mean of each channel, for images in [0, 1]; ImageNet's for a network of which nothing is known.
        std: standard deviation of each channel, likewise.
        n_classes: number of classes, C; 0 for a network that gives features. If nothing is known, an output that a
            linear layer gives is taken for logits.
        classes: names of the classes.
        name: what builds the network again, as `kdprobe.models.create` takes it; saving it needs this if its class
            alone does not.
        args: arguments of `name`, besides `num_classes` and `image_size`, which it gets if its signature names them.

    Returns:
        the network itself.

    Raises:
        ModelError: if something is given that the network does not have, or if its image size is needed.

    Example:
        >>> import torch
        >>> import kdprobe
        >>> from kdprobe.models import model_info
        >>> layers = [torch.nn.Conv2d(3, 8, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()]
        >>> net = torch.nn.Sequential(*layers, torch.nn.Linear(8, 5))
        >>> net = kdprobe.describe(net, image_size=16, stages=["0"], classifier="3")
        >>> model_info(net).image_size, model_info(net).n_classes
        (16, 5)
    """
    if not isinstance(model, nn.Module):
        raise ModelError(f"only a torch.nn.Module can be described, but this is {model!r}")
    for key, several in (("stages", stages), ("classes", classes), ("mean", mean), ("std", std)):
        if several is not None and (isinstance(several, str) or not isinstance(several, Iterable)):
            raise ModelError(f"{key} must be a list, but is {several!r}; give {[several]}")
    network = unwrap(model)
    before, known = described(network), _known(network)
    given: dict[str, Any] = {
        "stages": None if stages is None else tuple(stages),
        "classifier": classifier,
        "prefix_tokens": prefix_tokens,
        "output": output,
        "mean": None if mean is None else tuple(mean),
        "std": None if std is None else tuple(std),
        "image_size": image_size,
        "n_classes": n_classes,
        "classes": None if classes is None else tuple(classes),
        "name": name,
        "args": args,
    }
    given = {key: value for key, value in given.items() if value is not None}
    _check_names(network, (*(stages or ()), *([classifier] if classifier is not None else ())))
    info = replace(known or _unknown(network, image_size), **given)
    if name is not None or args is not None:
        info = replace(info, elsewhere=True)  # until it is seen what they build
    _check(info, type(network).__name__)
    if before is not None and not given:
        return model  # such as a checkpoint, whose description was compared with the network before it was written
    attach(network, info)
    try:
        count = known is None and n_classes is None
        attach(network, _checked(network, info, count=count, counted=n_classes is not None))
        if name is not None or args is not None:
            attach(network, rebuildable(network))
    except ModelError:
        if before is None:
            del network.kdprobe_info
        else:
            attach(network, before)
        raise
    return model


def shown_as(model: nn.Module, decode: str | None) -> nn.Module:
    """A network whose description says how the image files that it is shown are decoded (`View.decode`)."""
    view = model_info(model).view
    return model if view.decode == decode else relabel(model, view=replace(view, decode=decode))


def recount(model: nn.Module, output: str | int | None = None) -> nn.Module:
    """Correct the number of classes of a network whose constructor does not take one.

    Args:
        model: the network, described with the number that was passed to its constructor.
        output: as `describe` takes it.

    Raises:
        ModelError: if the network gives something else, and it is not known how many classes it has.
    """
    network, info = unwrap(model), model_info(model)
    seen = watched(network, ((made_up_images(network),), {}))
    if seen.output is None:
        return model  # which shows when it is used
    bare = replace(info, n_classes=0, output=info.output if output is None else output)
    if answer_in(seen.output, bare).shape[1:] == (info.n_classes,):
        return model
    return attach(model, replace(info, n_classes=_classes_in(network, seen, bare), classes=()))


def _known(network: nn.Module) -> ModelInfo | None:
    try:
        return model_info(network)
    except ModelError:
        return None


def _unknown(network: nn.Module, image_size: int | None) -> ModelInfo:
    """A network of which nothing is known but what transformers writes into its configuration."""
    size, name = image_size if image_size is not None else told_size(network), type(network).__name__
    if size is None:
        raise ModelError(
            f"nothing is known about the input of this {name}; give kdprobe.describe its side in pixels, image_size"
        )
    return ModelInfo(name, 0, size, mean=IMAGENET_MEAN, std=IMAGENET_STD, elsewhere=True)


def _check(info: ModelInfo, name: str) -> None:
    try:
        check_info(info)
    except (TypeError, ValueError) as error:
        raise ModelError(f"{name} cannot be described: {error}") from error


def _check_names(network: nn.Module, names: Iterable[str]) -> None:
    """Refuse names that no module has."""
    every = [name for name, _ in network.named_modules(remove_duplicate=False) if name]
    for name in names:
        if name not in every and module_name(name) not in every:
            raise ModelError(f"{type(network).__name__} has no module {name!r}{near_matches(name, every)}")


def _checked(network: nn.Module, info: ModelInfo, *, count: bool, counted: bool) -> ModelInfo:
    """The description, compared with what a forward pass shows if it says anything about one.

    Args:
        network: that it is attached to.
        info: the description.
        count: whether the number of classes is to be observed.
        counted: whether it was given.
    """
    bare = not count and (info.stages, info.classifier, info.prefix_tokens, info.output) == (None, None, None, None)
    if bare and not counted:
        return info
    images = made_up_images(network)
    seen = watched(network, ((images,), {}))
    if seen.output is None:
        if bare:
            return info  # such as one that takes more than images
        raise ModelError(
            f"{info.name} cannot be run on images {list(images.shape)} ({seen.failure}); image_size and mean "
            "say what these are like, and a network that takes more than images must be wrapped in one that does not"
        )
    if count:
        info = replace(info, n_classes=_classes_in(network, seen, info))
        attach(network, info)
    answer = answer_in(seen.output, info)
    if counted and info.n_classes and answer.shape[1:] != (info.n_classes,):
        raise ModelError(
            f"n_classes is {info.n_classes}, but {info.name} gives {list(answer.shape)} for two images; give the "
            "number of its logits, or 0 if it gives features"
        )
    _check_output(network, info, images, seen)
    _check_stages(network, info, seen)
    _check_classifier(info, seen, answer)
    return info


def _classes_in(network: nn.Module, seen: Trace, info: ModelInfo) -> int:
    """The width of the logits that a classifier gives; 0 for features."""
    if info.classifier is not None:
        calls = [call for call in seen.calls if call.name == info.classifier]
        return calls[-1].shape[-1] if calls else 0
    if info.output is None and features_in(seen.output) is not None:
        return 0
    answer = answer_in(seen.output, info)
    if answer.ndim == 2 and classifiers_in(network, seen, answer):
        return answer.shape[1]
    if answer.ndim == 2 and (meaning := meaning_of(answer)) is not None and meaning.heads:
        raise ModelError(
            f"whether {info.name} gives {answer.shape[1]} logits or features is not known; give n_classes, 0 for "
            "features"
        )
    return 0


def _check_output(network: nn.Module, info: ModelInfo, images: Tensor, seen: Trace) -> None:
    """Refuse a field of a network that gives a mere tensor, in training too."""
    if info.output is None or not isinstance(seen.output, Tensor):
        return

    def in_training(shown: Tensor) -> Any:
        return network.train()(shown)

    try:
        trained = trace(network, (images,), {}, call=in_training).output
    except Exception:  # the training itself will report why
        return
    field_of(trained, info.output, info.name)
    if isinstance(trained, Tensor):
        raise ModelError(f"{info.name} gives a mere tensor, which has no {info.output!r}; leave output out")


def _check_stages(network: nn.Module, info: ModelInfo, seen: Trace) -> None:
    if info.stages is None and info.prefix_tokens is None:
        return
    try:
        places = stage_places(network, seen)
    except CaptureError as error:
        raise ModelError(f"{info.name} cannot be described: {error}") from error
    order = {(call.name, call.number): number for number, call in enumerate(seen.calls)}
    run = sorted(places, key=lambda place: order[place.module, place.number])
    if len(set(places)) < len(places):
        raise ModelError(f"stages of {info.name} are given as {', '.join(place.label for place in places)}, one twice")
    if list(places) != run:
        given, found = (", ".join(place.label for place in each) for each in (places, run))
        raise ModelError(
            f"stages of {info.name} are given as {given}, but run in the order {found}; give them shallow to deep"
        )
    of_tokens = [place for place in places if place.layout.kind == "tokens"]
    if info.prefix_tokens and not of_tokens:
        raise ModelError(f"{info.name} has no stage with tokens, but prefix_tokens is {info.prefix_tokens}")
    for place in of_tokens:
        if info.prefix_tokens not in (None, place.layout.n_prefix):
            raise ModelError(
                f"prefix_tokens is {info.prefix_tokens}, but stage {place.label!r} of {info.name} is seen to have "
                f"{place.layout.n_prefix} tokens in front of its patches"
            )


def _check_classifier(info: ModelInfo, seen: Trace, answer: Tensor) -> None:
    if info.classifier is None:
        return
    calls = [call for call in seen.calls if call.name == info.classifier]
    if not calls:
        raise ModelError(f"classifier {info.classifier!r} of {info.name} did not run; name another module")
    if calls[-1].shape[1:] != answer.shape[1:] or info.n_classes != answer.shape[1]:
        raise ModelError(
            f"classifier {info.classifier!r} of {info.name} gives {list(calls[-1].shape)}, but the network gives "
            f"{list(answer.shape)} and has {info.n_classes} classes; name the module that gives the logits"
        )
