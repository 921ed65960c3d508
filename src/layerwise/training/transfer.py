"""The one idea: for every layer, is it kept, where do its weights come from, does it learn?"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from layerwise.config import from_mapping

Head = Literal["linear", "connected", "flattened", "pooled"]
Classifier = Literal["auto", "own", "small"]
IN_WORDS = {
    "linear": "",
    "connected": ", fully connected",
    "flattened": ", linear on all values",
    "pooled": ", pooled and linear",
}


@dataclass(frozen=True)
class Transfer:
    """What is kept, copied and frozen: each up to a cut, or "all", or "none".

    "all" of copy and freeze means everything but the classifier: a new task always gets a new
    one. Every experiment of the papers is one such value (see docs/architecture.md).

    A truncated network has lost its classifier and gets a head: "linear" is global average
    pooling and one linear layer (Lin et al. 2013; Marcelino 2018, §5.2), "connected" a hidden
    layer on the flattened activation (Marcelino 2018, §5.1 and Code 3), "flattened" one linear
    layer on it (§5.3, for a linear SVM). "pooled" is "linear" with the pooling left to the head, so
    that it reads the very activations, as they are cached, that those two read. See
    `models/heads.py`.

    A whole network's own classifier starts as its constructor makes it ("own") or near 0 ("small",
    see `resolve.start_small`); "auto" is small above copied layers alone. Small, it learns more
    slowly at first. Where transfers are compared with one that copies nothing, all should start
    alike.
    """

    source: str = "none"  # where copied weights come from; "untrained": random filters
    keep: str = "all"  # layers above this cut are dropped
    copy: str = "all"  # layers up to this cut start from the source, the rest at random
    freeze: str = "none"  # layers up to this cut do not learn, batch-norm statistics included
    head: Head = "linear"  # what answers on top of a truncated network
    classifier: Classifier = "auto"  # how that of a whole network starts

    def to_dict(self) -> dict[str, str]:
        """As in `results.json`; head and classifier only where they are not the usual ones."""
        values = asdict(self)
        if self.head == "linear":  # so that runs and files of earlier versions keep their keys
            del values["head"]
        if self.classifier == "auto":
            del values["classifier"]
        return values

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> "Transfer":
        """What `to_dict` gave; unknown keys are refused."""
        return from_mapping(Transfer, values, "transfer")

    @property
    def name(self) -> str:
        """The transfer in words."""
        return self._layers + IN_WORDS[self.head]

    @property
    def _layers(self) -> str:
        cut_off = "" if self.keep == "all" else f"truncated at {self.keep}, "
        if self.source == "none" or self.copy == "none":
            return f"{cut_off}random initialisation"
        kind = "random filters, " if self.source == "untrained" else ""
        if self.freeze == "none":
            part = "" if self.copy in ("all", self.keep) else f", copied to {self.copy}"
            return f"{kind}{cut_off}fine-tuned{part}"
        frozen = "frozen" if self.freeze in ("all", self.keep) else f"frozen to {self.freeze}"
        if self.copy in ("all", self.keep):
            return f"{kind}{cut_off}{frozen}"
        if self.copy == self.freeze:
            return f"{kind}{cut_off}copied and {frozen}"
        return f"{kind}{cut_off}{frozen}, copied to {self.copy}"
