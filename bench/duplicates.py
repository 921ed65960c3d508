"""Near duplicates: how fast they are searched, how many copies are found, how many false alarms.

    python bench/duplicates.py FOLDER [FOLDER …] --patient-from REGEX

For each folder of images: the pictures are decoded once; then they are searched as they are (every
pair that is flagged is printed, to be looked at), and once for each kind of copy with copies of up
to `--copies` of them planted among them. Then the search alone is timed on descriptions of 100,000
pictures: those of the folders, repeated with other crops until there are enough, so that they lie
as real ones do.
"""

import argparse
import io
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from layerwise.data.audit.alignment import warp
from layerwise.data.audit.descriptors import DETAIL, close_pairs, learn
from layerwise.data.audit.duplicates import MOST, near_duplicates
from layerwise.data.audit.thumbnails import all_thumbnails
from layerwise.data.load import DataOptions, load
from layerwise.data.manifest import Manifest, make_table
from layerwise.data.pictures.images import prepare
from layerwise.data.storage.store import build_store

SIZE = 160


def encoded(image, quality):
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(io.BytesIO(file.getvalue())).convert("L")


def resized(image, factor):
    size = [max(1, round(side * factor)) for side in image.size]
    return image.resize(size, Image.Resampling.BICUBIC)


def cropped(image, cut):
    (w, h), (left, top, right, bottom) = image.size, cut
    return image.crop(
        (round(left * w), round(top * h), round(w - right * w), round(h - bottom * h))
    )


def any_crop(random):
    return random.uniform(0, 0.05, 4)


def any_quality(random):
    return int(random.integers(50, 96))


def any_factor(random):
    return 2 ** random.uniform(-1, 1)


KINDS = {
    "JPEG quality 50 to 95": lambda im, r: encoded(im, any_quality(r)),
    "resized 0.5 to 2 times": lambda im, r: resized(im, any_factor(r)),
    "cropped 0 to 5% each side": lambda im, r: cropped(im, any_crop(r)),
    "all three": lambda im, r: encoded(
        resized(cropped(im, any_crop(r)), any_factor(r)), any_quality(r)
    ),
    "cropped 5% at all sides": lambda im, r: cropped(im, [0.05] * 4),
}


def pixels_of(image):
    return prepare(np.asarray(image), (SIZE, SIZE), 1, letterbox=False)[..., 0]


def stored(pixels, folder):
    table = make_table([f"{i}" for i in range(len(pixels))])
    targets = np.zeros(len(pixels), np.int64)
    manifest = Manifest("copies", "binary", ("a", "b"), table, targets, pixels=pixels)
    kind = {"size": (SIZE, SIZE), "channels": 1, "letterbox": False, "folder": folder}
    return build_store(manifest, **kind)[0]


def examine(data, args, folder):
    """Search one set, plain and with copies; returns its store."""
    manifest = load(data, DataOptions(patient_from=args.patient_from, skip_unreadable=True))
    size = {"size": (SIZE, SIZE), "channels": 1, "letterbox": False, "folder": folder}
    store, manifest = build_store(manifest, skip_unreadable=True, **size)
    started = time.perf_counter()
    plain = near_duplicates(store)
    seconds = time.perf_counter() - started
    print(f"\n{data}: {len(store):,} pictures searched in {seconds:.1f} s")
    pairs = len(store) * (len(store) - 1) // 2
    print(f"  of {pairs:,} pairs {plain.candidates:,} were verified, {len(plain.rows)} flagged:")
    ids = manifest.table["id"].tolist()
    for (a, b), fine in zip(plain.rows.tolist(), plain.agreement.tolist(), strict=True):
        print(f"    {ids[a]} ~ {ids[b]} ({fine:.3f})")
    random = np.random.default_rng(0)
    chosen = np.sort(random.permutation(len(store))[: args.copies])
    own = store.read(slice(None))[..., 0]
    for kind, change in KINDS.items():
        copies = []
        for row in chosen:
            with Image.open(manifest.table["path"].iloc[row]) as image:
                copies.append(pixels_of(change(image.convert("L"), random)))
        copies = np.stack(copies)
        found = near_duplicates(stored(np.concatenate([own, copies]), folder))
        pairs = {tuple(pair) for pair in found.rows.tolist()}
        planted = {(int(row), len(own) + k) for k, row in enumerate(chosen)}
        equal = sum((own[row] == copies[k]).all() for k, row in enumerate(chosen))
        hits = len(planted & pairs) + int(equal)
        print(
            f"  {kind:26} recall {hits / len(chosen):.4f} ({hits} of {len(chosen)}), "
            f"{found.candidates:,} verified"
        )
    return store


def timed(stores, count, rounds):
    """Seconds for the search alone among so many descriptions."""
    details = np.concatenate([d for store in stores for _, d in all_thumbnails(store, DETAIL)])
    sample = np.random.default_rng(0).permutation(len(details))[:400]
    description = learn(details[sample])
    random = np.random.default_rng(1)
    plain, inner = [], []
    while sum(map(len, plain)) < count:
        # Another scale and place each time, up to 20%: other pictures, as alike as radiographs are.
        for start in range(0, len(details), 1024):
            part = details[start : start + 1024]
            placing = random.uniform(-0.2, 0.2, (len(part), 4)).astype(np.float32)
            a, b = description.of(warp(part, placing)[0])
            plain.append(a)
            inner.append(b)
    plain, inner = np.concatenate(plain)[:count], np.concatenate(inner)[:count]
    seconds = []
    for _ in range(rounds):
        started = time.perf_counter()
        pairs, near = close_pairs(plain, inner, description.radius, MOST)
        seconds.append(time.perf_counter() - started)
    print(
        f"\nsearch alone, {count:,} descriptions: {statistics.median(seconds):.1f} s (median of "
        f"{rounds}, {min(seconds):.1f} to {max(seconds):.1f}), {near:,} pairs within the radius, "
        f"{len(pairs):,} kept"
    )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("data", nargs="+")
    parser.add_argument("--patient-from")
    parser.add_argument("--copies", type=int, default=1000)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        stores = [examine(data, args, Path(folder)) for data in args.data]
        timed(stores, args.count, args.rounds)


if __name__ == "__main__":
    main()
