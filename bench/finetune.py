"""A step of fine-tuning every layer, against a bare PyTorch loop and against fastai.

    python bench/finetune.py IMAGES [--compile]

The same network (all layers learn), pictures, batch and size; no augmentation. Contestants:

- layerwise: `train_step` as a run makes it: pictures from the image store, rates by layer,
  weighted loss;
- compiled: the same with `compile = true` in the recipe (only with --compile);
- bare: PyTorch as people write it, but with nothing to load: float32 pictures that lie normalised
  and channels-last in memory, AdamW, binary cross-entropy;
- fastai: `vision_learner`, unfrozen, from the files with 2 workers. An epoch is made each time, and
  counted from its first finished batch on, so that starting the workers costs it nothing.

Each runs in a process of its own, since layerwise tells the memory allocator of its process what
to keep. They wait for their turn: rounds alternate, ratios are taken round by round. The seconds
are wall-clock ones; with --cpu-time they are processor time of the process, for a machine that
others use, too (give --threads 1 then: waiting threads count as well; fastai's workers do not).
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from layerwise.models.registry import create
from layerwise.studies.prepare import Request, prepare
from layerwise.training.compiling import compiled
from layerwise.training.inputs import ImageInputs
from layerwise.training.job import Job
from layerwise.training.loop import set_modes, train_step
from layerwise.training.losses import make_loss
from layerwise.training.memory import freed_memory_kept
from layerwise.training.recipe import Recipe, make_optimizer
from layerwise.training.transfer import Transfer
from layerwise.training.unfreezing import copied_blocks

INSTALL = 'fastai is not installed, so it is left out: pip install "fastai>=2.8,<2.9"'


def workspace(args):
    request = Request(
        data=args.data,
        out=Path(args.folder) / "out" / (args.contestant or "main"),
        cache=Path(args.folder) / "cache",
        model=args.model,
        weights="none",
        image_size=args.image_size,
        threads=args.threads,
    )
    return prepare(request, lambda _: None, lambda _: lambda *_: None, lambda *_: 0).work


def clock(args):
    return time.process_time() if args.cpu_time else time.perf_counter()


def layerwise_round(args, compile_it=False):
    """A function that makes a round of steps and gives their seconds."""
    work = workspace(args)
    network = work.network(Transfer("none", copy="none"))
    recipe = Recipe(batch=args.batch, compile=compile_it)
    inputs = ImageInputs(work.store, "none", 0)
    train, val = work.rows("train"), work.rows("val")
    job = Job(
        network, network, inputs, work.manifest.targets, train, val, work.manifest.task, recipe, 0,
        work.score, work.device,
    )  # fmt: skip
    optimizer, loss_of = make_optimizer(recipe, network), make_loss(job)
    forward = compiled(network, work.device) if compile_it else None
    set_modes(job, copied_blocks(network), 0)
    rows = np.random.default_rng(0).choice(train, args.steps * args.batch)

    def make():
        with freed_memory_kept(work.device):
            train_step(job, optimizer, loss_of, rows[: args.batch], 0, 0, None, forward)
            started = clock(args)
            for step in range(args.steps):
                part = rows[step * args.batch : (step + 1) * args.batch]
                train_step(job, optimizer, loss_of, part, 0, step, None, forward)
            return clock(args) - started

    return make


def bare_round(args):
    work = workspace(args)
    network = create(args.model, outputs=1, seed=0, image_size=args.image_size)
    module = network.module.to(memory_format=torch.channels_last).train()
    rows = np.random.default_rng(0).choice(work.rows("train"), args.steps * args.batch)
    pixels = torch.from_numpy(work.store.read(rows)).permute(0, 3, 1, 2)
    mean, std = (
        torch.tensor(v)[:, None, None] for v in (network.contract.mean, network.contract.std)
    )
    images = ((pixels / 255 - mean) / std).contiguous(memory_format=torch.channels_last)
    targets = torch.from_numpy(work.manifest.targets[rows]).float()[:, None]
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-3)

    def step(start):
        part = slice(start, start + args.batch)
        loss = binary_cross_entropy_with_logits(module(images[part]), targets[part])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    def make():
        step(0)
        started = clock(args)
        for start in range(0, len(rows), args.batch):
            step(start)
        return clock(args) - started

    return make


def fastai_round(args):
    from fastai.vision import all as fastai

    work = workspace(args)
    table = work.manifest.table.assign(target=work.manifest.targets)
    rows = np.random.default_rng(0).choice(work.rows("train"), (args.steps + 1) * args.batch)
    table = table.iloc[[*rows, *work.rows("val")[: args.batch]]].reset_index(drop=True)
    block = fastai.DataBlock(
        blocks=(fastai.ImageBlock, fastai.CategoryBlock),
        get_x=fastai.ColReader("path"),
        get_y=fastai.ColReader("target"),
        splitter=fastai.IndexSplitter(range(len(rows), len(table))),
        item_tfms=fastai.Resize(args.image_size),
        batch_tfms=fastai.Normalize.from_stats((0.5,) * 3, (0.5,) * 3),
    )
    loaders = block.dataloaders(table, bs=args.batch, num_workers=2)
    learn = fastai.vision_learner(
        loaders, args.model.removeprefix("timm:"), pretrained=False, normalize=False
    )
    learn.unfreeze()
    times = []

    class Clock(fastai.Callback):
        def after_batch(self):
            if self.training:
                times.append(clock(args))

    def make():
        times.clear()
        with learn.no_bar(), learn.no_logging():
            learn.fit(1, 1e-3, cbs=Clock())
        assert len(times) == args.steps + 1
        return times[-1] - times[0]

    return make


def have_fastai():
    try:
        import fastai.vision.all  # noqa: F401
    except ImportError:
        print(INSTALL)
        return False
    return True


CONTESTANTS = {
    "layerwise": layerwise_round,
    "compiled": lambda args: layerwise_round(args, compile_it=True),
    "bare": bare_round,
    "fastai": fastai_round,
}


def serve(args):
    """A contestant: one round for every line that is read; the answer goes to standard output."""
    torch.set_num_threads(args.threads)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what else is printed goes to standard error
    make = CONTESTANTS[args.contestant](args)
    for _ in sys.stdin:
        print(make(), file=answers, flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("data")
    parser.add_argument("--model", default="timm:mobilenetv2_100", help="one of timm")
    parser.add_argument("--image-size", type=int, default=160)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=6, help="of a round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--cpu-time", action="store_true")
    parser.add_argument("--contestant", choices=CONTESTANTS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.contestant:
        return serve(args)
    names = ["layerwise", "bare"] + ["compiled"] * args.compile + ["fastai"] * have_fastai()
    with tempfile.TemporaryDirectory() as args.folder:
        workspace(args)  # decodes the pictures
        command = [sys.executable, *sys.argv, "--folder", args.folder, "--contestant"]
        processes = {
            name: subprocess.Popen(
                [*command, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            for name in names
        }
        found = {name: [] for name in names}
        for number in range(args.rounds + 1):
            for name, process in processes.items():
                process.stdin.write("\n")
                process.stdin.flush()
                seconds = float(process.stdout.readline())
                if number:  # the first round warms up
                    found[name].append(seconds)
        for process in processes.values():
            process.stdin.close()
            process.wait()
    show(args, found)


def show(args, found):
    for name, seconds in found.items():
        rate = args.steps * args.batch / statistics.median(seconds)
        print(f"{name}: {rate:.1f} images/s")
    pairs = [("layerwise", "bare"), ("fastai", "layerwise"), ("bare", "compiled")]
    for one, other in pairs:
        if one in found and other in found:
            ratios = [a / b for a, b in zip(found[one], found[other], strict=True)]
            print(
                f"seconds of {one} / {other}: {statistics.median(ratios):.3f} "
                f"(min {min(ratios):.3f}, max {max(ratios):.3f}, {args.rounds} rounds)"
            )


if __name__ == "__main__":
    main()
