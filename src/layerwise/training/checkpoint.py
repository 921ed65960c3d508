"""Checkpoints: written atomically, verified on reading, the newest good one wins.

A checkpoint is two files in one folder, `tensors.safetensors` and `state.json`, which holds the
digest of the first. Nothing in it can run code. Random numbers need no state: every step seeds
them from (seed, step), so the position is all there is to keep.
"""

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from layerwise.errors import OutputError

KEPT = 2  # the newest, and the one before in case the newest is damaged


def save_checkpoint(folder: Path, step: int, tensors: dict[str, Tensor], state: Any) -> None:  # noqa: ANN401
    """Write `folder/step-<step>`; older ones but the last go.

    Args:
        folder: Where the checkpoints of one run lie.
        step: Steps made so far.
        tensors: By name, on any device.
        state: JSON-able: position, history, schedule.

    Raises:
        OutputError: The folder can not be written or the disk is full; older checkpoints stay.
    """
    target = folder / f"step-{step:09d}"
    part = folder / f"part-{step:09d}"
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        own = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
        save_file(own, part / "tensors.safetensors")
        digest = _digest(part / "tensors.safetensors")
        text = json.dumps({"step": step, "tensors": digest, "state": state})
        (part / "state.json").write_text(text, encoding="utf-8")
        for name in ("tensors.safetensors", "state.json"):
            with (part / name).open("rb") as file:
                os.fsync(file.fileno())
        shutil.rmtree(target, ignore_errors=True)
        part.replace(target)
    except OSError as error:
        shutil.rmtree(part, ignore_errors=True)
        raise OutputError(
            f"{folder}: a checkpoint can not be written ({error.strerror or error}); free some "
            "space and run the same command again, it goes on from the last checkpoint"
        ) from error
    for old in sorted(folder.glob("step-*"))[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)


def newest_checkpoint(folder: Path) -> tuple[int, dict[str, Tensor], Any] | None:
    """The newest checkpoint whose digest is right, as (step, tensors, state); None without one."""
    for path in sorted(folder.glob("step-*"), reverse=True):
        try:
            record = json.loads((path / "state.json").read_text(encoding="utf-8"))
            if record["tensors"] != _digest(path / "tensors.safetensors"):
                continue
            return record["step"], load_file(path / "tensors.safetensors"), record["state"]
        except (OSError, ValueError, KeyError):
            continue
    return None


def pack_optimizer(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state as named tensors; the groups' settings come from the recipe."""
    state = optimizer.state_dict()["state"]
    return {
        f"{index}.{name}": value if isinstance(value, Tensor) else torch.tensor(value)
        for index, values in state.items()
        for name, value in values.items()
        if value is not None
    }


def unpack_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Give an optimiser of the same groups the state that `pack_optimizer` took."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict(
        {"state": state, "param_groups": optimizer.state_dict()["param_groups"]}
    )
    for parameter, values in optimizer.state.items():
        for name, value in values.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                # In the parameter's own memory layout, as it was before: another one may be
                # computed by another kernel, with other last bits.
                values[name] = torch.empty_like(parameter).copy_(value)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
