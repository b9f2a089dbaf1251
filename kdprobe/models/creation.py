"""Creating networks by name and knowing what was created."""

import inspect
import logging
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kdprobe.data.dataset import AS_IT_IS, IMAGENET_MEAN, IMAGENET_STD, View
from kdprobe.data.decode import at_size
from kdprobe.devices import constant
from kdprobe.errors import KdprobeError, ModelError, TrustError, near_matches
from kdprobe.models.built_for import built_for
from kdprobe.models.cifar import CIFAR_NAMES, cifar_resnet
from kdprobe.models.foreign.published import is_timms
from kdprobe.packages import installed, offered
from kdprobe.user_code import UNEXPECTED, call_own, own_object

#: entry points of networks
_GROUP = "kdprobe.models"

#: arguments that make timm fetch or read weights, besides all that begin with `pretrained`
_FETCHING = {"checkpoint_path", "cache_dir", "model_name"}

#: arguments that are always passed, and what decides them
_DECIDED = {
    "num_classes": "the classes of the data decide it",
    "image_size": "data.image_size decides it",
    "pretrained": "model.pretrained decides it",
    "model_name": "model.name decides it",
}

#: what arguments can make any constructor raise, rather than a mistake in the user's own
_MISTAKES = (ArithmeticError, LookupError, AttributeError, MemoryError)

#: what a network's builder, file or user may leave out of its description
ANATOMY = ("stages", "classifier", "prefix_tokens", "output")
_MAY_LACK = ("view", *ANATOMY)


@dataclass(frozen=True)
class ModelInfo:
    """What is needed to rebuild a network and to prepare its input.

    Attributes:
        name: a CIFAR ResNet, a timm name, or `module:callable`.
        args: further arguments of its constructor.
        n_classes: number of classes, C; 0 for a network without a classifier.
        image_size: side of its input in pixels.
        mean: mean of each channel, for images in [0, 1].
        std: standard deviation of each channel.
        classes: names of the classes, where known.
        data: the data set it was trained on, as a data SPEC.
        method: how it was trained; empty if not by kdprobe.
        sha256: sha256 of the file it was loaded from.
        view: how image files were shown to it for its published accuracy; what is not known is left to the data set.
        remark: what must be known about its weights, in words, such as that its run is unfinished; usually empty.
        stages: modules that end a stage, shallow to deep; this and what follows is observed where it is not given.
        classifier: the module that turns pooled features into logits.
        prefix_tokens: number of class, distillation and register tokens in front of the patch tokens.
        output: the field of its output, or its place in a tuple, that holds the logits.
        elsewhere: whether others built it, so that name and arguments may not build it again.

    Example:
        >>> import torch
        >>> from kdprobe.models import ModelInfo
        >>> info = ModelInfo("resnet8", n_classes=10, image_size=16, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
        >>> info.normalise(torch.ones(1, 3, 2, 2)).unique()
        tensor([2.])
    """

    name: str
    n_classes: int
    image_size: int
    args: dict[str, Any] = field(default_factory=dict)
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    classes: tuple[str, ...] = ()
    data: str | None = None
    method: str = ""
    sha256: str | None = None
    view: View = AS_IT_IS
    remark: str = ""
    stages: tuple[str, ...] | None = None
    classifier: str | None = None
    prefix_tokens: int | None = None
    output: str | int | None = None
    elsewhere: bool = False

    def normalise(self, images: Tensor) -> Tensor:
        """Images [B, c, s, s] in [0, 1] -> standardised by this network's mean and std."""
        mean, std = (
            constant(tuple(numbers), images.device, images.dtype).view(1, -1, 1, 1) for numbers in (self.mean, self.std)
        )
        return (images - mean).div_(std)

    def prepare(self, images: Tensor) -> Tensor:
        """Images [B, c, h, w] in [0, 1] -> this network's input [B, c, s, s]: resampled to its size, standardised."""
        size = (self.image_size, self.image_size)
        return self.normalise(images if images.shape[2:] == size else at_size(images, self.image_size))

    def to_json(self) -> dict[str, Any]:
        """As JSON values, without what belongs to a file, and without what was not given of view and anatomy."""
        values = asdict(self)
        del values["sha256"], values["remark"], values["elsewhere"]
        values["view"] = {key: value for key, value in values["view"].items() if value is not None}
        return {key: value for key, value in values.items() if key not in _MAY_LACK or value not in (None, {})}

    def origin(self) -> dict[str, Any]:
        """What a result says of a network that it is of."""
        return {**self.to_json(), "sha256": self.sha256, **({"remark": self.remark} if self.remark else {})}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "ModelInfo":
        """The inverse of `to_json`, with types and ranges checked.

        Raises:
            KeyError: for a missing field.
            TypeError: for a field that is unknown or has another type.
            ValueError: for a number out of range.
        """
        given = [key for key in ("mean", "std", "classes", "stages") if key != "stages" or values.get(key) is not None]
        sequences = {key: tuple(_listed(key, values[key])) for key in given}
        info = cls(**{**values, **sequences, "view": _read_view(values.get("view", {}))})
        check_info(info)
        return info


def _listed(key: str, value: Any) -> Sequence[Any]:
    if not isinstance(value, list | tuple):
        raise TypeError(f"{key} is {value!r}")
    return value


def _read_view(values: Any) -> View:
    if not isinstance(values, dict) or not isinstance(values.get("crop_pct", 1.0), int | float):
        raise TypeError(f"view is {values!r}")
    if not all(isinstance(values.get(key, ""), str) for key in ("interpolation", "crop_mode", "decode")):
        raise TypeError(f"view is {values!r}")
    return View(**values)


def check_info(info: ModelInfo) -> None:
    """Check the types and ranges of a description.

    Raises:
        TypeError: for a field of another type.
        ValueError: for a number out of range.
    """
    numbers = (int, float)
    fits = {
        "name": (isinstance(info.name, str), "a text"),
        "args": (isinstance(info.args, dict), "a mapping of arguments"),
        "n_classes": (type(info.n_classes) is int, "a whole number"),
        "image_size": (type(info.image_size) is int, "a whole number, its side in pixels"),
        "mean": (all(type(value) in numbers for value in info.mean), "a number for each channel"),
        "std": (all(type(value) in numbers for value in info.std), "a number for each channel"),
        "classes": (all(isinstance(name, str) for name in info.classes), "a list of names"),
        "data": (isinstance(info.data, str | None), "a text"),
        "method": (isinstance(info.method, str), "a text"),
        "stages": (all(isinstance(name, str) for name in info.stages or ()), "a list of names of modules"),
        "classifier": (isinstance(info.classifier, str | None), "the name of a module"),
        "prefix_tokens": (info.prefix_tokens is None or type(info.prefix_tokens) is int, "a whole number"),
        "output": (
            isinstance(info.output, str | None) or type(info.output) is int, "the name of a field or a place in a tuple"
        ),
    }  # fmt: skip
    for key, (right, kind) in fits.items():
        if not right:
            raise TypeError(f"{key} must be {kind}, but is {getattr(info, key)!r}")
    for key, least, most in (("n_classes", 0, 10**7), ("image_size", 1, 10**5), ("prefix_tokens", 0, 10**5)):
        value = getattr(info, key)
        if value is not None and not least <= value < most:
            raise ValueError(f"{key} must be at least {least} and below {most:,}, but is {value}")
    if len(info.mean) != len(info.std):
        counts = f"{len(info.mean)} and {len(info.std)} numbers"
        raise ValueError(f"mean and std have {counts}, but each has one for each channel, as in [0.5, 0.5, 0.5]")
    in_range = all(map(math.isfinite, info.mean)) and all(0 < value < math.inf for value in info.std)
    if not in_range or not info.mean:
        raise ValueError(
            "mean and std must hold a finite number for each channel, std above 0, but are "
            f"{list(info.mean)} and {list(info.std)}"
        )
    if info.classes and len(info.classes) != info.n_classes:
        raise ValueError(f"n_classes is {info.n_classes}, but {len(info.classes)} classes are named")
    if info.stages == ():
        raise ValueError("stages names no module; name one at least, or leave it out")


def published_view(config: Mapping[str, Any]) -> View:
    """How timm shows image files to a network, from its `pretrained_cfg`."""
    return View(config.get("crop_pct"), config.get("interpolation"), config.get("crop_mode"))


def create(
    name: str,
    *,
    n_classes: int,
    image_size: int,
    args: dict[str, Any] | None = None,
    pretrained: bool = False,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
    classes: Sequence[str] = (),
    data: str | None = None,
    named_by: str | Path | None = None,
) -> nn.Module:
    """A network by name, with its `ModelInfo` attached.

    Args:
        name: `resnet8` ... `resnet110` (CIFAR), any timm classifier, or a function of one's own, as `module:callable`
            or as what an installed package calls it, which gets the arguments, and `num_classes` and `image_size` if
            its signature names them; modules in the working folder are found.
        n_classes: number of classes, C.
        image_size: side of the input in pixels; passed to networks with a fixed grid.
        args: further arguments of the constructor (patch size, depth, width, ...).
        pretrained: load timm's published weights, which are downloaded if need be.
        mean: mean of each channel, with which its input is standardised.
        std: standard deviation of each channel.
        classes: names of the classes.
        data: the data set that it is meant for.
        named_by: the file that holds name and arguments, if the person at the keyboard did not give them; a
            `module:callable` is then called only if its module is trusted, and timm gets no argument that would make
            it read or fetch a file.

    Raises:
        TrustError: if a file names code that is not trusted.
        ModelError: for an unknown name, for arguments or an image size that it does not take, and for weights that
            cannot be fetched.

    Example:
        >>> import torch
        >>> from kdprobe.models import create
        >>> args = {"patch_size": 4, "embed_dim": 48, "depth": 2, "num_heads": 4}
        >>> vit = create("vit_tiny_patch16_224", n_classes=10, image_size=16, args=args)
        >>> vit(torch.rand(2, 3, 16, 16)).shape
        torch.Size([2, 10])
    """
    args = args or {}
    fetching = [key for key in args if ":" not in name and (key in _FETCHING or key.startswith("pretrained"))]
    if fetching and named_by is not None:
        raise TrustError(
            f"{named_by} gives {name!r} the argument {fetching[0]!r}, which makes timm read or fetch a file; "
            "only a recipe or --set on the command line may do that"
        )
    try:
        model = _constructor(name, image_size, pretrained, named_by)(num_classes=n_classes, **args)
    except TypeError as error:
        raise ModelError(f"model {name!r}: {_argument_mistake(error, name, named_by)}") from error
    except (ValueError, AssertionError, RuntimeError) as error:
        raise ModelError(f"model {name!r} cannot be built with {args} at {image_size} px: {error}") from error
    except Exception as error:
        if isinstance(error, KdprobeError) or (":" in name and not isinstance(error, _MISTAKES)):
            raise
        reason = f"{type(error).__name__}: {error}"
        raise ModelError(f"model {name!r} cannot be built with {args} at {image_size} px ({reason})") from error
    if not isinstance(model, nn.Module):
        raise ModelError(f"model {name!r} must be a torch.nn.Module, but is {type(model).__name__}")
    if getattr(getattr(model, "patch_embed", None), "num_patches", None) == 0:
        raise ModelError(f"the patches of model {name!r} with {args} are larger than an image of {image_size} px")
    args = {key: value for key, value in args.items() if key not in fetching}  # the weights are in the network now
    return attach(model, ModelInfo(name, n_classes, image_size, args, tuple(mean), tuple(std), tuple(classes), data))


def attach(model: nn.Module, info: ModelInfo) -> nn.Module:
    """Attach a description to a network.

    Example:
        >>> import torch
        >>> from kdprobe.models import ModelInfo, attach, model_info
        >>> net = attach(torch.nn.Linear(4, 10), ModelInfo("mine", n_classes=10, image_size=2))
        >>> model_info(net).name
        'mine'
    """
    model.kdprobe_info = info  # type: ignore[assignment]
    return model


def model_info(model: nn.Module) -> ModelInfo:
    """What a network is and how its input is prepared.

    Networks from elsewhere are described by timm's `pretrained_cfg` where they have one.

    Raises:
        ModelError: if nothing is known about the network.

    Example:
        >>> from kdprobe.models import create, model_info
        >>> info = model_info(create("resnet8", n_classes=10, image_size=16))
        >>> info.name, info.n_classes, info.image_size
        ('resnet8', 10, 16)
    """
    model = unwrap(model)
    if (info := described(model)) is not None:
        return info
    config, n_classes = getattr(model, "pretrained_cfg", None), getattr(model, "num_classes", None)
    if not config or n_classes is None:
        raise ModelError(
            f"nothing is known about the input of this {type(model).__name__}; make it with "
            "kdprobe.models.create, or describe it with kdprobe.describe"
        )
    name = config.get("architecture", type(model).__name__)
    size, mean, std = (built_for(model) or config["input_size"])[-1], tuple(config["mean"]), tuple(config["std"])
    return ModelInfo(name, n_classes, size, {}, mean, std, view=published_view(config), elsewhere=True)


def described(model: nn.Module) -> ModelInfo | None:
    """What was attached to a network, whose input size is then what it was made for; None if nothing was."""
    info = getattr(unwrap(model), "kdprobe_info", None)
    return info if isinstance(info, ModelInfo) else None


def relabel(model: nn.Module, **changes: Any) -> nn.Module:
    """Change fields of a network's attached description."""
    return attach(model, replace(model_info(model), **changes))


def unwrap(model: nn.Module) -> nn.Module:
    """The network inside `torch.compile`, `DistributedDataParallel` and `DataParallel`."""
    while True:
        if isinstance(inner := getattr(model, "_orig_mod", None), nn.Module):
            model = inner
        elif isinstance(model, nn.parallel.DistributedDataParallel | nn.DataParallel):
            model = model.module
        else:
            return model


def own_names() -> list[str]:
    """The CIFAR ResNets and all of timm's names."""
    import timm

    return [*CIFAR_NAMES, *timm.list_models()]


def known_names() -> list[str]:
    """All names that `create` knows by itself, and those of installed packages."""
    return [*own_names(), *sorted(offered(_GROUP))]


def is_of_a_function(name: str) -> bool:
    """Whether a name is that of a function of one's own, or of one that an installed package offers."""
    return ":" in name or name in offered(_GROUP)


def count_parameters(module: nn.Module) -> int:
    """Number of trainable and frozen parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


def _constructor(name: str, image_size: int, pretrained: bool, named_by: str | Path | None) -> Callable[..., nn.Module]:
    if is_of_a_function(name):
        function = _own_function(name, named_by)
        return lambda **args: call_own(function, image_size=image_size, **args)
    if name in CIFAR_NAMES:
        if pretrained:
            raise ModelError(f"there are no published weights for {name!r}; give a weights file instead")
        return lambda **args: cifar_resnet(name, **args)
    if not is_timms(name):
        raise ModelError(f"no model {name!r}{near_matches(name, known_names())}")
    return lambda **args: _timm_model(name, image_size, pretrained, args)


def _own_function(name: str, named_by: str | Path | None) -> Callable[..., Any]:
    if ":" not in name and (name in CIFAR_NAMES or is_timms(name)):
        raise ModelError(f"model {name!r} is timm's or kdprobe's own, but an installed package takes its name too")
    try:
        function = own_object(name, named_by=named_by) if ":" in name else installed(_GROUP, name, ModelError)
    except ImportError as error:
        raise ModelError(f"model {name!r} cannot be imported: {error}") from error
    if not callable(function):
        module, _, attribute = name.partition(":")
        raise ModelError(f"model {name!r} cannot be imported: module {module!r} has no function {attribute!r}")
    found: Callable[..., Any] = function
    return found


def _timm_model(name: str, image_size: int, pretrained: bool, args: dict[str, Any]) -> nn.Module:
    import timm

    hub = logging.getLogger("huggingface_hub")
    level = hub.level
    hub.setLevel(logging.ERROR)  # it warns of every retry; the outcome is reported below
    try:
        try:
            model = timm.create_model(name, pretrained=pretrained, img_size=image_size, **args)
        except TypeError as error:
            if "img_size" not in str(error):
                raise
            model = timm.create_model(name, pretrained=pretrained, **args)
    except Exception as error:
        if not pretrained or isinstance(error, TypeError):
            raise
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"the published weights of {name!r} could not be fetched: {reason}") from error
    finally:
        hub.setLevel(level)
    return model


def _argument_mistake(error: TypeError, name: str, named_by: str | Path | None) -> str:
    twice = re.search(r"multiple values for (?:keyword )?argument '(\w+)'", str(error))
    if twice is not None and twice[1] in _DECIDED:
        return f"argument {twice[1]!r} must not be given: {_DECIDED[twice[1]]}"
    match = UNEXPECTED.search(str(error))
    if match is None:
        return str(error)
    known = [parameter for parameter in _parameters(name, named_by) if parameter not in _DECIDED]
    return f"no argument {match[1]!r}{near_matches(match[1], known)}"


def _parameters(name: str, named_by: str | Path | None) -> list[str]:
    """What a constructor takes; nothing where its signature does not tell, as that of `**kwargs`."""
    if name in CIFAR_NAMES:
        return ["shortcut", "in_chans"]
    if is_of_a_function(name):
        found = inspect.signature(_own_function(name, named_by)).parameters
        return [] if any(one.kind is one.VAR_KEYWORD for one in found.values()) else list(found)
    import timm

    with torch.device("meta"):
        constructor = type(timm.create_model(name))
    return [parameter for parameter in inspect.signature(constructor).parameters if parameter != "kwargs"]
