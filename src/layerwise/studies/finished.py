"""Finished runs found again from their folders alone: data, network and answers as they were.

A run's folder, OUT/runs/ID, says what was done, and OUT/plan.json with what data and network. The
data are read again, and everything is compared with what the run was made of: a bundle made of
other pictures or weights would carry scores that are not its own.
"""

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from layerwise.config import read_json
from layerwise.data.load import DataOptions
from layerwise.errors import DataError, LayerwiseError, LeakError
from layerwise.evaluation.predictions import Predictions
from layerwise.models.ensemble import Ensemble, Member
from layerwise.studies.automatic import follow
from layerwise.studies.plan import Plan, read_plan
from layerwise.studies.prepare import Request, prepare
from layerwise.studies.study import Outcome, Run, RunStore
from layerwise.studies.trained import rebuild, test_logits
from layerwise.studies.workspace import Say, Track, Workspace
from layerwise.training.activations import weights_digest
from layerwise.training.network import TransferNetwork
from layerwise.training.transfer import Transfer

CHECKED = 32  # validation pictures on which a rebuilt network must answer as its run did
CLOSE = 1e-2  # of probabilities; wrong weights are far beyond it, another device is far below
AGAIN = "`layerwise runs OUT` lists the runs of a fit; name OUT/runs/ID"


@dataclass(frozen=True)
class Finished:
    """A finished run and what is needed to use its network.

    Attributes:
        folder: Its own.
        outcome: What it left.
        transfer: What was kept, copied and frozen.
        work: Data, pictures and source weights.
    """

    folder: Path
    outcome: Outcome
    transfer: Transfer
    work: Workspace

    @property
    def id(self) -> str:
        """The run's."""
        return self.outcome.run.id

    def network(self) -> TransferNetwork:
        """The network, in evaluation mode.

        Raises:
            LayerwiseError: It does not answer for validation pictures as the run did.
        """
        network = rebuild(self.work, self.transfer, self.outcome)
        rows = self.work.rows("val")[:CHECKED]
        said = self.work.predictions(rows, test_logits(self.work, network, rows))
        gap = float(np.abs(said.scores - self.outcome.validation.scores[:CHECKED]).max())
        if not gap <= CLOSE:
            raise LayerwiseError(
                f"{self.folder}: the network made again from it answers otherwise than the run "
                f"did (by {gap:.2g}); remove the folder and repeat the command that made it"
            )
        return network

    def on_test(self, network: TransferNetwork) -> tuple[Predictions, bool]:
        """What it says of the test part, and whether that had to be found out now.

        It is kept in the run's folder, so that nothing is tested twice.
        """
        path = self.folder / "test.npz"
        if path.is_file():
            return Predictions.load(path), False
        rows = self.work.rows("test")
        said = self.work.predictions(rows, test_logits(self.work, network, rows))
        said.save(path)
        return said, True


def read_finished(folder: Path) -> Outcome:
    """What a run's folder holds.

    Raises:
        LayerwiseError: It is no run's, the run has not been finished, has no network, or has been
            changed.
    """
    if not (folder / "run.json").is_file():
        what = "no run" if folder.is_dir() else "no such folder"
        raise LayerwiseError(f"{folder}: {what}; {AGAIN}")
    settings = read_json(folder / "run.json")
    if not isinstance(settings, dict) or not {"name", "kind", "data"} <= set(settings):
        raise LayerwiseError(f"{folder / 'run.json'} is not that of a run; {AGAIN}")
    run = Run(settings.pop("name"), settings.pop("kind"), settings)
    if run.kind not in ("trained", "probe"):
        raise LayerwiseError(
            f"{folder}: {run.name} is a baseline without a network, and a bundle is one; name "
            "trained runs or probes"
        )
    if run.id != folder.resolve().name:
        raise LayerwiseError(
            f"{folder}: its run.json is of run {run.id}: the folder was renamed or the file "
            "changed; put it back, or repeat the command that made it"
        )
    outcome = RunStore(folder.resolve().parent).find(run)
    if outcome is None:
        raise LayerwiseError(
            f"{folder}: {run.name} has not been finished; repeat the command that began it, and "
            "it goes on where it stopped"
        )
    return outcome


def open_runs(
    folders: Sequence[Path], cache: Path, say: Say, track: Track, data: str | None = None
) -> list[Finished]:
    """Finished runs with their data; of several fits, if their data and pictures are the same.

    Args:
        folders: OUT/runs/ID each.
        cache: The folder of decoded pictures and activations.
        say: Told what is being done, a line each.
        track: Makes a progress callback with a title.
        data: Where the data are now; None: where the fit found them.

    Raises:
        LayerwiseError: A folder is not a finished run's; its plan or its data are gone or others
            than they were; or two runs are of different data.
    """
    outcomes = [read_finished(folder) for folder in folders]
    _refuse_different(folders, outcomes)
    works: dict[Path, Workspace] = {}
    found = []
    for folder, outcome in zip(folders, outcomes, strict=True):
        out = folder.resolve().parent.parent
        if out not in works:
            works[out] = _workspace(out, cache, say, track, data)
        work = _with_own_network(works[out], outcome, out)
        _refuse_other(folder, outcome.run.settings, work, out)
        transfer = Transfer.from_dict(outcome.run.settings["transfer"])
        found.append(Finished(folder, outcome, transfer, work))
    return found


def _refuse_different(folders: Sequence[Path], outcomes: Sequence[Outcome]) -> None:
    """Only networks that take the same pictures, of the same data and split, go together."""
    first, one = folders[0], outcomes[0].run.settings
    names = {"data": "data or split", "image_size": "size of pictures", "channels": "colour"}
    names["letterbox"] = "--letterbox"
    for folder, outcome in zip(folders[1:], outcomes[1:], strict=True):
        for key, name in names.items():
            a, b = one.get(key), outcome.run.settings.get(key)
            if a != b:
                raise LayerwiseError(
                    f"{first} and {folder} can not be put together: their {name} differ ({a} and "
                    f"{b}); name runs of one fit, or of fits of the same data and picture size"
                )


def _workspace(out: Path, cache: Path, say: Say, track: Track, data: str | None) -> Workspace:
    """The workspace of a fit, made again from its plan."""
    path = out / "plan.json"
    if not path.is_file():
        raise LayerwiseError(
            f"{path} is missing, which says what data and network its runs had; put it back, or "
            "name runs of a fit that has its plan"
        )
    request = request_of(read_plan(path), out, cache, data)
    try:
        # No gate: the fit has passed it, or was told to go on.
        return prepare(request, say, track, lambda *_: int(request.image_size or 0)).work
    except LeakError:
        raise
    except DataError as error:
        raise DataError(
            f"the data of {path} can not be read again: {error}. If they are elsewhere now, or "
            "this is not the folder that the fit was started in, name them with --data"
        ) from error


def request_of(plan: Plan, out: Path, cache: Path, data: str | None = None) -> Request:
    """The request that a plan's work goes on from.

    Args:
        plan: As `fit` wrote it.
        out: Its folder.
        cache: The folder of decoded pictures and activations.
        data: In place of what the plan names.
    """
    options = _options(plan.request.get("options", {}), out / "plan.json")
    request = Request(
        data=data or str(plan.request["data"]),
        out=out,
        cache=cache,
        options=options,
        model=plan.model,
        seconds=plan.budget_seconds,
        allow_leaks=True,
        skip_unreadable=options.skip_unreadable,
    )
    return follow(request, plan)


def _with_own_network(work: Workspace, outcome: Outcome, out: Path) -> Workspace:
    """Of a study: the workspace with the network and the seed of one of its runs.

    A study has runs of several networks, sources and seeds, and its plan describes one of them. A
    trained run has kept all its weights, those that it has not changed included. So its source is
    not needed to make its network again, and any weights may stand in for it.
    """
    kept = outcome.run.settings
    if outcome.run.kind != "trained" or "study" not in read_json(out / "plan.json"):
        return work
    work = replace(work, seed=kept["seed"])
    own = {"model": kept["model"], "arguments": kept["arguments"], "weights": kept["weights"]}
    plan = {**work.identity, "weights": work.weights_digest}
    if own == plan:
        return work
    work = replace(work, model=own["model"], arguments=own["arguments"], keep="all", _cuts=[])
    stand_in = None if own["weights"] == "none" else work.blank().module.state_dict()
    return replace(
        work,
        weights=stand_in,
        weights_name=kept["transfer"]["source"],
        weights_digest=own["weights"],
    )


def _options(kept: Mapping[str, str], path: Path) -> DataOptions:
    """The flags that go with DATA, from the words that `Request.identity` made of them."""
    values: dict[str, Any] = {}
    for field in fields(DataOptions):
        if field.name not in kept:
            continue
        text = kept[field.name]
        if isinstance(field.default, bool):
            values[field.name] = text == "True"
        elif isinstance(field.default, tuple):
            values[field.name] = tuple(map(str, ast.literal_eval(text)))
        else:
            values[field.name] = text
    unknown = sorted(set(kept) - set(values))
    if unknown:
        raise LayerwiseError(
            f"{path}: unknown data flag {unknown[0]!r}; it was written by another version of "
            "Layerwise: use that one"
        )
    return DataOptions(**values)


def _refuse_other(folder: Path, kept: Mapping[str, Any], work: Workspace, out: Path) -> None:
    """What the run was made of must be what is there now."""
    words = {
        "data": "the data are not those it was trained on any more (pictures, labels or split)",
        "weights": f"{work.weights_name} does not hold the weights that it started from any more",
    }
    # The data last: another seed is another split, and then it is the seed that should be named.
    for name, now in sorted(work.settings.items(), key=lambda item: item[0] == "data"):
        if kept.get(name) != now:
            what = words.get(name, f"its {name} is {kept.get(name)!r}, in plan.json {now!r}")
            raise LayerwiseError(
                f"{folder}: {what}; put back what {out / 'plan.json'} was made with, or fit again"
            )


def put_together(
    networks: Sequence[TransferNetwork], weights: Sequence[float], task: str
) -> Ensemble:
    """An ensemble of networks, in which equal frozen bottoms are one and run once.

    Args:
        networks: In evaluation mode, on one device.
        weights: One each.
        task: "binary", "multiclass" or "multilabel".
    """
    bottoms: dict[tuple[str, str], nn.Module] = {}
    members: list[Member] = []
    for network in networks:
        bottom = network.frozen_part()
        if bottom is None:
            members.append(network)
            continue
        # The printed form has the layers, their graph and the input contract.
        key = (str(bottom), weights_digest(bottom))
        members.append((bottoms.setdefault(key, bottom), network.top))
    device = next(networks[0].parameters()).device
    return Ensemble(members, weights, task).to(device).eval()
