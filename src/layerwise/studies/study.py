"""Runs: content-addressed, never repeated, resumed where they stopped.

A run's folder is named by the key of everything that decides its result: data, network, weights,
transfer, recipe, seed. What is in a finished run's folder is therefore right for ever, and a
study is only a list of runs that it asks for. Studies with the same cache share their runs: what
one has finished, another finds.
"""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from safetensors.torch import load_file as load_tensors
from torch import Tensor

from layerwise.config import content_key, read_json, write_json
from layerwise.evaluation.predictions import Predictions

PARTS = ("test", "train")  # that a run may be asked about beside validation
TAKEN = "taken.json"  # in the folder of a run that another study has finished


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
        parts: What it says of further parts, "train" or "test", where a study asked for them.
    """

    run: Run
    seconds: float
    parameters: int
    validation: Predictions
    details: dict[str, Any] = field(default_factory=dict)
    weights: dict[str, NDArray[np.generic]] = field(default_factory=dict)
    parts: dict[str, Predictions] = field(default_factory=dict)


class RunStore:
    """The folder `runs/` of an output folder."""

    def __init__(self, folder: Path, shared: Path | None = None) -> None:
        """The folder is made when the first run begins.

        Args:
            folder: Of the runs.
            shared: Where studies tell each other of finished runs: a link to each one's folder.
                None: runs are neither told of nor looked for elsewhere.
        """
        self.folder, self.shared = folder, shared

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
        for name, said in outcome.parts.items():
            said.save(path / f"{name}.npz")
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
        self._tell(path)

    def add_part(self, run: Run, part: str, said: Predictions) -> None:
        """Keep what a finished run says of a further part."""
        said.save(self.folder / run.id / f"{part}.npz")

    def find(self, run: Run, *, weights: bool = True) -> Outcome | None:
        """A finished run, or None; one that another study has finished becomes one of this folder.

        Args:
            run: What is asked for.
            weights: Read its weights too.
        """
        path = self.folder / run.id
        if not (path / "result.json").is_file() and not self._take(run, path):
            return None
        result = read_json(path / "result.json")
        kept = path / "weights.safetensors"
        return Outcome(
            run,
            result["seconds"],
            result["parameters"],
            Predictions.load(path / "validation.npz"),
            result["details"],
            load_file(kept) if weights and kept.is_file() else {},
            {p: Predictions.load(path / f"{p}.npz") for p in PARTS if _has(path, f"{p}.npz")},
        )

    def weights_of(self, run: Run) -> dict[str, Tensor]:
        """The weights of a finished run, by original name."""
        return load_tensors(self.folder / run.id / "weights.safetensors")

    def taken(self, run: Run) -> bool:
        """Whether a finished run was found finished by another study."""
        return _has(self.folder / run.id, TAKEN)

    def _tell(self, path: Path) -> None:
        """Let other studies find a finished run."""
        if self.shared is None:
            return
        self.shared.mkdir(parents=True, exist_ok=True)
        link = self.shared / path.name
        new = link.with_name(f"{link.name}.{os.getpid()}")
        new.unlink(missing_ok=True)
        new.symlink_to(path.resolve(), target_is_directory=True)
        new.replace(link)

    def _take(self, run: Run, path: Path) -> bool:
        """Take over a run that another study has finished; whether there is one."""
        if self.shared is None:
            return False
        other = self.shared / run.id
        if not _has(other, "result.json") or other.resolve() == path.resolve():
            return False
        self.place(run)
        for part in (*(f"{p}.npz" for p in ("validation", *PARTS)), "weights.safetensors"):
            if _has(other, part):
                _link(other.resolve() / part, path / part)
        write_json(path / TAKEN, {"from": str(other.resolve())})
        _link(other.resolve() / "result.json", path / "result.json")
        return True


def _has(folder: Path, name: str) -> bool:
    return (folder / name).is_file()


def _link(source: Path, target: Path) -> None:
    """The same file under a second name, or a copy where a file can not have two.

    Files of runs are replaced and never written into, so one name's change is not the other's.
    """
    part = target.with_name(f"{target.name}.{os.getpid()}")
    part.unlink(missing_ok=True)
    try:
        os.link(source, part)
    except OSError:
        shutil.copy2(source, part)
    part.replace(target)
