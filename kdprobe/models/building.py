"""Networks as their constructors give them, and the size of the images that they were built for."""

import inspect
import logging
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from kdprobe.errors import KdprobeError, ModelError, TrustError, near_matches
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


def built_network(
    name: str,
    *,
    n_classes: int,
    image_size: int,
    args: dict[str, Any],
    pretrained: bool,
    named_by: str | Path | None,
) -> nn.Module:
    """The network as its constructor gives it; arguments as `kdprobe.models.create` takes them.

    Raises:
        TrustError: likewise.
        ModelError: likewise.
    """
    fetching = fetching_arguments(name, args)
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


def fetching_arguments(name: str, args: Mapping[str, Any]) -> list[str]:
    """The arguments with which timm reads or fetches a file."""
    return [key for key in args if ":" not in name and (key in _FETCHING or key.startswith("pretrained"))]


def told_size(network: nn.Module) -> int | None:
    """The side of the input that transformers writes into a network's configuration."""
    told = getattr(getattr(network, "config", None), "image_size", None)
    told = told[0] if isinstance(told, list | tuple) and len(set(told)) == 1 else told
    return told if isinstance(told, int) else None


def built_for(network: nn.Module) -> tuple[int, int] | None:
    """Height and width of the input, which timm's networks with a fixed grid keep where they take in the image.

    timm's `pretrained_cfg` has the size of the published weights instead, whatever `img_size` a network was built with.
    """
    for module in network.modules():
        size = getattr(module, "img_size", None)
        size = (size, size) if isinstance(size, int) else size
        if isinstance(size, list | tuple) and len(size) == 2 and all(isinstance(side, int) for side in size):
            return size[0], size[1]
    return None


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
        reason = " ".join(str(error).split()).partition(". ")[0][:200]  # advice for users of the hub follows
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
