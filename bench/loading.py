"""The image store against torchvision's ImageFolder + DataLoader with 2 workers, same pictures.

    python bench/loading.py IMAGES

IMAGES holds full-size pictures, among them PNG. Two sets of class folders are made of them: the
PNG files, copied until there are enough; and all of them as JPEG of quality 95, at least 2,000
pixels long. Of each set: pictures a second of the first pass (listing the files, starting workers,
decoding, and everything else until the last batch is there) and of a later one. Rounds alternate;
each ratio is taken within its round. Everything is in the page cache; the caller is started.

The loader's transform is the usual one: Resize to 224×224, ToTensor. Of the store's later pass two
numbers are given: batches as the training loop reads them (uint8), and made into the very float
tensors that the loader gives. At last, `bench/throughput.py` on the PNG set.
"""

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import Compose, Resize, ToTensor

from layerwise.data.load import load
from layerwise.data.storage.colour import all_grey
from layerwise.data.storage.headers import read_headers
from layerwise.data.storage.store import build_store

SIDE, BATCH, WORKERS, LONGEST = 224, 32, 2, 2048


def pictures_in(folder):
    """(path, format, size) of every picture, in order."""
    found = []
    for path in sorted(p for p in Path(folder).rglob("*") if p.is_file()):
        try:
            with Image.open(path) as image:
                found.append((path, image.format, image.size))
        except OSError:
            continue
    return found


def copies(sources, folder, count):
    """Class folders a and b with `count` files made from these, in turn, under new names."""
    for i in range(count):
        source = sources[i % len(sources)]
        target = folder / "ab"[i % 2] / f"{i:05d}{source.suffix}"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    return folder


def as_jpeg(sources, folder):
    """The pictures as JPEG of quality 95, enlarged to LONGEST pixels where they are smaller."""
    folder.mkdir()
    made = []
    for i, source in enumerate(sources):
        with Image.open(source) as image:
            factor = max(1.0, LONGEST / max(image.size))
            size = (round(image.width * factor), round(image.height * factor))
            made.append(folder / f"{i}.jpg")
            image.resize(size, Image.Resampling.LANCZOS).save(made[-1], quality=95)
    return made


def loader_of(data, shuffle):
    transform = Compose([Resize((SIDE, SIDE)), ToTensor()])
    return DataLoader(ImageFolder(str(data), transform), BATCH, shuffle, num_workers=WORKERS)


def ours_first(data, cache):
    """What `layerwise fit` does before its first step: list, read headers, decode into a store."""
    manifest = load(data)
    channels = 1 if all_grey(manifest, read_headers(manifest).grey) else 3
    size = (SIDE, SIDE)
    return build_store(
        manifest, size=size, channels=channels, letterbox=False, folder=cache, workers=WORKERS
    )[0]


def floats(images):
    """(n, H, W, C) uint8 → (n, 3, H, W) float32 in [0, 1], as ToTensor gives them."""
    images = torch.from_numpy(images).permute(0, 3, 1, 2)
    return images.expand(-1, 3, -1, -1).contiguous().float().div_(255)


def ours_later(store, finish):
    order = np.random.default_rng(0).permutation(len(store))
    count = 0
    for start in range(0, len(order), BATCH):
        count += len(finish(store.read(order[start : start + BATCH])))
    return count


def theirs(data, shuffle):
    return sum(len(images) for images, _ in loader_of(data, shuffle))


def rate(work, count):
    started = time.perf_counter()
    done = work()
    taken = time.perf_counter() - started
    assert count == (done if isinstance(done, int) else len(done))
    return count / taken


def measure(name, data, rounds):
    """Print rates and ratios of one set of pictures."""
    count = sum(p.is_file() for p in data.rglob("*"))
    sides = ("first", "loader first", "later, uint8", "later, float", "loader later")
    found = {side: [] for side in sides}
    for number in range(rounds):
        with tempfile.TemporaryDirectory() as cache:
            first = [
                ("first", partial(ours_first, data, Path(cache))),
                ("loader first", partial(theirs, data, shuffle=False)),
            ]
            for side, work in first if number % 2 else first[::-1]:
                found[side].append(rate(work, count))
            store = ours_first(data, Path(cache))  # found again
            later = {
                "later, uint8": partial(ours_later, store, np.asarray),
                "later, float": partial(ours_later, store, floats),
                "loader later": partial(theirs, data, shuffle=True),
            }
            for side, work in later.items():
                found[side].append(rate(work, count))
    print(f"{name}: {count} files, {rounds} rounds, {WORKERS} workers, batches of {BATCH}")
    for side, rates in found.items():
        print(f"  {side}: {statistics.median(rates):.1f} images/s")
    for side, other in (sides[:2], (sides[2], sides[4]), (sides[3], sides[4])):
        ratios = [a / b for a, b in zip(found[side], found[other], strict=True)]
        print(
            f"  {side} / {other}: {statistics.median(ratios):.2f} "
            f"(min {min(ratios):.2f}, max {max(ratios):.2f})",
            flush=True,
        )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("data")
    parser.add_argument("--png", type=int, default=1000)
    parser.add_argument("--jpeg", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    torch.manual_seed(0)
    found = pictures_in(args.data)
    with tempfile.TemporaryDirectory() as folder:
        made = as_jpeg([path for path, _, _ in found], Path(folder) / "jpeg-sources")
        png = [path for path, kind, size in found if kind == "PNG" and max(size) >= 1024]
        sets = {
            "PNG, 1,024 pixels": copies(png, Path(folder) / "png", args.png),
            f"JPEG, {LONGEST:,} pixels": copies(made, Path(folder) / "jpeg", args.jpeg),
        }
        for name, data in sets.items():
            theirs(data, shuffle=False)  # everything into the page cache
            measure(name, data, args.rounds)
        throughput = Path(__file__).with_name("throughput.py")
        data = next(iter(sets.values()))
        subprocess.run([sys.executable, str(throughput), str(data)], check=True)


if __name__ == "__main__":
    main()
