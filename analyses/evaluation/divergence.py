"""How far apart the probabilities are that two networks give an image's classes."""

import math

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from analyses.arrays import takes_arrays
from kdprobe.errors import AnalysisError

MOST = math.log(2)  # of the Jensen-Shannon divergence, in nats


@takes_arrays
def jensen_shannon(
    logits_a: Float[Tensor, "n C"], logits_b: Float[Tensor, "m K"], *, temperature: float = 1.0
) -> Float64[Tensor, " n"]:
    """Jensen-Shannon divergence of two networks' predictive distributions, for each image.

    Args:
        logits_a: of one network.
        logits_b: of the other.
        temperature: both are divided by it.

    Returns:
        nats from 0 (the same distribution) to ln 2 (never the same class); scipy's `jensenshannon` is its square root.

    Raises:
        AnalysisError: for other classes or images in one than in the other, or a temperature that is not above 0, or so
            small that logits divided by it are infinite.

    Reference:
        Lin (1991), Divergence measures based on the Shannon entropy, equation 3.2.

    Example:
        >>> import math
        >>> import torch
        >>> from analyses.evaluation import jensen_shannon
        >>> logits = torch.tensor([[50.0, 0.0]])
        >>> jensen_shannon(logits, logits).item(), round(jensen_shannon(logits, -logits).item() / math.log(2), 2)
        (0.0, 1.0)
    """
    if logits_a.shape != logits_b.shape:
        raise AnalysisError(
            f"the Jensen-Shannon divergence needs logits of the same images and classes, but they are "
            f"{list(logits_a.shape)} and {list(logits_b.shape)}"
        )
    if not 0 < temperature < math.inf:
        raise AnalysisError(f"a temperature must be a finite number above 0, but is {temperature}")
    one, other = ((logits.double() / temperature).log_softmax(1) for logits in (logits_a, logits_b))
    if one.isnan().any() or other.isnan().any():
        raise AnalysisError(f"logits divided by the temperature {temperature} are not finite; take a larger one")
    middle = torch.logaddexp(one, other) - MOST
    found = sum((torch.where(logs.isneginf(), 0.0, logs.exp() * (logs - middle))).sum(1) / 2 for logs in (one, other))
    assert isinstance(found, Tensor)
    return found.clamp(0.0, MOST)  # rounding leaves the range by 1e-16
