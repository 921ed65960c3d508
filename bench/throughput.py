"""Training steps fed from the image store against the same steps on tensors in memory.

    python bench/throughput.py IMAGES

The same network, recipe, rows and loop body (`train_step`); only where the pictures come from
differs. Rounds alternate; the ratio store/memory of images a second is taken pair by pair.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from layerwise.studies.prepare import Request, prepare
from layerwise.training.inputs import ImageInputs
from layerwise.training.job import Job
from layerwise.training.loop import train_step
from layerwise.training.losses import make_loss
from layerwise.training.recipe import Recipe, make_optimizer
from layerwise.training.transfer import Transfer


class Memory:
    """All pictures as one tensor."""

    def __init__(self, store):
        self.images = torch.from_numpy(store.read(np.arange(len(store))))

    def read(self, rows, epoch, copies=None):
        return self.images[torch.from_numpy(rows)]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("data")
    parser.add_argument("--model", default="timm:mobilenetv2_100")
    parser.add_argument("--image-size", type=int, default=160)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        request = Request(
            data=args.data,
            out=Path(folder) / "out",
            cache=Path(folder) / "cache",
            model=args.model,
            weights="none",
            image_size=args.image_size,
        )
        work = prepare(request, print, lambda _: lambda *_: None, lambda *_: 0).work
        network = work.network(Transfer("none", copy="none"))
        recipe = Recipe(batch=32)
        sources = {"store": ImageInputs(work.store, "none", 0), "memory": Memory(work.store)}
        train = work.rows("train")
        optimizer = make_optimizer(recipe, network)
        network.train()
        found = {name: [] for name in sources}
        for number in range(args.rounds + 1):
            for name, inputs in sources.items():
                job = Job(
                    network,
                    network,
                    inputs,
                    work.manifest.targets,
                    train,
                    work.rows("val"),
                    work.manifest.task,
                    recipe,
                    0,
                    work.score,
                    work.device,
                )
                loss_of = make_loss(job)
                order = np.random.default_rng(number).permutation(train)
                started = time.perf_counter()
                for step in range(args.steps):
                    rows = order[step * recipe.batch : (step + 1) * recipe.batch]
                    train_step(job, optimizer, loss_of, rows, 0, step)
                if number:  # the first round warms up
                    taken = time.perf_counter() - started
                    found[name].append(args.steps * recipe.batch / taken)
        ratios = [s / m for s, m in zip(found["store"], found["memory"], strict=True)]
        for name, rates in found.items():
            print(f"{name}: {statistics.median(rates):.1f} images/s")
        print(
            f"store / memory: {statistics.median(ratios):.3f} "
            f"(min {min(ratios):.3f}, max {max(ratios):.3f}, {args.rounds} rounds)"
        )


if __name__ == "__main__":
    main()
