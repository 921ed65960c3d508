"""Tables and archives that a fuzzer makes: a manifest or a clear error, nothing else."""

import io

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from layerwise.data.load import DataOptions, load
from layerwise.data.manifest import Manifest
from layerwise.data.sources import chexpert
from layerwise.errors import DataError

fuzz = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
NAMES = ["1.png", "2.png", "sub/3.png", "4.png"]
CELLS = st.one_of(
    st.sampled_from(
        [*NAMES, "a", "b", "0", "1", "-1.0", "", "a|b", "train", '"', "\n", ",", ";", "../1.png"]
    ),
    st.text(max_size=6),
)
HEADS = st.sampled_from(
    ["path", "label", "patient", "split", "view", "date", "offset", "Image Index", "Finding Labels"]
    + ["Path", "id", "target", *chexpert.LABELS]
)
OPTIONS = st.sampled_from(
    [
        DataOptions(),
        DataOptions(multi_label=True),
        DataOptions(skip_unreadable=True, view="frontal"),
        DataOptions(images=False, only=("a",)),
        DataOptions(images=False, uncertain="ignore"),
        DataOptions(label_column=("label", "patient"), patient_from="(.)"),
    ]
)


@pytest.fixture
def place(tmp_path):
    for name in NAMES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("L", (2, 2)).save(tmp_path / name)
    return tmp_path


def attempt(file, options=None):
    """Read it, and every picture where they are in it; no other exception may come out."""
    try:
        manifest = load(file, options)
        assert isinstance(manifest, Manifest) and len(manifest) > 0
        if manifest.pixels is not None:
            assert np.asarray(manifest.pixels).shape == manifest.pixels.shape
    except DataError as error:
        said = str(error)
        assert len(said) < 20_000 and (said.startswith((str(file), f"{file.stem}: ", "--")))


@fuzz
@given(
    heads=st.lists(HEADS, min_size=1, max_size=5),
    rows=st.lists(st.lists(CELLS, min_size=1, max_size=5), max_size=6),
    separator=st.sampled_from([",", ";", "\t"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "cp1252"]),
    options=OPTIONS,
)
def test_any_table(place, heads, rows, separator, encoding, options):
    lines = [separator.join(row) for row in [heads, *rows]]
    (place / "t.csv").write_bytes("\n".join(lines).encode(encoding, "replace"))
    attempt(place / "t.csv", options)


TABLE = (
    "path,label,patient,split,note\n"
    + "\n".join(
        f'{name},{"ab"[i % 2]},p{i},{("train", "val", "test", "")[i]},"x, ""y""\né"'
        for i, name in enumerate(NAMES)
    )
).encode()


def mutated(content, edits):
    """Bytes cut out, put in and changed at some places."""
    raw = bytearray(content)
    for where, kind, value in edits:
        at = int(where * (len(raw) - 1)) if raw else 0
        if kind == 0:
            raw[at : at + 1] = bytes([value])
        elif kind == 1:
            raw[at:at] = bytes([value]) * (value % 4)
        elif kind == 2:
            del raw[at : at + value]
        else:
            del raw[at:]
    return bytes(raw)


EDITS = st.lists(
    st.tuples(st.floats(0, 1), st.sampled_from([0, 0, 0, 1, 2, 3]), st.integers(0, 255)),
    min_size=1,
    max_size=4,
)


@fuzz
@given(edits=EDITS)
def test_a_damaged_table(place, edits):
    (place / "t.csv").write_bytes(mutated(TABLE, edits))
    attempt(place / "t.csv")


@fuzz
@given(edits=EDITS)
def test_a_damaged_manifest(place, edits):
    (place / "t.csv").write_bytes(TABLE)
    load(place / "t.csv").write(place / "m.csv")
    (place / "m.csv").write_bytes(mutated((place / "m.csv").read_bytes(), edits))
    attempt(place / "m.csv")


def packed(save):
    file = io.BytesIO()
    pictures = np.arange(4 * 9, dtype=np.uint8).reshape(4, 3, 3)
    save(file, train_images=pictures, train_labels=np.array([[0], [1], [1], [0]], np.uint8))
    return file.getvalue()


ARCHIVES = [packed(np.savez), packed(np.savez_compressed)]


@settings(fuzz, max_examples=120)
@given(edits=EDITS, content=st.sampled_from(ARCHIVES))
def test_a_damaged_archive(place, edits, content):
    (place / "a.npz").write_bytes(mutated(content, edits))
    attempt(place / "a.npz")


@fuzz
@given(content=st.binary(max_size=200), ending=st.sampled_from([".csv", ".tsv", ".csv.gz", ".npz"]))
def test_any_bytes(place, content, ending):
    (place / f"x{ending}").write_bytes(content)
    attempt(place / f"x{ending}")


@settings(fuzz, max_examples=30)
@given(content=st.binary(max_size=100), magic=st.sampled_from([b"PAR1", b"\x1f\x8b\x08\x00"]))
def test_any_bytes_after_a_promise(place, content, magic):
    name = "x.parquet" if magic == b"PAR1" else "x.csv"
    (place / name).write_bytes(magic + content + (magic if magic == b"PAR1" else b""))
    attempt(place / name)
