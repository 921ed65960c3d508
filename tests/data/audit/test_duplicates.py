"""Planted copies are found, strangers are not, and a split keeps them together."""

import io

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from layerwise.data.audit import duplicates
from layerwise.data.audit.check import audit, check
from layerwise.data.audit.duplicates import Pairs, joined, near_duplicate_findings, near_duplicates
from layerwise.data.audit.overlap import content_codes
from layerwise.data.manifest import Manifest, make_table
from layerwise.data.pictures.images import prepare
from layerwise.data.splits.assign import assign
from layerwise.data.storage.store import build_store
from layerwise.errors import LeakError

SIDE = 96


def scenes(count, side=128, seed=0):
    """Pictures with something in common, as radiographs have, and detail of their own."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[-1:1:128j, -1:1:128j]
    shared = 60 * np.exp(-3 * ((np.abs(x) - 0.45) ** 2 + y**2 / 2))
    out = []
    for _ in range(count):
        own = sum(
            weight * gaussian_filter(random.standard_normal((side, side)), grain) * grain
            for grain, weight in ((1.5, 30), (5, 30), (12, 40))
        )
        out.append(np.clip(100 + shared + own, 0, 255).astype(np.uint8))
    return np.stack(out)


def changed(picture, kind, random):
    image = Image.fromarray(picture)
    width, height = image.size
    if kind in ("crop", "all"):
        left, top, right, bottom = random.uniform(0, 0.05, 4)
        edges = (left * width, top * height, width - right * width, height - bottom * height)
        image = image.crop(tuple(round(edge) for edge in edges))
    if kind in ("resize", "all"):
        factor = 2 ** random.uniform(-1, 1)
        image = image.resize((round(image.width * factor), round(image.height * factor)))
    if kind in ("jpeg", "all"):
        file = io.BytesIO()
        image.save(file, "JPEG", quality=int(random.integers(50, 96)))
        image = Image.open(io.BytesIO(file.getvalue()))
    return prepare(np.asarray(image), (SIDE, SIDE), 1, letterbox=False)


def manifest_of(pixels, splits=None, targets=None):
    n = len(pixels)
    table = make_table([f"{i}" for i in range(n)], splits=splits)
    targets = np.arange(n) % 2 if targets is None else targets
    return Manifest("made", "binary", ("a", "b"), table, np.asarray(targets), pixels=pixels)


def stored(pixels, folder, size=SIDE, **kinds):
    manifest = manifest_of(pixels, **kinds)
    channels = 1 if pixels.ndim == 3 else 3
    return build_store(
        manifest, size=(size, size), channels=channels, letterbox=False, folder=folder
    )


@pytest.fixture(scope="module")
def planted():
    """60 scenes and, behind them, copies of the first 40 of four kinds in turn."""
    pictures = scenes(60)
    random = np.random.default_rng(1)
    plain = [prepare(p, (SIDE, SIDE), 1, letterbox=False)[..., 0] for p in pictures]
    kinds = ("jpeg", "resize", "crop", "all")
    copies = [changed(pictures[i], kinds[i % 4], random)[..., 0] for i in range(40)]
    return np.stack(plain + copies)


def test_copies_are_found_and_nothing_else(planted, tmp_path):
    store, _ = stored(planted, tmp_path)
    found = near_duplicates(store)
    expected = {(i, 60 + i) for i in range(40)}
    assert found.searched and found.candidates >= 40
    assert {tuple(pair) for pair in found.rows.tolist()} == expected
    assert (found.agreement >= 0.8).all()
    again = near_duplicates(store)
    np.testing.assert_array_equal(again.rows, found.rows)


def test_colour_pictures_are_searched_too(planted, tmp_path):
    colour = np.stack([planted] * 3, axis=-1)
    store, _ = stored(colour, tmp_path)
    assert len(near_duplicates(store).rows) == 40


def test_equal_content_is_no_near_duplicate_and_plain_pictures_are_left_out(tmp_path):
    pictures = scenes(12)[:, ::2, ::2]
    plain = np.full((3, 64, 64), 100, np.uint8)
    plain[1] += 1
    everything = np.concatenate([pictures, pictures[:2], plain])
    store, _ = stored(everything, tmp_path, size=64)
    found = near_duplicates(store)
    assert len(found.rows) == 0 and found.searched


@pytest.mark.parametrize(("count", "side"), [(1, 64), (4, 32), (4, 8)])
def test_small_pictures_and_small_sets_are_not_searched(count, side, tmp_path):
    store, _ = stored(np.zeros((count, 16, 16), np.uint8), tmp_path, size=side)
    found = near_duplicates(store)
    assert not found.searched and found.rows.shape == (0, 2)


def test_pictures_that_all_show_nothing_are_no_duplicates(tmp_path):
    store, _ = stored(np.arange(6, dtype=np.uint8)[:, None, None].repeat(16, 1).repeat(16, 2),
                      tmp_path, size=64)  # fmt: skip
    assert len(near_duplicates(store).rows) == 0


def test_across_parts_is_a_leak_and_within_one_a_note(planted, tmp_path):
    splits = ["train"] * 50 + ["test"] * 10 + ["train"] * 30 + ["test"] * 10
    store, manifest = stored(planted, tmp_path, splits=splits, targets=[0, 1] * 50)
    found = near_duplicate_findings(manifest, near_duplicates(store))
    assert [(f.severity, len(f.images)) for f in found] == [("leak", 20), ("note", 60)]
    assert found[0].message.startswith("10 pairs of nearly equal pictures between train and test")
    assert set(found[0].images) == {str(i) for i in (*range(30, 40), *range(90, 100))}
    with pytest.raises(LeakError, match="nearly equal"):
        check(manifest, found)


def test_a_split_of_our_own_keeps_them_together(planted, tmp_path):
    store, manifest = stored(planted, tmp_path, targets=[0, 1] * 50)
    pairs = near_duplicates(store)
    manifest = assign(manifest, contents=joined(store.digests, pairs), seed=3)
    split = manifest.table["split"].to_numpy()
    assert (split[:40] == split[60:]).all() and len(set(split)) == 3
    assert [f for f in audit(manifest, store, pairs=pairs) if f.severity == "leak"] == []


def test_joined_is_the_transitive_closure():
    digests = np.zeros((7, 32), np.uint8)
    digests[:, 0] = [1, 2, 3, 4, 2, 6, 7]
    rows = np.array([[0, 1], [4, 6], [2, 5]])
    codes = content_codes(joined(digests, Pairs(rows, np.ones(3, np.float32))))
    groups = {frozenset(np.flatnonzero(codes == code).tolist()) for code in codes}
    assert groups == {frozenset({0, 1, 4, 6}), frozenset({2, 5}), frozenset({3})}
    nothing = joined(np.zeros((0, 32), np.uint8), Pairs(np.zeros((0, 2), int), np.zeros(0)))
    assert nothing.shape == (0, 32)


def test_copies_with_other_labels_are_a_warning():
    manifest = manifest_of(np.zeros((4, 8, 8), np.uint8), ["train"] * 4, [0, 0, 0, 1])
    pairs = Pairs(np.array([[0, 1], [2, 3]]), np.ones(2, np.float32))
    found = near_duplicate_findings(manifest, pairs)
    assert [(f.kind, f.severity, f.images) for f in found] == [
        ("near duplicates", "note", ("0", "1", "2", "3")),
        ("contradicting labels", "warning", ("2", "3")),
    ]


def test_real_radiographs(shared_data, tmp_path):
    """COVID pictures: one was published twice; two of one patient on two days are no copies."""
    paths = sorted((shared_data / "chest3" / "COVID19").iterdir())
    names = [path.name for path in paths]
    random = np.random.default_rng(0)
    own = [prepare(path, (128, 128), 1, letterbox=False)[..., 0] for path in paths]
    copies = []
    for path in paths[:40]:
        picture = np.asarray(Image.open(path).convert("L"))
        copy = Image.fromarray(changed(picture, "all", random)[..., 0]).resize((128, 128))
        copies.append(np.asarray(copy))
    store, _ = stored(np.stack(own + copies), tmp_path, size=128)
    found = {tuple(pair) for pair in near_duplicates(store).rows.tolist()}
    alone = {pair for pair in found if pair[1] < len(own)}
    assert {tuple(names[i][:8] for i in pair) for pair in alone} == {("E63574A7", "F4341CE7")}
    planted = {(i, len(own) + i) for i in range(40)}
    assert len(planted & found) >= 39


@pytest.mark.parametrize(
    "images, pairs, said",
    [
        (duplicates.LARGEST + 1, dict(searched=False), "not searched among more than 200,000"),
        (duplicates.LARGEST, dict(searched=False), None),  # too small, which the docs say
        (9, dict(candidates=duplicates.MOST + 1), "100,000 closest of 100,001 pairs"),
        (9, dict(candidates=duplicates.MOST), None),
    ],
)
def test_a_search_left_out_or_cut_short_is_said(images, pairs, said):
    none = duplicates.Pairs(np.zeros((0, 2), np.int64), np.zeros(0, np.float32), **pairs)
    manifest = Manifest(
        name="many",
        task="binary",
        labels=("a", "b"),
        table=make_table([str(i) for i in range(images)]),
        targets=np.arange(images) % 2,
    )
    found = duplicates.near_duplicate_findings(manifest, none)
    assert [f.severity for f in found] == ([] if said is None else ["note"])
    assert said is None or said in found[0].message
