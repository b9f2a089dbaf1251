"""Creating networks by name and knowing what was created."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from kdprobe.data.dataset import AS_IT_IS, IMAGENET_MEAN, IMAGENET_STD, View
from kdprobe.data.decode import at_size
from kdprobe.devices import constant
from kdprobe.errors import ModelError
from kdprobe.models.building import built_for, built_network, fetching_arguments, is_of_a_function

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
        """Images [B, c, s, s] in [0, 1] -> standardised by this network's mean and std; grey ones get its channels.

        Raises:
            ModelError: for images of other channels.
        """
        if images.shape[1] not in (1, len(self.mean)):
            raise ModelError(
                f"network {self.name!r} takes images of {len(self.mean)} channels, a mean for each, but these have "
                f"{images.shape[1]}"
            )
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
    """A network by name, with its `ModelInfo` attached; what its function has described of its layers and output stays.

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
    model = built_network(
        name, n_classes=n_classes, image_size=image_size, args=args, pretrained=pretrained, named_by=named_by
    )
    own = described(model)
    args = {
        key: value for key, value in args.items() if key not in fetching_arguments(name, args)
    }  # the weights are in it now
    info = ModelInfo(name, n_classes, image_size, args, tuple(mean), tuple(std), tuple(classes), data)
    return attach(model, replace(info, **{key: getattr(own, key) for key in ANATOMY} if own is not None else {}))


def described_by(
    name: str, *, n_classes: int, args: dict[str, Any], named_by: str | Path | None = None
) -> ModelInfo | None:
    """What a function of one's own has described of the network that it builds; None for others.

    Raises:
        TrustError: as `create`.
        ModelError: likewise.
    """
    if not is_of_a_function(name):
        return None
    return described(
        built_network(name, n_classes=n_classes, image_size=32, args=args, pretrained=False, named_by=named_by)
    )


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


def count_parameters(module: nn.Module) -> int:
    """Number of trainable and frozen parameters."""
    return sum(parameter.numel() for parameter in module.parameters())
