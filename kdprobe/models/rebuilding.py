"""Whether name and arguments build a network again that others built: a checkpoint holds nothing else but weights."""

import json
import sys
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import replace

import torch
from torch import Tensor, nn

from kdprobe.errors import ModelError
from kdprobe.models.creation import ModelInfo, create, model_info, unwrap
from kdprobe.models.facts import made_up_images, watched
from kdprobe.models.outputs import answer_in

#: names of what is being built, to compare it with what it was described to build again
_BUILDING: ContextVar[frozenset[str]] = ContextVar("building", default=frozenset())
_ADVICE = "give kdprobe.describe what builds it, name='module:callable' and args={...}, and the image_size it is for"


def rebuildable(model: nn.Module) -> ModelInfo:
    """What is known of a network, with a name that builds it again.

    A network from elsewhere is named by its class, or as it was described, and built a second time: it must have the
    same tensors and, with them, give the same.

    Raises:
        ModelError: if it cannot be named, or if something else is built.
    """
    network, info = unwrap(model), model_info(model)
    if not info.elsewhere:
        return info
    kind = type(network)
    if info.name in (building := _BUILDING.get()):
        return replace(info, elsewhere=False)  # what builds it describes it so, and is compared outside
    name = info.name if info.name != kind.__name__ else _name_of(kind)
    token = _BUILDING.set(building | {name})
    try:
        args = json.loads(json.dumps(info.args))  # as the file will give them
        with torch.random.fork_rng(devices=[]):
            again = create(name, n_classes=info.n_classes, image_size=info.image_size, args=args)
    except Exception as error:  # whatever a constructor raises without its arguments
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise ModelError(f"{kind.__name__} cannot be saved so that it loads again: {reason}; {_ADVICE}") from error
    finally:
        _BUILDING.reset(token)
    if problems := misfits(again.state_dict(), network.state_dict()):
        raise ModelError(
            f"{kind.__name__} cannot be saved so that it loads again: compared with what {name!r} builds with "
            f"{info.args}, it {', '.join(problems)}; {_ADVICE}"
        )
    if not _gives_the_same(network, again, info):
        raise ModelError(
            f"{kind.__name__} cannot be saved so that it loads again: what {name!r} builds with {info.args} has its "
            f"tensors, but gives other values for the same images; {_ADVICE}"
        )
    return replace(info, name=name, elsewhere=False)


def misfits(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> list[str]:
    """What keeps tensors from fitting a network, in words such as `lacks 'fc.bias' and 2 more`."""
    missing = [name for name in expected if name not in found]
    surplus = [name for name in found if name not in expected]
    shapes = [name for name in expected if name in found and expected[name].shape != found[name].shape]
    return [
        f"{what} {names[0]!r}" + (f" and {len(names) - 1} more" if len(names) > 1 else "")
        for what, names in (("lacks", missing), ("has a surplus", surplus), ("has another shape of", shapes))
        if names
    ]


def _name_of(kind: type[nn.Module]) -> str:
    """A class by module and name, if it can be imported by them."""
    module, name = kind.__module__, kind.__qualname__
    if module != "__main__" and getattr(sys.modules.get(module), name, None) is kind:
        return f"{module}:{name}"
    place = "the program itself (__main__)" if module == "__main__" else f"{module} as {name}"
    raise ModelError(
        f"{kind.__name__} cannot be saved so that it loads again: its class is defined in {place}, where no file can "
        f"name it; move it to a module, or {_ADVICE}"
    )


def _gives_the_same(network: nn.Module, again: nn.Module, info: ModelInfo) -> bool:
    """Whether both give the same for made-up images; also so if the network takes something else."""
    images = made_up_images(network)
    again.load_state_dict(network.state_dict())
    again.to(images)
    outputs = [watched(one, ((images,), {})).output for one in (network, again)]
    if outputs[0] is None or outputs[1] is None:
        return outputs == [None, None]
    before, after = (answer_in(output, info) for output in outputs)
    bound = 1e-3 * float(before.detach().abs().max())  # memory formats and kernels differ by rounding
    return before.shape == after.shape and torch.allclose(before, after, rtol=0, atol=bound)
