"""Features without the few huge values that some networks have: what the authors of mutual k-NN do first."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from analyses.arrays import as_tensor, takes_arrays
from kdprobe.errors import AnalysisError


@takes_arrays
def clamp_outliers(
    features: Float[Tensor, "n *shape"], *, quantile: float = 0.95, exact: bool = False
) -> Float[Tensor, "n *shape"]:
    """Clamp features to within ±q, with q a quantile of their sizes.

    It changes every feature, so kdprobe does it nowhere by itself.

    Args:
        features: of one layer, or of all layers that share a threshold [n, layers, d].
        quantile: of the sizes, in (0, 1).
        exact: take it over all values at once, instead of the mean over samples of each one's quantile.

    Raises:
        AnalysisError: for another quantile.

    Reference:
        Huh, Cheung, Wang, Isola (2024), The platonic representation hypothesis: their code's preparation of features.

    Example:
        >>> import torch
        >>> from analyses.similarity import clamp_outliers
        >>> clamp_outliers(torch.tensor([[1.0, -2.0], [3.0, 100.0]]), quantile=0.5, exact=True).tolist()
        [[1.0, -2.0], [3.0, 3.0]]
    """
    values = as_tensor(features, name="features", least=2).detach()
    if not 0 < quantile < 1:
        raise AnalysisError(f"the quantile of sizes must lie between 0 and 1, but is {quantile}")
    sizes = values.double().abs().flatten(1).cpu().numpy()
    if exact:
        place = int(quantile * sizes.size)
        limit = float(np.partition(sizes.ravel(), place)[place])
    else:
        limit = float(np.quantile(sizes, quantile, axis=1).mean())
    return torch.clamp(values, -limit, limit)
