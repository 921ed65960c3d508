"""How far fine-tuning moved each layer: pretrained against fine-tuned, at every main cut."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn

from layerwise.errors import DataError
from layerwise.evaluation.similarity import linear_cka, svcca
from layerwise.models.cuts import Cut
from layerwise.studies.workspace import Workspace
from layerwise.training.activations import pooled_at_cuts
from layerwise.training.network import TransferNetwork
from layerwise.training.transfer import Transfer

MOST_IMAGES = 2000  # of the validation part; more change nothing that one would see
OF_IMAGES = 10  # SVCCA keeps a direction for every so many images at most


@dataclass(frozen=True)
class LayerSimilarity:
    """One cut of a network before and after it was fine-tuned; 1 is the same, 0 nothing in common.

    Attributes:
        cut: The main cut.
        cka: Linear CKA, unbiased (Kornblith et al. 2019); NaN where it is not defined.
        svcca: SVCCA (Raghu et al. 2017); NaN likewise.
        chance: About what SVCCA gives for features with nothing in common.
    """

    cut: str
    cka: float
    svcca: float
    chance: float


def layer_similarity(work: Workspace, tuned: TransferNetwork) -> list[LayerSimilarity]:
    """Every main cut of a fine-tuned network against the pretrained one, bottom to top.

    On the activations of validation pictures, pooled over their places as a probe sees them.

    Args:
        work: Data and pretrained weights.
        tuned: The network; it may end below the last main cut.
    """
    keep = tuned.transfer.keep
    cuts = work.cuts()
    if keep != "all":
        upto = {cut.name for cut in tuned.cuts}
        cuts = [cut for cut in cuts if cut.name in upto]
    source = work.network(Transfer(work.weights_name)).eval()
    before = _pooled(work, source, source.original, cuts)
    after = _pooled(work, tuned, tuned.original, cuts)
    out, start = [], 0
    for cut in cuts:
        columns = slice(start, start + cut.channels)
        out.append(_compare(cut.name, before[:, columns], after[:, columns]))
        start += cut.channels
    return out


def _pooled(
    work: Workspace, network: TransferNetwork, original: nn.Module, cuts: Sequence[Cut]
) -> NDArray[np.float32]:
    """(N, sum of channels) of validation pictures."""
    some = work.rows("val")[:MOST_IMAGES]
    features = pooled_at_cuts(
        network.pixels,
        original.eval(),
        [cut.name for cut in cuts],
        work.store.take(some),
        identity=work.identity,
        folder=work.cache,
        device=work.device,
        threads=work.threads,
        progress=work.track("activations of the fine-tuned network"),
    )
    return np.asarray(features.read(np.arange(len(some), dtype=np.int64)), np.float32)


def _compare(cut: str, before: NDArray[np.float32], after: NDArray[np.float32]) -> LayerSimilarity:
    nan = float("nan")
    try:
        cka = linear_cka(before, after, unbiased=True)
        found = svcca(before, after, components=max(1, len(before) // OF_IMAGES))
    except DataError:  # a layer that says the same of every picture, or too few pictures
        return LayerSimilarity(cut, nan, nan, nan)
    return LayerSimilarity(cut, cka, found.value, found.chance)
