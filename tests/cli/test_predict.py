"""`layerwise predict` as a user meets it, mostly in a process where torch can not be imported."""

import csv
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import onnx
import pydicom
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from layerwise.cli.main import main
from layerwise.serving.bundle import BundleInfo, Preprocessing, write_bundle

BLOCKED = """
import sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "torchvision", "timm", "sklearn"):
            raise ImportError(f"{name} is blocked by the test")

sys.meta_path.insert(0, Block())
from layerwise.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def write(folder, task, labels, threshold):
    """A bundle whose probability is sigmoid | softmax of (k+1) * 8 * (mean grey / 255 - 0.5)."""
    outputs = 1 if task == "binary" else len(labels)
    slopes = np.array([[8.0 * (k + 1) for k in range(outputs)]], np.float32)
    nodes = [
        helper.make_node("Cast", ["pixels"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["x"], ["m4"], axes=[1, 2, 3], keepdims=1),
        helper.make_node("Flatten", ["m4"], ["m"]),
        helper.make_node("Div", ["m", "scale"], ["u"]),
        helper.make_node("Sub", ["u", "half"], ["c"]),
        helper.make_node("Mul", ["c", "slopes"], ["z"]),
        helper.make_node(
            "Softmax" if task == "multiclass" else "Sigmoid", ["z"], ["probabilities"]
        ),
    ]
    made = helper.make_graph(
        nodes,
        "closed form",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["n", 8, 8, 1])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", outputs])],
        [
            numpy_helper.from_array(np.float32(255), "scale"),
            numpy_helper.from_array(np.float32(0.5), "half"),
            numpy_helper.from_array(slopes, "slopes"),
        ],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    graph = folder.parent / f"{folder.name}.onnx"
    onnx.save(model, graph)
    how = Preprocessing((8, 8), 1, letterbox=False)
    return str(write_bundle(folder, graph, BundleInfo("grey", task, labels, how, threshold)))


@pytest.fixture
def bundle(tmp_path):
    return write(tmp_path / "bundle", "binary", ("dark", "bright"), 0.4)


@pytest.fixture
def pictures(tmp_path):
    """pictures/a.png black, pictures/deep/b.png white, pictures/deep/c.jpg grey 100."""
    folder = tmp_path / "pictures"
    (folder / "deep").mkdir(parents=True)
    for name, value in {"a.png": 0, "deep/b.png": 255, "deep/c.jpg": 100}.items():
        Image.fromarray(np.full((20, 30), value, np.uint8)).save(folder / name)
    return folder


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def read(text):
    return list(csv.DictReader(text.splitlines()))


def blocked(*words):
    command = [sys.executable, "-c", BLOCKED, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_a_folder_without_torch(bundle, pictures):
    done = blocked("predict", bundle, pictures)
    assert (done.returncode, done.stderr) == (0, "")
    rows = read(done.stdout)
    assert [row["id"] for row in rows] == ["a.png", "deep/b.png", "deep/c.jpg"]
    expected = sigmoid(8 * (np.array([0, 255, 100]) / 255 - 0.5))
    np.testing.assert_allclose([float(r["bright"]) for r in rows], expected, atol=2e-6)
    np.testing.assert_allclose([float(r["dark"]) for r in rows], 1 - expected, atol=2e-6)
    # grey 100 has probability 0.297, below the bundle's threshold 0.4
    assert [row["decision"] for row in rows] == ["dark", "bright", "dark"]


def test_a_damaged_image_without_torch(bundle, pictures):
    (pictures / "torn.jpg").write_bytes((pictures / "deep" / "c.jpg").read_bytes()[:200])
    done = blocked("predict", bundle, pictures)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "torn.jpg" in done.stderr and "--skip-unreadable" in done.stderr
    assert "Traceback" not in done.stderr and len(done.stderr.splitlines()) == 1
    done = blocked("predict", bundle, pictures, "--skip-unreadable", "--quiet")
    assert done.returncode == 0
    assert len(read(done.stdout)) == 3
    assert done.stderr.startswith("left out:") and "torn.jpg" in done.stderr


def test_dicom_without_torch(bundle, tmp_path):
    data = pydicom.Dataset()
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME1"
    data.Rows = data.Columns = 8
    data.BitsAllocated = data.BitsStored = 8
    data.HighBit, data.PixelRepresentation, data.PatientName = 7, 0, "PLANTED^NAME"
    data.PixelData = bytes([55]) * 64
    data["PixelData"].VR = "OB"
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
    data.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    pydicom.dcmwrite(tmp_path / "a.dcm", data, enforce_file_format=True)
    data.NumberOfFrames = 3
    pydicom.dcmwrite(tmp_path / "b.dcm", data, enforce_file_format=True)
    done = blocked("predict", bundle, tmp_path / "a.dcm")
    assert (done.returncode, done.stderr) == (0, "")
    (row,) = read(done.stdout)
    assert float(row["bright"]) == pytest.approx(sigmoid(8 * (200 / 255 - 0.5)), abs=2e-6)
    done = blocked("predict", bundle, tmp_path / "a.dcm", tmp_path / "b.dcm")
    assert done.returncode == 2 and "b.dcm: holds 3 frames" in done.stderr
    assert "PLANTED" not in done.stderr + done.stdout and "Traceback" not in done.stderr


def test_one_file_and_the_same_content_in_any_batch(bundle, pictures, tmp_path, capsys):
    name = str(pictures / "a.png")
    assert main(["predict", bundle, name]) == 0
    assert [row["id"] for row in read(capsys.readouterr().out)] == [name]
    tables = []
    for batch in ("1", "2", "7"):
        assert main(["predict", bundle, str(pictures), "--batch", batch]) == 0
        tables.append(capsys.readouterr().out)
    assert tables[0] == tables[1] == tables[2]


@pytest.mark.parametrize("out", ["result", "deep/er/result.csv"])
def test_out_is_a_folder_or_a_file(bundle, pictures, tmp_path, capsys, out):
    assert main(["predict", bundle, str(pictures), "--out", str(tmp_path / out)]) == 0
    path = tmp_path / out if out.endswith(".csv") else tmp_path / out / "predictions.csv"
    assert len(read(path.read_text())) == 3
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    printed = capsys.readouterr()
    assert printed.out == "" and str(path) in printed.err


def test_json_goes_to_standard_output_alone(bundle, pictures, tmp_path, capsys):
    assert main(["predict", bundle, str(pictures), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["images"] == 3 and summary["labels"] == ["dark", "bright"]
    assert summary["predictions"][1]["decision"] == "bright"
    assert summary["predictions"][1]["probabilities"]["bright"] == pytest.approx(
        sigmoid(4), abs=1e-5
    )
    assert main(["predict", bundle, str(pictures), "--json", "--out", str(tmp_path / "o")]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["out"].endswith("predictions.csv") and "predictions" not in summary


def test_multiclass_and_multilabel_columns(tmp_path, pictures, capsys):
    three = write(tmp_path / "three", "multiclass", ("a", "b", "c"), None)
    assert main(["predict", three, str(pictures)]) == 0
    rows = read(capsys.readouterr().out)
    assert list(rows[0]) == ["id", "a", "b", "c", "decision"]
    assert [row["decision"] for row in rows] == ["a", "c", "a"]
    assert sum(float(rows[2][k]) for k in "abc") == pytest.approx(1, abs=3e-6)
    many = write(tmp_path / "many", "multilabel", ("a", "b"), (0.1, 0.3))
    assert main(["predict", many, str(pictures)]) == 0
    # grey 100: a has 0.297 >= 0.1, b has 0.151 < 0.3
    assert [row["decision"] for row in read(capsys.readouterr().out)] == ["", "a|b", "a"]


def test_data_is_accepted(bundle, tmp_path, capsys):
    arrays = {}
    for part, value in {"train": 0, "val": 128, "test": 255}.items():
        arrays[f"{part}_images"] = np.full((2, 28, 28), value, np.uint8)
        arrays[f"{part}_labels"] = np.array([[0], [1]], np.uint8)
    np.savez(tmp_path / "set.npz", **arrays)
    assert main(["predict", bundle, str(tmp_path / "set.npz")]) == 0
    rows = read(capsys.readouterr().out)
    assert [row["decision"] for row in rows] == ["dark"] * 2 + ["bright"] * 4


def test_digits_are_accepted(bundle, capsys):
    assert main(["predict", bundle, "digits", "--quiet"]) == 0
    assert len(read(capsys.readouterr().out)) == 1797


def test_two_folders_with_the_same_names_stay_apart(bundle, pictures, tmp_path, capsys):
    shutil.copytree(pictures, tmp_path / "again")
    assert main(["predict", bundle, str(pictures), str(tmp_path / "again")]) == 0
    ids = [row["id"] for row in read(capsys.readouterr().out)]
    assert len(set(ids)) == 6


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{bundle}", "nowhere.png"], "nowhere.png"),
        (["{bundle}", "{empty}"], "empty"),
        (["{empty}", "{pictures}"], "bundle.json is missing"),
        (["{bundle}", "{pictures}", "--batch", "0"], "--batch"),
        (["{bundle}"], "images"),
    ],
)
def test_wrong_input_is_named_with_exit_code_2(bundle, pictures, tmp_path, capsys, words, message):
    (tmp_path / "empty").mkdir()
    places = {"bundle": bundle, "pictures": pictures, "empty": tmp_path / "empty"}
    assert main(["predict", *(word.format(**places) for word in words)]) == 2
    printed = capsys.readouterr()
    assert message in printed.err and printed.out == ""


def test_nothing_readable_is_an_error_even_when_skipping(bundle, tmp_path, capsys):
    (tmp_path / "empty.png").touch()
    assert main(["predict", bundle, str(tmp_path / "empty.png"), "--skip-unreadable"]) == 2
    assert "none of the 1 images" in capsys.readouterr().err


def test_a_place_that_can_not_be_written(bundle, pictures, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    place = tmp_path / "file" / "out"
    assert main(["predict", bundle, str(pictures), "--out", str(place)]) == 2
    assert str(place) in capsys.readouterr().err


def test_a_closed_pipe_is_quiet(bundle):
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-c", BLOCKED.replace('"sklearn"', '"none"')]
    done = subprocess.run(
        [*command, "predict", bundle, "digits"], stdout=writing, stderr=subprocess.PIPE, timeout=120
    )
    os.close(writing)
    assert done.stderr == b""
    assert done.returncode == 1
