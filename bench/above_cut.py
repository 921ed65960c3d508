"""An epoch above a cut on cached activations against a bare loop of the same top in memory.

    python bench/above_cut.py IMAGES --weights FILE --model-arg pad_type=same --cut blocks.4

The network is frozen up to the cut, and what lies above it learns. Ours is the training loop of
Layerwise, fed with rows of the cache on disk, memory-mapped. The bare loop is what it can not be
faster than: the same top, optimiser, batch, loss and order, on the same activations as one tensor
in memory, in the layout that convolutions like. Rounds alternate, the ratio is taken pair by pair.
No epoch scores anything.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from layerwise.cli.flags import parse_pairs
from layerwise.data.load import DataOptions
from layerwise.studies.prepare import Request, prepare
from layerwise.training.activations import activations
from layerwise.training.job import Job
from layerwise.training.loop import train_step
from layerwise.training.losses import make_loss
from layerwise.training.recipe import Recipe, make_optimizer
from layerwise.training.transfer import Transfer


def cached(work, network, cut):
    """Activations of all pictures below the cut, computed now."""
    return activations(
        network.frozen_part(),
        work.store,
        np.zeros(0, np.int64),
        cut=cut,
        identity=work.identity,
        preset="none",
        views=0,
        seed=work.seed,
        folder=work.cache,
        device=work.device,
        threads=work.threads,
    )


def ours(job, order):
    """Seconds of an epoch of `train_step` in this order."""
    optimizer, batch = make_optimizer(job.recipe, job.network), job.recipe.batch
    loss_of = make_loss(job)
    job.module.train()
    started = time.perf_counter()
    for step in range(len(order) // batch):
        rows = order[step * batch : (step + 1) * batch]
        train_step(job, optimizer, loss_of, rows, 0, step)
    return time.perf_counter() - started


def bare(job, order, values, targets):
    """Seconds of the same epoch, written out, on tensors in memory."""
    optimizer, batch = make_optimizer(job.recipe, job.network), job.recipe.batch
    job.module.train()
    order = torch.from_numpy(order)
    started = time.perf_counter()
    for step in range(len(order) // batch):
        rows = order[step * batch : (step + 1) * batch]
        logits = job.module(values[rows].to(job.device))
        wanted = targets[rows].to(job.device)
        loss = functional.binary_cross_entropy_with_logits(logits[:, 0], wanted)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        loss.item()
    return time.perf_counter() - started


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("data")
    parser.add_argument("--model", default="timm:mobilenetv2_100")
    parser.add_argument("--model-arg", action="append", default=[])
    parser.add_argument("--weights", required=True)
    parser.add_argument("--patient-from")
    parser.add_argument("--image-size", type=int, default=160)
    parser.add_argument("--cut", default="blocks.4")
    parser.add_argument("--images", type=int, default=640, help="training pictures of an epoch")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        request = Request(
            data=args.data,
            out=Path(folder) / "out",
            cache=Path(folder) / "cache",
            options=DataOptions(patient_from=args.patient_from),
            model=args.model,
            arguments=parse_pairs(args.model_arg),
            weights=args.weights,
            image_size=args.image_size,
            threads=args.threads,
        )
        work = prepare(request, print, lambda _: lambda *_: None, lambda *_: 0).work
        if work.manifest.task != "binary":
            parser.error(f"{args.data}: two classes are needed, and these are {work.manifest.task}")
        network = work.network(Transfer(work.weights_name, freeze=args.cut))
        inputs = cached(work, network, args.cut)
        job = Job(
            network=network,
            module=network.top,
            inputs=inputs,
            targets=work.manifest.targets,
            train=work.rows("train"),
            validation=work.rows("val"),
            task="binary",
            recipe=Recipe(epochs=1, balance="none"),
            seed=work.seed,
            score=work.score,
            device=work.device,
        )
        chosen = np.random.default_rng(0).permutation(job.train)[: args.images]
        values = inputs.read(chosen, None)  # (n, C, h, w), as the loop would get them
        targets = torch.from_numpy(job.targets[chosen]).float()
        pairs = []
        for number in range(args.rounds + 1):
            order = np.random.default_rng(number).permutation(len(chosen))
            pairs.append((ours(job, chosen[order]), bare(job, order, values, targets)))
        pairs = pairs[1:]  # the first round warms up
        ratios = [one / other for one, other in pairs]
        for name, each in zip(("cached rows", "bare loop"), zip(*pairs, strict=True), strict=True):
            print(f"{name}: {len(chosen) / statistics.median(each):.1f} images/s")
        print(
            f"epoch above {args.cut}, cached / bare: {statistics.median(ratios):.3f} "
            f"(min {min(ratios):.3f}, max {max(ratios):.3f}, {args.rounds} rounds)"
        )


if __name__ == "__main__":
    main()
