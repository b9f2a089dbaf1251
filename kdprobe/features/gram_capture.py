"""Gram matrices of all layers of a network, whose hooks do nothing but multiply.

    with GramCapture(model, "leaves") as taken:
        pending = taken.pending(minibatch)  # no wait for the device
        pending.grams  # [L, n, n]; of the layers that are `right`, which is for the caller to look at

Whether the product of a layer's features is its Gram matrix to the last digit (`kdprobe.features.gram`) is judged for
all layers at once, when their features are gone. Where it is not, the minibatch is shown once more, and the hook of
such a layer waits and decides; what it decided is done at once from then on.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from torch import Tensor, nn

from kdprobe.features.capturing import Capture
from kdprobe.features.gram import Product, Way, decided, judged, multiplied
from kdprobe.features.minibatches import Forward
from kdprobe.features.one_pass import LayerOutput
from kdprobe.models.layers import Layers

_Key = tuple[str, int]  # name of a layer, and the number of its call


@dataclass(frozen=True, eq=False)
class LayerGrams:
    """Centred Gram matrices of a minibatch on the device.

    Attributes:
        layers: their names.
        grams: float64.
        right: whether each can be used.
    """

    layers: Sequence[str]
    grams: Float[Tensor, "L n n"]
    right: Bool[Tensor, " L"]


class GramCapture(Capture):
    """Capture of Gram matrices; `pending` and `grams` run the network.

    Args:
        model: as `capture` takes it.
        layers: the same.
        reduce: the same: of what the products are made.
        forward: the same.
    """

    def __init__(
        self,
        model: nn.Module,
        layers: Layers,
        *,
        reduce: str | Callable[[Tensor], Tensor] = "flatten",
        forward: Forward | None = None,
    ) -> None:
        super().__init__(model, layers, reduce=reduce, evaluate=True, detach=True, forward=forward)
        self._whole = reduce == "flatten"  # which is not copied first
        self._ways: dict[_Key, Way] = {}  # of layers whose way is known
        self._products: dict[_Key, Product] = {}  # of this pass

    def __enter__(self) -> "GramCapture":
        super().__enter__()
        return self

    def pending(self, batch: Any) -> LayerGrams:
        """Run the network on a copy of a minibatch that is on its device.

        Raises:
            AnalysisError: if features are not finite or out of range.
            CaptureError: as `capture`.
        """
        self._products = {}
        self(batch)
        keys = self._keys()
        if not keys:
            none = torch.zeros(0, 0, 0, dtype=torch.float64)
            return LayerGrams([], none, none[:, 0, 0].bool())
        grams, right = judged([self._products[key] for key in keys.values()])
        self._products = {}
        return LayerGrams(list(keys), grams, right)

    def accepts(self, right: NDArray[np.bool_]) -> bool:
        """Whether all of the last pass can be used; if not, the same minibatch has to be shown once more.

        Args:
            right: of the pending matrices, on the host.
        """
        for key, holds in zip(self._keys().values(), right, strict=True):
            if not holds:
                del self._ways[key]
        return bool(np.all(right))

    def grams(self, batch: Any) -> dict[str, Tensor]:
        """Gram matrix [n, n] of each layer for a minibatch that is on the network's device.

        Raises:
            AnalysisError: as `pending`.
            CaptureError: as `capture`.
        """
        made = self.pending(batch)
        while not self.accepts(made.right.cpu().numpy()):
            made = self.pending(batch)
        return dict(zip(made.layers, made.grams, strict=True))

    def _keys(self) -> dict[str, _Key]:
        outputs = self._pass.labels()
        return {label: (outputs[label].name, outputs[label].number) for label in self}

    def _reduced(self, tensor: Any, one: LayerOutput) -> Tensor:
        key, feature = (one.name, one.number), tensor if self._whole else super()._reduced(tensor, one)
        made = multiplied(feature, way) if (way := self._ways.get(key)) else decided(feature)
        if way is None and made.way is not Way.CAREFUL:
            self._ways[key] = made.way
        self._products[key] = made
        return made.plain
