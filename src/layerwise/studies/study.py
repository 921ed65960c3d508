"""Runs: content-addressed, never repeated, resumed where they stopped.

A run's folder is named by the key of everything that decides its result: data, network, weights,
transfer, recipe, seed. What is in a finished run's folder is therefore right for ever, and a
study is only a list of runs that it asks for.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from layerwise.config import content_key, read_json, write_json
from layerwise.evaluation.predictions import Predictions


@dataclass(frozen=True)
class Run:
    """What decides a run's result, and the name that people see.

    Attributes:
        name: In words; not part of the key.
        kind: "trained", "probe" or "floor".
        settings: JSON-able; everything that decides the result.
    """

    name: str
    kind: str
    settings: Mapping[str, Any]

    @property
    def id(self) -> str:
        """16 hexadecimal digits: equal work, equal id."""
        return content_key({"kind": self.kind, **self.settings})[:16]


@dataclass(frozen=True)
class Outcome:
    """What a finished run left.

    Attributes:
        run: What was asked for.
        seconds: Its wall-clock time, over all sittings.
        parameters: Of the whole network; 0 for baselines.
        validation: What it says of the validation part.
        details: JSON-able: history and the like.
        weights: By original name; empty where there are none.
    """

    run: Run
    seconds: float
    parameters: int
    validation: Predictions
    details: dict[str, Any] = field(default_factory=dict)
    weights: dict[str, NDArray[np.generic]] = field(default_factory=dict)


class RunStore:
    """The folder `runs/` of an output folder."""

    def __init__(self, folder: Path) -> None:
        """The folder is made when the first run begins."""
        self.folder = folder

    def place(self, run: Run) -> Path:
        """The folder of a run, with `run.json` in it; made if need be."""
        path = self.folder / run.id
        if not (path / "run.json").is_file():
            path.mkdir(parents=True, exist_ok=True)
            write_json(path / "run.json", {"name": run.name, "kind": run.kind, **run.settings})
        return path

    def finish(self, outcome: Outcome) -> None:
        """Keep a finished run; `result.json`, written last, says that all the rest is there."""
        path = self.place(outcome.run)
        outcome.validation.save(path / "validation.npz")
        if outcome.weights:
            part = path / "weights.safetensors.part"
            # not ascontiguousarray, which turns a single number into an array of one
            save_file({n: np.asarray(w, order="C") for n, w in outcome.weights.items()}, part)
            part.replace(path / "weights.safetensors")
        write_json(
            path / "result.json",
            {
                "seconds": outcome.seconds,
                "parameters": outcome.parameters,
                "details": outcome.details,
            },
        )

    def find(self, run: Run) -> Outcome | None:
        """A finished run, or None."""
        path = self.folder / run.id
        if not (path / "result.json").is_file():
            return None
        result = read_json(path / "result.json")
        weights = path / "weights.safetensors"
        return Outcome(
            run,
            result["seconds"],
            result["parameters"],
            Predictions.load(path / "validation.npz"),
            result["details"],
            load_file(weights) if weights.is_file() else {},
        )
