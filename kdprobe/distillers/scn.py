"""Self-cure: weigh uncertain faces down, and give the surely mislabelled ones another label.

Reference:
    K. Wang, X. Peng, J. Yang, S. Lu and Y. Qiao, "Suppressing uncertainties for large-scale facial expression
    recognition", CVPR 2020.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from kdprobe.distillers.widen import widened


@widened
def rank_regularisation(
    weights: Float[Tensor, "batch ..."], *, beta: float = 0.7, margin: float = 0.07
) -> Float[Tensor, ""]:
    """How much the mean of the largest weights fails to exceed that of the rest by the margin.

    Args:
        weights: importance of each sample, in (0, 1), [B] or [B, 1].
        beta: fraction of the batch in the high group, rounded down.
        margin: wanted difference of the two means.

    Returns:
        a scalar in [0, margin + 1]; zero where one group is empty, as a batch too small has nothing to rank.
    """
    ranked = weights.flatten().sort(descending=True).values
    n_high = int(beta * len(ranked))
    high, low = ranked[:n_high], ranked[n_high:]
    if not len(high) or not len(low):
        return 0 * ranked.sum()
    return F.relu(margin - (high.mean() - low.mean()))


@torch.no_grad()
def relabel(
    logits: Float[Tensor, "batch classes"], labels: Int[Tensor, " batch"], *, margin: float = 0.2
) -> Int[Tensor, " batch"]:
    """Labels in which the prediction replaces the label where its probability is higher by more than the margin."""
    probabilities = F.softmax(logits, dim=1)
    highest, predicted = probabilities.max(dim=1)
    of_label = probabilities.gather(1, labels[:, None]).squeeze(1)
    return torch.where(highest - of_label > margin, predicted, labels)
