"""Several networks as one: the weighted mean of their probabilities, as logits.

So whatever takes a network (loops of prediction, the export to a bundle) takes an ensemble.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

Member = nn.Module | tuple[nn.Module, nn.Module]


class Ensemble(nn.Module):
    """uint8 pictures → logits whose sigmoid or softmax is the members' weighted mean.

    It is computed from logarithms (log σ(z) = −softplus(−z), log-sum-exp over the members), so no
    probability is rounded to 0 or 1 on the way and nothing has to be clamped: with members that
    are all sure of it, the ensemble is as sure as they.
    """

    log_weights: Tensor

    def __init__(self, members: Sequence[Member], weights: Sequence[float], task: str) -> None:
        """Put networks together; they share their parameters with it.

        Args:
            members: Networks, uint8 (N, H, W, C) → logits (N, outputs), all for pictures of one
                size; or pairs of a bottom and a top. The same bottom, as an object, in several
                pairs is evaluated once.
            weights: One a member, above 0; they are divided by their sum.
            task: "multiclass" for a softmax, else sigmoids.
        """
        super().__init__()
        if len(members) != len(weights) or not members or min(weights) <= 0:
            raise ValueError(f"{len(members)} members need as many weights above 0, not {weights}")
        self.softmax = task == "multiclass"
        pairs = [m if isinstance(m, tuple) else (nn.Identity(), m) for m in members]
        bottoms = {id(bottom): bottom for bottom, _ in pairs}
        self.bottoms = nn.ModuleList(bottoms.values())
        self.tops = nn.ModuleList(top for _, top in pairs)
        self.stands_on = [list(bottoms).index(id(bottom)) for bottom, _ in pairs]
        share = torch.tensor(weights, dtype=torch.float64)
        self.register_buffer("log_weights", (share / share.sum()).log().float())  # (M,)

    def forward(self, images: Tensor) -> Tensor:
        """uint8 (N, H, W, C) → logits (N, outputs)."""
        below = [bottom(images) for bottom in self.bottoms]
        logits = torch.stack(
            [top(below[at]) for top, at in zip(self.tops, self.stands_on, strict=True)]
        )  # (M, N, outputs)
        shares = self.log_weights[:, None, None]
        if self.softmax:
            return (functional.log_softmax(logits, dim=2) + shares).logsumexp(dim=0)
        yes = (shares - functional.softplus(-logits)).logsumexp(dim=0)
        no = (shares - functional.softplus(logits)).logsumexp(dim=0)
        return yes - no
