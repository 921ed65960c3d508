"""What of a fit outlives its folders: the network, and how it is asked and answers."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from layerwise.errors import ModelError
from layerwise.estimator.answers import Answers
from layerwise.estimator.reading import Given, prepared
from layerwise.evaluation.estimates import estimate
from layerwise.evaluation.explain import heat_maps
from layerwise.evaluation.predictions import probabilities
from layerwise.serving.card import BundleInfo, Preprocessing
from layerwise.serving.explanation.write import NO_PLACES, explained_at
from layerwise.serving.export import export_bundle
from layerwise.serving.origin import data_of, origin_of
from layerwise.serving.reference import statistics_of
from layerwise.studies.profile import Probe
from layerwise.studies.study import Outcome
from layerwise.studies.workspace import Workspace, laid_out
from layerwise.training.loop import predict_logits
from layerwise.training.network import TransferNetwork, build
from layerwise.training.transfer import Transfer

DRAWS = 500  # resamples of an interval of the profile
EXAMPLES = 8  # pictures kept with a network, to compare a bundle with it


@dataclass(frozen=True)
class Plan:
    """What makes a network again, beside its weights."""

    model: str
    arguments: dict[str, str]
    outputs: int
    image_size: int
    seed: int
    transfer: Transfer

    def network(self, weights: Mapping[str, NDArray[Any]]) -> TransferNetwork:
        """The network with these weights, all that it has, in evaluation mode."""
        tensors = {name: torch.from_numpy(np.array(value)) for name, value in weights.items()}
        network = build(
            self.transfer,
            model=self.model,
            outputs=self.outputs,
            seed=self.seed,
            image_size=self.image_size,
            arguments=self.arguments,
            source_weights=tensors,
        )
        network.load(tensors)
        return laid_out(network, device()).eval()


@dataclass(frozen=True)
class GivenInputs:
    """Pictures as a user gives them, in the place of a store's (`training.inputs.Inputs`)."""

    given: Given
    shape: Preprocessing

    def read(
        self, rows: NDArray[np.int64], epoch: int | None, copies: NDArray[np.int64] | None = None
    ) -> torch.Tensor:
        """The pictures (n, H, W, C) uint8 of these rows; never augmented."""
        how = self.shape
        pictures = prepared(self.given, rows, how.size, how.channels, how.letterbox)
        return torch.from_numpy(pictures)


@dataclass
class Fitted:
    """A network that answers; it can be pickled.

    Attributes:
        network: In evaluation mode.
        plan: What makes it again.
        answers: What its outputs mean.
        shape: The pictures that it takes.
        threads: Of PyTorch.
        probes: One a main cut, bottom to top; empty where none was asked for.
        examples: A few pictures that it was not trained on, uint8 (n, H, W, C).
        provenance: Run, transfer, weights and data, JSON-able.
        statistics: What `layerwise drift` compares with, JSON-able.
        importance: (v,) what each picture counts that was held out; None: all the same.
    """

    network: TransferNetwork
    plan: Plan
    answers: Answers
    shape: Preprocessing
    threads: int
    probes: list[Probe]
    examples: NDArray[np.uint8]
    provenance: dict[str, Any]
    statistics: dict[str, Any] | None = None
    importance: NDArray[np.float64] | None = None

    @staticmethod
    def of(
        work: Workspace,
        network: TransferNetwork,
        outcome: Outcome,
        probes: list[Probe],
        answers: Answers,
    ) -> "Fitted":
        """What is kept of a workspace and of the run in it whose network was chosen."""
        return Fitted(
            network=network,
            plan=Plan(
                work.model,
                dict(work.arguments),
                work.outputs,
                work.image_size[0],
                work.seed,
                network.transfer,
            ),
            answers=answers,
            shape=Preprocessing(work.image_size, work.store.channels, work.store.letterbox),
            threads=work.threads,
            probes=probes,
            examples=work.store.read(work.rows("val")[:EXAMPLES]),
            provenance=origin_of(work, outcome.run.id, network.transfer) | data_of(work),
            statistics=statistics_of(work.manifest, work.store, outcome.validation, None),
            importance=work.importance_of("val"),
        )

    def __getstate__(self) -> dict[str, Any]:
        """The network's weights as arrays, in its place."""
        state = dict(vars(self))
        network: TransferNetwork = state.pop("network")
        state["weights"] = {n: t.cpu().numpy() for n, t in network.weights().items()}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """The network is made again."""
        rest = {name: value for name, value in state.items() if name != "weights"}
        vars(self).update(rest, network=rest["plan"].network(state["weights"]))

    def probabilities(self, given: Given) -> NDArray[np.float32]:
        """(n, K) float32 of pictures, a column for each class."""
        inputs = GivenInputs(given, self.shape)
        with torch_threads(self.threads):
            rows = np.arange(len(given))
            logits = predict_logits(self.network, inputs, rows, self._device)
        return self.answers.probabilities(probabilities(self.answers.task, logits))

    def explained(
        self, given: Given, decided: NDArray[np.int64]
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """The pictures (n, H, W, C) as the network sees them, and heat maps (n, H, W) of a class.

        Raises:
            ModelError: The network keeps no places of a picture.
        """
        images = GivenInputs(given, self.shape).read(np.arange(len(given)), None)
        with torch_threads(self.threads):
            cut, heat = heat_maps(self.network, images.to(self._device), decided)
        if not cut:
            raise ModelError(
                f"no layer of {self.plan.model} ({self.plan.transfer.name}) keeps the places of a "
                "picture, so there is nothing to show; fit another model"
            )
        return images.numpy(), heat

    def probed(self, probe: Probe) -> dict[str, Any]:
        """One depth of the profile, as a row of a table."""
        said, cut = probe.outcome.validation, probe.cut
        found = estimate(
            "auroc",
            self.answers.task,
            said.targets,
            [said.scores],
            said.groups,
            counts=self.importance,
            draws=DRAWS,
            seed=self.plan.seed,
        ).interval()
        return {
            "cut": cut.name,
            "channels": cut.channels,
            "stride": cut.stride,
            "parameters": cut.parameters,
            "macs": cut.macs,
            "auroc": found["value"],
            "low": found["low"],
            "high": found["high"],
            "chosen": cut.name in (self.plan.transfer.keep, self.plan.transfer.freeze),
        }

    def export(self, folder: str | Path) -> None:
        """Write a bundle, compared with the network on the pictures that were kept."""
        info = BundleInfo(
            name=self.plan.model,
            task=self.answers.task,
            labels=self.answers.labels,
            preprocessing=self.shape,
            provenance=self.provenance,
            statistics=self.statistics,
        )
        with torch_threads(self.threads):
            images = torch.from_numpy(self.examples).to(self._device)
            with torch.inference_mode():
                logits = self.network(images)
            decided = logits[:, 0] > 0 if logits.shape[1] == 1 else logits.argmax(dim=1)
            cut, _ = heat_maps(self.network, images, decided.long().cpu().numpy())
            explained = explained_at(self.network, cut) if cut else NO_PLACES
            export_bundle(folder, self.network, info, self.examples, explained=explained)

    @property
    def _device(self) -> torch.device:
        return next(self.network.parameters()).device


def device() -> torch.device:
    """Where torch runs."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """So many threads of torch inside; what the program had, outside."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
