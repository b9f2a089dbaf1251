"""One call of a network, and the outputs of its layers."""

from collections import Counter
from dataclasses import dataclass, field

from torch import Tensor


@dataclass
class LayerOutput:
    """The output of one call of a layer."""

    name: str
    number: int
    shape: tuple[int, ...] = ()
    feature: Tensor | None = None
    refused: str = ""
    unfit: bool = False


@dataclass
class Pass:
    """One call of the network: the number of images, and the outputs of its layers."""

    n_images: int | None = None
    with_gradients: bool = False
    outputs: list[LayerOutput] = field(default_factory=list)
    ran: Counter[str] = field(default_factory=Counter)

    def began(self, name: str) -> LayerOutput:
        """The next call of a layer."""
        self.ran[name] += 1
        one = LayerOutput(name, self.ran[name])
        self.outputs.append(one)
        return one

    def labels(self) -> dict[str, LayerOutput]:
        """Outputs by the names of their layers, with the number of the call where there are several."""
        total = Counter(one.name for one in self.outputs)
        return {one.name if total[one.name] == 1 else f"{one.name}#{one.number}": one for one in self.outputs}
