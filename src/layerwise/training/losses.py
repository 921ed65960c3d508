"""The losses: cross-entropy of each task, weighted by class, smoothed."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from layerwise.data.balance import class_weights, positive_weights
from layerwise.training.job import Job

Loss = Callable[[Tensor, NDArray[np.int64]], Tensor]


def make_loss(job: Job) -> Loss:
    """The loss of logits (n, outputs) on rows: cross-entropy of the task, weighted by class.

    Rows count by the job's importance, and classes are balanced by its sums. Unknown multilabel
    targets (NaN) are left out. Label smoothing moves targets towards ½ (binary, multilabel) or the
    uniform distribution (multiclass), Szegedy et al. 2016, §7.
    """
    balanced = job.recipe.balance == "weights"
    smoothing = job.recipe.label_smoothing
    targets = torch.from_numpy(np.ascontiguousarray(job.targets))
    learnt = job.targets[job.train]
    some: NDArray[np.float64] | None = None  # what training rows count
    own: Tensor | None = None  # and all rows
    if job.importance is not None:
        some = job.importance[job.train]
        own = torch.from_numpy(job.importance.astype(np.float32)).to(job.device)
    if job.task == "multilabel":
        weight = None
        if balanced:
            weight = torch.from_numpy(positive_weights(learnt, some)).to(job.device)  # (K,)

        def masked(logits: Tensor, rows: NDArray[np.int64]) -> Tensor:
            wanted = targets[torch.from_numpy(rows)].to(job.device)  # (n, K)
            known = ~torch.isnan(wanted)
            soft = torch.where(known, wanted, 0.0) * (1 - smoothing) + smoothing / 2
            each = functional.binary_cross_entropy_with_logits(
                logits, soft, pos_weight=weight, reduction="none"
            )
            each = each * known
            if own is not None:
                each = each * own[torch.from_numpy(rows).to(job.device), None]
            return each.sum() / known.sum().clamp(min=1)

        return masked

    classes = 2 if job.task == "binary" else int(targets.max()) + 1
    weights = torch.ones(classes, device=job.device)
    if balanced:
        weights = torch.from_numpy(class_weights(learnt, classes, some)).to(job.device)

    def weighted(logits: Tensor, rows: NDArray[np.int64]) -> Tensor:
        wanted = targets[torch.from_numpy(rows)].to(job.device)  # (n,)
        if job.task == "binary":
            soft = wanted.float() * (1 - smoothing) + smoothing / 2
            each = functional.binary_cross_entropy_with_logits(logits[:, 0], soft, reduction="none")
        else:
            each = functional.cross_entropy(
                logits, wanted, label_smoothing=smoothing, reduction="none"
            )
        each = each * weights[wanted]
        if own is not None:
            each = each * own[torch.from_numpy(rows).to(job.device)]
        return each.mean()

    return weighted
