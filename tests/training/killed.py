"""Train, be killed at random moments, start again: run by test_loop.py in a process of its own.

    python killed.py OUT SEED

For every case it trains once without a stop in OUT/<case>/whole, and once under SIGKILL in
OUT/<case>/killed. It forks for each start, since importing torch takes longer than the training.
"""

import copy
import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from layerwise.data.manifest import Manifest, make_table
from layerwise.data.storage.store import build_store
from layerwise.training import loop
from layerwise.training.inputs import ImageInputs
from layerwise.training.network import build
from layerwise.training.recipe import Recipe
from layerwise.training.transfer import Transfer

SIDE, KILLS = 32, 4
LENET = {"epochs": 4, "batch": 8, "augment": "radiograph"}
CASES = {
    "sampling": ("lenet5", {}, Recipe(**LENET, balance="sampling")),
    "augment": ("lenet5", {}, Recipe(**LENET, balance="augment")),
    "stages": (
        "timm:test_resnet",
        {"drop_rate": "0.3"},
        Recipe(
            epochs=4,
            batch=8,
            lr=2e-3,
            augment="radiograph",
            probe_epochs=1,
            unfreeze=0.3,
            l2_sp=0.1,
            batch_norm="reestimated",
        ),
    ),
}


def make_job(case: str, store_folder: Path) -> loop.Job:
    model, arguments, recipe = CASES[case]
    generator = np.random.default_rng(0)
    targets = (np.arange(80) % 4 == 0).astype(np.int64)  # in training 48 of 0 and 16 of 1
    pixels = generator.integers(0, 255, (80, SIDE, SIDE), dtype=np.uint8)
    pixels[targets == 1, 8:24, 8:24] //= 2
    table = make_table([str(i) for i in range(80)], splits=["train"] * 64 + ["val"] * 16)
    manifest = Manifest("noise", "binary", ("a", "b"), table, targets, pixels)
    store, _ = build_store(
        manifest, size=(SIDE, SIDE), channels=1, letterbox=False, folder=store_folder, workers=1
    )
    settings = {"model": model, "outputs": 1, "image_size": SIDE, "arguments": arguments}
    transfer, source = Transfer("none", copy="none"), None
    if recipe.l2_sp:
        source = build(transfer, seed=2, **settings).weights()
        transfer = Transfer("file")
    network = build(transfer, seed=1, source_weights=source, **settings)
    network = network.to(memory_format=torch.channels_last)
    return loop.Job(
        network=network,
        module=network,
        inputs=ImageInputs(store, recipe.augment, 1),
        targets=targets,
        train=np.arange(64),
        validation=np.arange(64, 80),
        task="binary",
        recipe=recipe,
        seed=1,
        score=lambda wanted, logits: float(np.corrcoef(wanted, logits[:, 0])[0, 1]),
        device=torch.device("cpu"),
    )


def start(job: loop.Job, folder: Path) -> int:
    """The id of a process that trains, from the job as it is here: with untouched weights."""
    process = os.fork()
    if process:
        return process
    try:
        history = loop.fit(job, folder)
        for entry in history:
            entry.pop("seconds")
        (folder / "history.json").write_text(json.dumps(history))
        weights = {name: t.contiguous() for name, t in job.network.weights().items()}
        save_file(weights, folder / "end.safetensors")
        os._exit(0)
    except BaseException as error:
        print(repr(error), file=sys.stderr, flush=True)
        os._exit(1)


def main() -> None:
    torch.set_num_threads(1)
    out, seed = Path(sys.argv[1]), int(sys.argv[2])
    loop.CHECKPOINT_SECONDS = 0.02  # every few steps, so that kills fall between and into them
    generator = np.random.default_rng(seed)
    for case in CASES:
        place = out / case
        job = make_job(case, place)
        if case == next(iter(CASES)):  # what torch imports when it is used first
            loop.fit(copy.deepcopy(job), place / "imports")
        begun = time.monotonic()
        _, status = os.waitpid(start(job, place / "whole"), 0)
        took = time.monotonic() - begun
        assert status == 0, "the run without a stop failed"
        killed = 0
        while True:
            process = start(job, place / "killed")
            if killed < KILLS:
                time.sleep(generator.uniform(0.1, 0.5) * took)
                os.kill(process, signal.SIGKILL)
            _, status = os.waitpid(process, 0)
            if os.WIFSIGNALED(status):
                killed += 1
                continue
            assert os.WEXITSTATUS(status) == 0, "a run that was started again failed"
            if killed >= 2:
                break
            shutil.rmtree(place / "killed")  # the one without a stop was slow: kill sooner
            killed, took = 0, took / 2
        (place / "kills.json").write_text(json.dumps(killed))


if __name__ == "__main__":
    main()
