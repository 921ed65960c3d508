"""Archives of pictures: every kind of MedMNIST's, memory, and archives that lie."""

import errno
import io
import resource
import struct
import tempfile
import zipfile

import numpy as np
import pytest

from layerwise.data.load import DataOptions, load
from layerwise.data.pictures import arrays
from layerwise.data.pictures.arrays import Pictures, Unpacked, members
from layerwise.data.storage.store import build_store
from layerwise.errors import DataError


def images(n, side, colour, seed=0):
    shape = (n, side, side, 3) if colour else (n, side, side)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("side", [28, 64, 128, 224])
@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_every_size(tmp_path, side, colour, save):
    train, test = images(6, side, colour), images(4, side, colour, 1)
    labels = np.array([[0], [1], [2]] * 4, np.uint8)
    save(
        tmp_path / f"bloodmnist_{side}.npz",
        train_images=train,
        train_labels=labels[:6],
        test_images=test,
        test_labels=labels[:4],
    )
    manifest = load(tmp_path / f"bloodmnist_{side}.npz")
    whole = np.concatenate([train, test])
    assert manifest.pixels.shape == whole.shape and manifest.pixels.ndim == whole.ndim
    np.testing.assert_array_equal(np.asarray(manifest.pixels), whole)
    np.testing.assert_array_equal(manifest.pixels[7], whole[7])
    np.testing.assert_array_equal(manifest.pixels[-1], whole[-1])
    np.testing.assert_array_equal(manifest.pixels[2:9:3], whole[2:9:3])
    rows = np.array([8, 9, 0, 0, 3])
    np.testing.assert_array_equal(manifest.pixels[rows], whole[rows])
    np.testing.assert_array_equal(manifest.take(rows[:3]).pixels[1:], whole[[9, 0]])
    assert len(list(manifest.pixels)) == 10
    with pytest.raises(IndexError):
        manifest.pixels[10]


def test_fourteen_labels_an_image(tmp_path):
    """As ChestMNIST."""
    labels = np.random.default_rng(0).integers(0, 2, (40, 14))
    np.savez(tmp_path / "c.npz", train_images=images(40, 4, False), train_labels=labels)
    manifest = load(tmp_path / "c.npz")
    assert manifest.task == "multilabel" and manifest.labels == tuple(map(str, range(14)))
    np.testing.assert_array_equal(manifest.targets, labels)
    two = load(tmp_path / "c.npz", DataOptions(only=("3", "11")))
    np.testing.assert_array_equal(two.targets, labels[:, [3, 11]])
    one = load(tmp_path / "c.npz", DataOptions(only=("3",)))
    assert one.labels == ("no 3", "3") and (one.targets == labels[:, 3]).all()


def test_only_some_classes(tmp_path):
    pictures = images(12, 3, False)
    np.savez(tmp_path / "k.npz", train_images=pictures, train_labels=np.arange(12) % 4)
    manifest = load(tmp_path / "k.npz", DataOptions(only=("1", "3")))
    assert manifest.labels == ("1", "3") and manifest.table["id"].iloc[1] == "train/3"
    np.testing.assert_array_equal(np.asarray(manifest.pixels), pictures[1::2])
    with pytest.raises(DataError, match=r"--only 7: .*has no such label; it has 0 \(3\)"):
        load(tmp_path / "k.npz", DataOptions(only=("7",)))


@pytest.mark.parametrize("shape", [(4, 28, 28, 28), (4, 28, 28, 28, 1), (4, 64, 64, 64)])
def test_volumes_are_refused_by_name(tmp_path, shape):
    np.savez(tmp_path / "v.npz", train_images=np.zeros(shape, np.uint8), train_labels=np.arange(4))
    with pytest.raises(DataError, match=r"v\.npz: train_images is .*volumes, not pictures"):
        load(tmp_path / "v.npz")


def npy(shape, dtype="|u1", order=False):
    """The header of an array of this shape, without the array."""
    file = io.BytesIO()
    header = {"descr": dtype, "fortran_order": order, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue()


@pytest.mark.parametrize(
    "content, said",
    [
        (npy((10**12, 28, 28)), "holds something else"),
        (npy((4, 2**40, 2**40)), "holds something else"),
        (npy((2**63, 2**63, 1)), "holds something else|can not be read"),
        (npy((-4, 3, 3)), "has the shape"),
        (npy((0, 3, 3)), "no such pictures"),
        (npy((4, 0, 3)), "no such pictures"),
        (npy((4, 3, 3)) + bytes(35), "holds something else"),
        (npy((4, 3, 3)) + bytes(37), "holds something else"),
        (npy((4, 3, 3), order=True) + bytes(36), "column by column"),
        (npy((4, 3, 3), "|O") + b"cos\nsystem\n", "pickled"),
        (npy((4, 3, 3))[:20], "can not be read"),
        (b"\x93NUMPY\x09\x00", "can not be read"),
        (b"PK", "can not be read"),
        (b"", "can not be read"),
    ],
)
def test_headers_that_lie(tmp_path, content, said):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("train_images.npy", content)
        archive.writestr("train_labels.npy", npy((4, 1)) + bytes([0, 1, 0, 1]))
    with pytest.raises(DataError, match=rf"a\.npz: .*({said})"):
        load(tmp_path / "a.npz")


def test_bombs_are_refused_before_they_are_unpacked(tmp_path):
    """A directory that claims gigabytes for a few packed bytes, as a bomb's does."""
    file = tmp_path / "bomb.npz"
    shape = (2**17, 128, 128)  # 2 GiB
    header = npy(shape)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("train_images.npy", header + bytes(2**20))
    content = bytearray(file.read_bytes())
    claimed, true = struct.pack("<I", len(header) + 2**31), struct.pack("<I", len(header) + 2**20)
    file.write_bytes(content.replace(true, claimed))
    with pytest.raises(DataError, match=r"train_images unpacks to 2 GB from 0\.0 MB"):
        load(file)


def test_memory_stays_small(tmp_path):
    """128 MB of pictures, which never were in memory, are read through with a fraction of it."""
    n = 2000
    with zipfile.ZipFile(tmp_path / "m.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        with archive.open("train_images.npy", "w") as file:
            file.write(npy((n, 256, 256)))
            for i in range(n):
                file.write(bytes([i % 251]) + bytes(256 * 256 - 1))
        archive.writestr("train_labels.npy", npy((n, 1)) + bytes([0, 1]) * (n // 2))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    manifest = load(tmp_path / "m.npz")
    seen = [manifest.pixels[i : i + 64][:, 0, 0].copy() for i in range(0, n, 64)]
    assert (np.concatenate(seen) == np.arange(n) % 251).all()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 40_000  # kB


def test_its_identity_is_known_without_unpacking(tmp_path, monkeypatch):
    pictures = images(6, 5, True)
    for name, values in (("a", pictures), ("b", pictures), ("c", 255 - pictures)):
        np.savez(tmp_path / f"{name}.npz", train_images=values, train_labels=np.arange(6) % 2)
    monkeypatch.setattr(Unpacked, "_unpack", lambda self: pytest.fail("unpacked"))
    a, b, c = (load(tmp_path / f"{name}.npz").pixels for name in "abc")
    assert a.identity == b.identity != c.identity
    assert a.take(np.array([1, 0])).identity != a.identity == a.take(np.arange(6)).identity


def test_pictures_of_an_archive_in_the_store(tmp_path):
    pictures = images(70, 8, True)
    np.savez(tmp_path / "a.npz", train_images=pictures, train_labels=np.arange(70) % 2)
    manifest = load(tmp_path / "a.npz").take(np.arange(70)[::-1])
    store, _ = build_store(
        manifest, size=(8, 8), channels=3, letterbox=False, folder=tmp_path / "cache", workers=1
    )
    np.testing.assert_array_equal(store.read(slice(0, 70)), pictures[::-1])


def test_no_room_is_said_with_a_way_out(tmp_path, monkeypatch):
    np.savez(tmp_path / "a.npz", train_images=images(4, 3, False), train_labels=np.arange(4) % 2)
    manifest = load(tmp_path / "a.npz")
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path / "absent"))
    with pytest.raises(DataError, match="TMPDIR"):
        manifest.pixels[0]
    monkeypatch.undo()

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(arrays, "_copy", full)
    with pytest.raises(DataError, match=r"No space left.*TMPDIR"):
        manifest.pixels[0]
    monkeypatch.undo()
    assert manifest.pixels[0].shape == (3, 3)


def test_damage_that_only_reading_shows(tmp_path):
    """The pictures' bytes are changed: the archive's checksum says so, when they are read."""
    file = tmp_path / "a.npz"
    np.savez(file, train_images=images(40, 64, False), train_labels=np.arange(40) % 2)
    content = bytearray(file.read_bytes())
    content[100_000] ^= 1
    file.write_bytes(bytes(content))
    manifest = load(file)
    with pytest.raises(DataError, match=r"a\.npz.*download or make it again"):
        manifest.pixels[0]


def test_members_are_told_by_their_headers(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros((2, 3)), y=np.float32(1))
    found = members(tmp_path / "a.npz")
    assert {name: (m.shape, str(m.dtype), m.bytes) for name, m in found.items()} == {
        "x": ((2, 3), "float64", 48),
        "y": ((), "float32", 4),
    }
    assert isinstance(Pictures.dtype, np.dtype)
