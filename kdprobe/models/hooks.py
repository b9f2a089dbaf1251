"""Forward hooks, and the mode of evaluation, that hold only inside a `with` block."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn


@contextmanager
def hooked(
    modules: Sequence[nn.Module | None], hook_at: Callable[[int], Callable[..., None]], *, before: bool = False
) -> Iterator[None]:
    """Inside `with`, each module has a forward hook.

    Args:
        modules: those to watch; None is passed over.
        hook_at: gives the hook of the module at a place of the list. It is called with the module, its inputs and
            its output.
        before: call the hook before the module runs instead, without an output.
    """
    with ExitStack() as stack:
        for place, module in enumerate(modules):
            if module is not None:
                register = module.register_forward_pre_hook if before else module.register_forward_hook
                stack.callback(register(hook_at(place)).remove)
        yield


@contextmanager
def inputs_of(modules: Sequence[nn.Module | None]) -> Iterator[list[Tensor | None]]:
    """Inside `with`, the list is filled with the last input of each module; None stays None."""
    last: list[Tensor | None] = [None] * len(modules)
    with hooked(modules, lambda place: lambda one, given: last.__setitem__(place, _input(one, given)), before=True):
        yield last


@contextmanager
def outputs_of(modules: Sequence[nn.Module | None]) -> Iterator[list[Any]]:
    """Inside `with`, the list is filled with the last output of each module; None stays None."""
    last: list[Any] = [None] * len(modules)
    with hooked(modules, lambda place: lambda _module, _inputs, output: last.__setitem__(place, output)):
        yield last


@contextmanager
def outputs_of_all_calls(
    modules: Sequence[nn.Module], keep: Sequence[Callable[[Any], Any]]
) -> Iterator[list[list[Any]]]:
    """Inside `with`, the lists are filled with what is to be kept of the output of each call of each module.

    Args:
        modules: those to watch.
        keep: for each, what of its output is kept.
    """
    found: list[list[Any]] = [[] for _ in modules]
    with hooked(modules, lambda place: lambda _module, _inputs, output: found[place].append(keep[place](output))):
        yield found


class KeptHooks:
    """Hooks that are made once and are there inside `with` alone.

    A compiler looks at hooks, and at the lists that they fill, before it runs what it compiled: with the same ones
    there is nothing to compile anew.

    Attributes:
        is_open: whether they are there.
    """

    def __init__(self) -> None:
        self.is_open = False
        self._hooks: list[tuple[Any, str, Callable[..., None]]] = []
        self._lists: list[list[Any]] = []

    def inputs_of(self, modules: Sequence[nn.Module | None]) -> list[list[Any]]:
        """A list for each module, which is filled with its inputs, call by call."""
        return [self._add(one, "_forward_pre_hooks", _input) for one in modules]

    def outputs_of(
        self, modules: Sequence[nn.Module | None], keep: Sequence[Callable[[Any], Any]] = ()
    ) -> list[list[Any]]:
        """A list for each module, which is filled with what is to be kept of its outputs, call by call."""
        kept = keep or [_whole] * len(modules)
        return [
            self._add(one, "_forward_hooks", lambda _module, _inputs, output, of=of: of(output))
            for one, of in zip(modules, kept, strict=True)
        ]

    def clear(self) -> None:
        """Empty all lists."""
        for one in self._lists:
            one.clear()

    def __enter__(self) -> None:
        for hooks, name, hook in self._hooks:
            hooks[name] = hook
        self.is_open = True

    def __exit__(self, *_: object) -> None:
        for hooks, name, _hook in self._hooks:
            del hooks[name]
        self.is_open = False

    def _add(self, module: nn.Module | None, kind: str, found: Callable[..., Any]) -> list[Any]:
        seen: list[Any] = []
        if module is not None:
            self._hooks.append((getattr(module, kind), f"kept {len(self._hooks)}", lambda *of: seen.append(found(*of))))
            self._lists.append(seen)
        return seen


def _whole(output: Any) -> Any:
    return output


def _input(module: nn.Module, inputs: Any) -> Any:
    """What it was given, which an activation in place would overwrite."""
    return inputs[0].clone() if _in_place(module) else inputs[0]


def _in_place(module: nn.Module) -> bool:
    return bool(getattr(module, "inplace", False))


@contextmanager
def in_evaluation(model: nn.Module) -> Iterator[None]:
    """Inside `with`, a network is in evaluation mode; afterwards each of its modules is in its own mode again.

    A frozen batch norm in a network that trains is in evaluation mode by itself.

    Args:
        model: the network.
    """
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
