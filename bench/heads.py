"""A head on cached activations against a plain PyTorch loop and against fastai, all from files.

    python bench/heads.py IMAGES --weights FILE --patient-from REGEX --peer-epochs 2

The same pictures, split, network, weights, batch and number of epochs; no augmentation, and the
validation part scored after every epoch by all of them. Only training and validation pictures are
used. A round times, in this order,

- layerwise: from the files, with empty caches, to the trained head: listing and splitting, headers,
  decoding into the store, the pass of the frozen network, all epochs;
- loop: an epoch of PyTorch as people write it: files read by a DataLoader with 2 workers, the
  frozen network in evaluation mode without gradients, a linear head, AdamW;
- memory: the same loop over pictures that lie decoded in memory, so only the pass is repeated;
- fastai: `vision_learner` with the same timm network, frozen, `fit_one_cycle`, 2 workers.

An epoch of a peer costs what every other one costs, so `--peer-epochs` of them are timed and
scaled to `--epochs`, favouring the peer: its building of networks and loaders is not counted. The
scores are those after the epochs that were really made; `--peer-epochs 30` makes them all.
"""

import argparse
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset
from torchvision.transforms import Compose, Normalize, Resize, ToTensor

from layerwise.cli.flags import parse_pairs
from layerwise.data.fingerprint import data_key
from layerwise.data.load import DataOptions, load
from layerwise.data.splits.assign import assign
from layerwise.data.storage.colour import all_grey
from layerwise.data.storage.headers import read_headers
from layerwise.data.storage.store import build_store
from layerwise.evaluation.intervals import bootstrap
from layerwise.models.registry import create, parse_arguments
from layerwise.models.weights import fit_weights, read_weights
from layerwise.studies.study import RunStore
from layerwise.studies.trained import train
from layerwise.studies.workspace import Workspace
from layerwise.training.activations import state_digest
from layerwise.training.recipe import Recipe
from layerwise.training.transfer import Transfer

WORKERS = 2
RATE = 1e-3  # Adam's usual one, and fastai's default
INSTALL = 'fastai is not installed, so it is left out: pip install "fastai>=2.8,<2.9"'


class Watch:
    """Seconds of each stage, in order."""

    def __init__(self):
        self.stages, self.last = {}, time.perf_counter()

    def stage(self, name):
        now = time.perf_counter()
        self.stages[name] = self.stages.get(name, 0.0) + now - self.last
        self.last = now


def split_of(args):
    """The training and validation pictures, as `fit` would split them."""
    manifest = load(args.data, DataOptions(patient_from=args.patient_from))
    manifest = assign(manifest, seed=args.seed)
    return manifest.take(np.flatnonzero(manifest.table["split"] != "test"))


def source(args, outputs):
    """The network of the registry, and its weights fitted to it."""
    arguments = parse_pairs(args.model_arg)
    network = create(
        args.model,
        outputs=outputs,
        seed=args.seed,
        image_size=args.image_size,
        arguments=arguments,
    )
    return network, fit_weights(read_weights(args.weights, network), network, source="file")[0]


def ours(args, folder):
    """Seconds by stage, and validation scores (n, 1), of everything from the files to the head."""
    watch = Watch()
    manifest = split_of(args)
    watch.stage("list and split")
    channels = 1 if all_grey(manifest, read_headers(manifest).grey, args.seed) else 3
    watch.stage("headers, colour")
    store, manifest = build_store(
        manifest,
        size=(args.image_size, args.image_size),
        channels=channels,
        letterbox=False,
        folder=folder / "cache",
    )
    watch.stage("decode")
    state = source(args, 1)[1]

    def track(title):
        def shown(done, total):
            if title.startswith("activations") and done == total:
                watch.stage("pass of the frozen network")

        return shown

    work = Workspace(
        manifest=manifest,
        store=store,
        data_key=data_key(manifest, store),
        model=args.model,
        arguments=parse_pairs(args.model_arg),
        weights=state,
        weights_name="file",
        weights_digest=state_digest(state),
        device=torch.device("cpu"),
        threads=args.threads,
        seed=args.seed,
        cache=folder / "cache",
        runs=RunStore(folder / "runs"),
        say=print,
        track=track,
    )
    watch.stage("weights")
    recipe = Recipe(epochs=args.epochs, batch=args.batch, lr=RATE)
    outcome = train(work, Transfer("file", freeze="all"), recipe)
    watch.stage("epochs of the head")
    return watch.stages, outcome.validation.scores


class Files(Dataset):
    """Pictures decoded when they are asked for, as torchvision's ImageFolder does."""

    def __init__(self, paths, targets, transform):
        self.paths, self.targets, self.transform = paths, targets, transform

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, i):
        return self.transform(Image.open(self.paths[i]).convert("RGB")), self.targets[i]


def backbone(args, **changes):
    """The same timm network without its classifier, with the same weights."""
    network, state = source(args, 1)
    own = network.classifier + "."
    state = {n: t for n, t in state.items() if not n.startswith(own)}
    arguments = parse_arguments(parse_pairs(args.model_arg))
    body = timm.create_model(args.model.removeprefix("timm:"), num_classes=0, **arguments)
    body.load_state_dict(state)
    return body, network.contract


def plain_loop(body, head, learnt, scored, epochs):
    """Epochs of a linear head on a frozen network; the scores (n, 1) of the last."""
    optimizer = torch.optim.AdamW(head.parameters(), lr=RATE)
    loss_of = nn.BCEWithLogitsLoss()
    body.eval()
    for _ in range(epochs):
        for images, wanted in learnt:
            with torch.no_grad():
                features = body(images)
            loss = loss_of(head(features)[:, 0], wanted.float())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            scores = torch.cat([head(body(images)).sigmoid() for images, _ in scored])
    return scores.numpy()


def loop(args, manifest, from_memory):
    """Seconds an epoch, and scores, of the plain loop."""
    body, contract = backbone(args)
    torch.manual_seed(args.seed)
    head = nn.Linear(body.num_features, 1)
    size = (args.image_size, args.image_size)
    transform = Compose([Resize(size), ToTensor(), Normalize(contract.mean, contract.std)])
    loaders = []
    for split in ("train", "val"):
        rows = manifest.indices(split)
        paths = manifest.table["path"].to_numpy()[rows].tolist()
        data = Files(paths, manifest.targets[rows].tolist(), transform)
        make = partial(DataLoader, batch_size=args.batch, shuffle=split == "train")
        if from_memory:
            whole = list(DataLoader(data, args.batch, num_workers=WORKERS))
            loaders.append(make(TensorDataset(*map(torch.cat, zip(*whole, strict=True)))))
        else:
            loaders.append(make(data, num_workers=WORKERS))
    started = time.perf_counter()
    scores = plain_loop(body, head, *loaders, args.peer_epochs)
    return (time.perf_counter() - started) / args.peer_epochs, scores


def fastai_frozen(args, manifest):
    """Seconds an epoch, and scores, of fastai; the batch norms of its frozen body still learn."""
    from fastai.vision import all as fastai

    body, contract = backbone(args)
    table = manifest.table.assign(target=manifest.targets)
    block = fastai.DataBlock(
        blocks=(fastai.ImageBlock, fastai.CategoryBlock),
        get_x=fastai.ColReader("path"),
        get_y=fastai.ColReader("target"),
        splitter=fastai.IndexSplitter(manifest.indices("val").tolist()),
        item_tfms=fastai.Resize(args.image_size),
        batch_tfms=fastai.Normalize.from_stats(contract.mean, contract.std),
    )
    fastai.set_seed(args.seed)
    loaders = block.dataloaders(table, bs=args.batch, num_workers=WORKERS)
    learn = fastai.vision_learner(
        loaders,
        args.model.removeprefix("timm:"),
        pretrained=False,
        normalize=False,
        metrics=[fastai.accuracy, fastai.RocAucBinary()],
        **parse_arguments(parse_pairs(args.model_arg)),
    )
    learn.model[0].model.load_state_dict(body.state_dict())
    learn.freeze()
    with learn.no_bar(), learn.no_logging():
        started = time.perf_counter()
        learn.fit_one_cycle(args.peer_epochs, RATE)
        seconds = (time.perf_counter() - started) / args.peer_epochs
        scores = learn.get_preds(dl=loaders.valid)[0][:, 1:]
    return seconds, scores.numpy()


def have_fastai():
    try:
        import fastai.vision.all  # noqa: F401
    except ImportError:
        return False
    return True


def show_scores(manifest, scores, args):
    """Validation AUROC with its 95% interval by patient; whether it overlaps with ours."""
    rows = manifest.indices("val")
    groups = manifest.groups()[rows]
    found = {}
    for name, values in scores.items():
        found[name] = bootstrap("binary", manifest.targets[rows], values, 0.5, groups)["auroc"]
        own, mine = found[name], found["layerwise"]
        epochs = args.epochs if name == "layerwise" else args.peer_epochs
        meets = own["low"] <= mine["high"] and mine["low"] <= own["high"]
        print(
            f"  {name:<10}{own['value']:.4f} ({own['low']:.4f}–{own['high']:.4f}) after {epochs} "
            + ("epochs" if name == "layerwise" else f"epochs, overlaps: {meets}")
        )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("data")
    parser.add_argument("--model", default="timm:mobilenetv2_100", help="one of timm")
    parser.add_argument("--model-arg", action="append", default=[])
    parser.add_argument("--weights", required=True)
    parser.add_argument("--patient-from")
    parser.add_argument("--image-size", type=int, default=160)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--peer-epochs", type=int, default=2, help="timed, and scaled to --epochs")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only-ours", action="store_true", help="leave the peers out")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    manifest = split_of(args)
    if manifest.task != "binary":
        parser.error(f"{args.data}: two classes are needed, and these are {manifest.task}")
    peers = {
        "loop": lambda: loop(args, manifest, from_memory=False),
        "memory": lambda: loop(args, manifest, from_memory=True),
        "fastai": lambda: fastai_frozen(args, manifest),
    }
    if args.only_ours:
        peers = {}
    elif not have_fastai():
        print(INSTALL)
        del peers["fastai"]
    counts = [len(manifest.indices(split)) for split in ("train", "val")]
    print(f"{counts[0]} training and {counts[1]} validation pictures, {args.epochs} epochs")
    ratios = {name: [] for name in peers}
    scores = {}
    for _ in range(args.rounds):
        with tempfile.TemporaryDirectory() as folder:
            stages, scores["layerwise"] = ours(args, Path(folder))
        total = sum(stages.values())
        split = ", ".join(f"{name} {seconds:.1f}" for name, seconds in stages.items())
        print(f"layerwise: {total:.1f} s ({split})")
        for name, peer in peers.items():
            seconds, scores[name] = peer()
            ratios[name].append(seconds * args.epochs / total)
            how = "in full" if args.peer_epochs == args.epochs else f"from {args.peer_epochs}"
            print(f"{name}: {seconds * args.epochs:.0f} s, {seconds:.1f} an epoch, scaled {how}")
    for name, each in ratios.items():
        print(
            f"{name} / layerwise: {statistics.median(each):.1f} "
            f"(min {min(each):.1f}, max {max(each):.1f}, {args.rounds} rounds)"
        )
    print("validation AUROC, 95% interval by patient:")
    show_scores(manifest, scores, args)


if __name__ == "__main__":
    main()
