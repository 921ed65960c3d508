"""`layerwise study transferability` against a straightforward PyTorch script of the same study.

    python bench/transferability.py shared/data/cifar10/cifar10_subset.npz --epochs 3

One random pair of tasks A and B, from A to B, with the network of 32×32 pixels: the two bases, and
at every layer BnB, BnB+, AnB, AnB+ and random filters. Contestants:

- layerwise: the command, with empty caches, from its start to the written report. It reads the
  file, decodes and splits it, caches what frozen layers put out, and trains in several processes;
- script: what one writes in an afternoon: the pictures of a task as float tensors in memory,
  mirrored at random, and every network of the study trained separately, one after the other, with
  PyTorch's own threads. Reading the file and starting Python are not counted.

Both learn by the same recipe (the one of the study's plan.json): AdamW with cosine rates and
warm-up, label smoothing, class weights, batch and epochs; the best epoch by the validation part is
kept. They draw other random numbers, so their accuracies on the test part differ; each of the
script's is compared with the 95% interval of ours. IMAGES is a MedMNIST-like .npz of 32×32 colour
pictures with train, val and test. For a look: --cuts conv2 --epochs 1 --images 400.
"""

import argparse
import copy
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import nn
from torch.nn import functional

from layerwise.data.load import load
from layerwise.models.registry import create

LAYERS = ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7")
TREATMENTS = ("BnB", "BnB+", "AnB", "AnB+", "random filters")
FROZEN = ("BnB", "AnB", "random filters")
KNOWN = {  # of the recipe, what the script can do
    "optimizer": "adamw",
    "schedule": "cosine",
    "augment": "flip",
    "balance": "weights",
    "vertical_flip": False,
    "l2_sp": 0.0,
    "copied_lr": 1.0,
    "layer_decay": 1.0,
    "probe_epochs": 0,
    "unfreeze": 0.0,
    "patience": 0,
}


class CaffeNet32(nn.Module):
    """The network of the study, written with PyTorch's own layers."""

    def __init__(self, outputs):
        super().__init__()

        def pool():
            return nn.MaxPool2d(3, 2, ceil_mode=True)

        norm = nn.BatchNorm2d
        self.conv1 = nn.Sequential(nn.Conv2d(3, 16, 5, padding=2), nn.ReLU(), pool(), norm(16))
        self.conv2 = nn.Sequential(
            nn.Conv2d(16, 32, 5, padding=2, groups=2), nn.ReLU(), pool(), norm(32)
        )
        self.conv3 = nn.Sequential(nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), norm(64))
        self.conv4 = nn.Sequential(nn.Conv2d(64, 64, 3, padding=1, groups=2), nn.ReLU(), norm(64))
        self.conv5 = nn.Sequential(
            nn.Conv2d(64, 32, 3, padding=1, groups=2), nn.ReLU(), pool(), norm(32)
        )
        self.fc6 = nn.Sequential(nn.Flatten(), nn.Linear(32 * 4 * 4, 256), nn.ReLU())
        self.fc7 = nn.Sequential(nn.Dropout(0.5), nn.Linear(256, 256), nn.ReLU())
        self.fc8 = nn.Sequential(nn.Dropout(0.5), nn.Linear(256, outputs))

    def forward(self, x):
        for layer in self.children():
            x = layer(x)
        return x


class Task:
    """The pictures of some classes as float tensors in memory, in three parts."""

    def __init__(self, arrays, classes):
        self.outputs = len(classes)
        self.parts = {}
        for part in ("train", "val", "test"):
            labels = arrays[f"{part}_labels"].ravel()
            mine = np.isin(labels, classes)
            pixels = torch.from_numpy(arrays[f"{part}_images"][mine]).permute(0, 3, 1, 2)
            images = (pixels.float() / 255 - 0.5) / 0.5
            targets = torch.from_numpy(np.searchsorted(classes, labels[mine]))
            self.parts[part] = images.contiguous(), targets


def predict(network, images):
    """Probabilities (n, outputs)."""
    network.eval()
    with torch.inference_mode():
        return torch.cat([network(part).softmax(1) for part in images.split(64)])


def train(network, task, recipe, frozen=()):
    """Train everything but the frozen layers; the accuracy on the test part."""
    images, targets = task.parts["train"]
    counts = targets.bincount(minlength=task.outputs)
    weights = len(targets) / (task.outputs * counts)
    for name in frozen:
        getattr(network, name).requires_grad_(False)
    learning = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in learning if p.ndim > 1], "weight_decay": recipe["weight_decay"]},
            {"params": [p for p in learning if p.ndim == 1], "weight_decay": 0.0},
        ],
        lr=recipe["lr"],
    )
    batch = recipe["batch"]
    steps = len(images) // batch * recipe["epochs"]
    warmup = int(recipe["warmup"] * steps)

    def factor(step):
        if step < warmup:
            return (step + 1) / (warmup + 1)
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    best, best_score = None, -1.0
    for _ in range(recipe["epochs"]):
        network.train()
        for name in frozen:
            getattr(network, name).eval()
        order = torch.randperm(len(images))
        for start in range(0, len(images) - batch + 1, batch):
            rows = order[start : start + batch]
            mirrored = torch.rand(batch, 1, 1, 1) < 0.5
            pictures = torch.where(mirrored, images[rows].flip(3), images[rows])
            loss = functional.cross_entropy(
                network(pictures),
                targets[rows],
                label_smoothing=recipe["label_smoothing"],
                reduction="none",
            )
            loss = (loss * weights[targets[rows]]).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
        scored, wanted = task.parts["val"]
        score = roc_auc_score(wanted, predict(network, scored), multi_class="ovr")
        if score > best_score:
            best, best_score = copy.deepcopy(network.state_dict()), score
    network.load_state_dict(best)
    tested, wanted = task.parts["test"]
    return (predict(network, tested).argmax(1) == wanted).float().mean().item()


def script(arrays, a, b, cuts, recipe):
    """Seconds of the whole study, and the accuracy of every (treatment, cut)."""
    torch.manual_seed(0)
    started = time.perf_counter()
    tasks = {"A": Task(arrays, a), "B": Task(arrays, b)}
    bases, found = {}, {}
    for name, task in tasks.items():
        bases[name] = CaffeNet32(task.outputs)
        found["base", None] = train(bases[name], task, recipe)  # that of B, in the end
    for cut in cuts:
        below = LAYERS[: LAYERS.index(cut) + 1]
        for treatment in TREATMENTS:
            network = CaffeNet32(tasks["B"].outputs)
            if treatment != "random filters":
                source = bases[treatment[0]]
                for name in below:
                    getattr(network, name).load_state_dict(getattr(source, name).state_dict())
            frozen = below if treatment in FROZEN else ()
            found[treatment, cut] = train(network, tasks["B"], recipe, frozen)
    return time.perf_counter() - started, found


def layerwise(args, data, folder):
    """Seconds of the command with empty caches, and the folder of its results."""
    words = [sys.executable, "-m", "layerwise", "study", "transferability", str(data)]
    words += ["--out", str(folder / "out"), "--cache", str(folder / "cache"), "--quiet"]
    words += ["--model", "caffenet-32", "--augment", "flip", "--splits", "1", "--one-direction"]
    words += ["--repeats", "1", "--epochs", str(args.epochs), "--seed", str(args.seed)]
    words += [w for treatment in ("base", *TREATMENTS) for w in ("--treatments", treatment)]
    words += [w for cut in args.cuts for w in ("--cuts", cut)]
    words += ["--workers", str(args.workers)]
    started = time.perf_counter()
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started, folder / "out"


def check_network():
    """The script's network is the study's: with the same weights it gives the same logits."""
    ours = create("caffenet-32", outputs=5, seed=1).module.eval()
    other = CaffeNet32(5).eval()
    weights = list(ours.state_dict().values())
    other.load_state_dict(dict(zip(other.state_dict(), weights, strict=True)))
    images = torch.randn(4, 3, 32, 32)
    with torch.inference_mode():
        assert (ours(images) - other(images)).abs().max() < 1e-5


def smaller(args, folder):
    """The file, or one with fewer of its images."""
    if not args.images:
        return args.data
    sizes = {"train": args.images, "val": args.images // 4, "test": args.images // 4}
    with np.load(args.data) as whole:
        arrays = {name: whole[name][: sizes[name.partition("_")[0]]] for name in whole}
    np.savez(folder / "fewer.npz", **arrays)
    return folder / "fewer.npz"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--epochs", type=int, default=3, help="of every network")
    parser.add_argument("--cuts", nargs="+", choices=LAYERS, default=LAYERS)
    parser.add_argument("--images", type=int, help="training pictures; default: all there are")
    parser.add_argument("--rounds", type=int, default=1, help="of both; ratios pair by pair")
    parser.add_argument("--workers", type=int, default=0, help="as of the command")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.cuts = [cut for cut in LAYERS if cut in args.cuts]
    check_network()
    pairs = []
    for number in range(args.rounds):
        with tempfile.TemporaryDirectory() as folder:
            data = smaller(args, Path(folder))
            seconds, out = layerwise(args, data, Path(folder))
            plan = json.loads((out / "plan.json").read_text())
            if number == 0:
                results = json.loads((out / "results.json").read_text())
            recipe = plan["training"]
            other = {n: recipe[n] for n, value in KNOWN.items() if recipe[n] != value}
            if other:
                parser.error(f"the script can not train with {other}")
            labels = list(load(str(data)).labels)
            a, b = (sorted(map(labels.index, plan["pairs"][0][side])) for side in ("a", "b"))
            with np.load(data) as arrays:
                theirs, found = script(dict(arrays), a, b, args.cuts, recipe)
            if number == 0:
                accuracies = found
        pairs.append((seconds, theirs))
    show(pairs, results["curves"]["points"], accuracies)


def show(pairs, points, accuracies):
    """Both accuracies of every network, and the seconds."""
    differences, inside = [], 0
    print(f"{'test accuracy':<24}{'layerwise, 95%':<24}{'script':<9}{'difference':<12}in interval")
    for point in points:
        own, theirs = point["accuracy"], accuracies[point["treatment"], point["cut"]]
        difference = own["value"] - theirs
        within = own["low"] <= theirs <= own["high"]
        differences.append(difference)
        inside += within
        name = point["treatment"] + (f" {point['cut']}" if point["cut"] else "")
        interval = f"{own['value']:.3f} ({own['low']:.3f}–{own['high']:.3f})"
        said = "yes" if within else "no"
        print(f"{name:<24}{interval:<24}{theirs:<9.3f}{difference:<+12.3f}{said}")
    if len(points) != len(accuracies):
        print(f"layerwise trained {len(points)} of {len(accuracies)} networks")
    print(
        f"{inside} of {len(points)} inside; difference in the mean "
        f"{statistics.mean(differences):+.4f}, its size in the median "
        f"{statistics.median(map(abs, differences)):.4f}"
    )
    ours, script_seconds = (statistics.median(each) for each in zip(*pairs, strict=True))
    ratios = [theirs / own for own, theirs in pairs]
    print(
        f"layerwise: {ours:.1f} s, script: {script_seconds:.1f} s; script / layerwise: "
        f"{statistics.median(ratios):.2f} (min {min(ratios):.2f}, max {max(ratios):.2f}, "
        f"{len(ratios)} round{'s' if len(ratios) > 1 else ''})"
    )


if __name__ == "__main__":
    main()
