"""The nearest class mean (Mensink et al. 2013): a linear classifier that needs no search at all."""

import numpy as np
from numpy.typing import NDArray

from layerwise.models.solved.linear import Linear
from layerwise.models.solved.margin_losses import Floats
from layerwise.models.solved.rotation import Columns, scaled


def nearest_mean(
    columns: Columns,
    targets: NDArray[np.generic],
    fold: NDArray[np.int64],
    task: str,
    *,
    standardise: bool = False,
) -> tuple[Linear, Floats]:
    """A linear layer that answers with the class whose mean is nearest (Euclidean).

    Several classes: the logit of each is −distance² to its mean, but for ‖x‖², which all share; so
    softmax over the logits is softmax over −distance². Two classes: the one logit is the difference
    of the two squared distances. Several labels: so for every label, between the means of the
    images that have it and of those that do not, unknown ones left out.

    Args:
        columns: Features (n, d).
        targets: int64 (n,), or float32 (n, K) with NaN where unknown.
        fold: (n,) from 0 on; see the second result.
        task: "binary", "multiclass" or "multilabel".
        standardise: Measure in features of mean 0 and deviation 1 (over all rows).

    Returns:
        The layer, with means over all rows; and (n, outputs) the logits of each row by the means
        of all rows outside its fold.

    Raises:
        TrainingError: Values that are not finite.
    """
    if task == "multiclass":
        groups = (np.arange(int(targets.max()) + 1)[:, None] == targets)[None]  # (1, K, n)
    else:
        y = np.atleast_2d(targets.T)  # (K, n)
        groups = np.stack([y == 0, y == 1], axis=1)  # (K, 2, n)
    folds = int(fold.max()) + 1
    inside = np.arange(folds + 1)[:, None] != fold  # (F + 1, n): the last leaves nothing out
    members = (inside[:, None, None] & groups).astype(np.float64)  # (F + 1, ·, ·, n)
    shape, n = members.shape[:3], len(fold)
    members = members.reshape(-1, n)
    members /= np.maximum(members.sum(axis=1, keepdims=True), 1)
    weight = np.empty((shape[1] * shape[2], columns.width))
    bias = np.zeros(shape[1] * shape[2])
    held = np.zeros((*shape[1:], n))
    for where, block in columns.blocks():
        x, centre, scale, _ = scaled(block, standardise=standardise, centred=True)
        means = (members @ x).reshape(*shape, -1)  # (F + 1, ·, ·, d)
        lengths = (means * means).sum(axis=3)
        for f in range(folds):
            mine = fold == f
            held[..., mine] += 2 * means[f] @ x[mine].T - lengths[f][..., None]
        whole = means[-1].reshape(-1, x.shape[1])
        weight[:, where] = 2 * whole * scale
        bias -= lengths[-1].ravel() + weight[:, where] @ centre
    if task == "multiclass":
        return Linear(weight.astype(np.float32), bias.astype(np.float32)), held[0].T
    weight, bias = weight[1::2] - weight[::2], bias[1::2] - bias[::2]  # positive minus negative
    return Linear(weight.astype(np.float32), bias.astype(np.float32)), (held[:, 1] - held[:, 0]).T
