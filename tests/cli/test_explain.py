"""`layerwise explain` as a user meets it; the bundle's heat is a formula, so that it is known."""

import json
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from layerwise.cli.main import main
from layerwise.evaluation.overlay import INFERNO
from layerwise.serving.bundle import BundleInfo, Preprocessing, write_bundle

BLOCKED = """
import sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "torchvision", "timm", "sklearn", "matplotlib"):
            raise ImportError(f"{name} is blocked by the test")

sys.meta_path.insert(0, Block())
from layerwise.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def model(nodes, inputs, outputs, constants=()):
    held = [numpy_helper.from_array(np.asarray(v), n) for n, v in dict(constants).items()]
    made = helper.make_graph(nodes, "closed form", inputs, outputs, held)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def info(name, dtype, *shape):
    return helper.make_tensor_value_info(name, dtype, ["n", *shape])


def write(folder, *, explained=True, letterbox=False):
    """Probability: sigmoid of 8 (mean grey / 255 - ½). Heat: of "bright" the grey, else 1 - it."""
    node = helper.make_node
    predicting = model(
        [
            node("Cast", ["pixels"], ["x"], to=TensorProto.FLOAT),
            node("Div", ["x", "scale"], ["activation"]),
            node("ReduceMean", ["activation"], ["m4"], axes=[1, 2, 3], keepdims=1),
            node("Flatten", ["m4"], ["m"]),
            node("Sub", ["m", "half"], ["c"]),
            node("Mul", ["c", "slope"], ["z"]),
            node("Sigmoid", ["z"], ["probabilities"]),
        ],
        [info("pixels", TensorProto.UINT8, 8, 8, 1)],
        [
            info("probabilities", TensorProto.FLOAT, 1),
            info("activation", TensorProto.FLOAT, 8, 8, 1),
        ],
        {"scale": np.float32(255), "half": np.float32(0.5), "slope": np.float32(8)},
    )
    explaining = model(
        [
            node("Reshape", ["activation", "maps"], ["grey"]),
            node("Cast", ["label"], ["l"], to=TensorProto.FLOAT),
            node("Reshape", ["l", "column"], ["bright"]),
            node("Sub", ["one", "bright"], ["dark"]),
            node("Sub", ["one", "grey"], ["black"]),
            node("Mul", ["grey", "bright"], ["a"]),
            node("Mul", ["black", "dark"], ["b"]),
            node("Add", ["a", "b"], ["heat"]),
        ],
        [info("activation", TensorProto.FLOAT, 8, 8, 1), info("label", TensorProto.INT64)],
        [info("heat", TensorProto.FLOAT, 8, 8)],
        {
            "maps": np.array([-1, 8, 8]),
            "column": np.array([-1, 1, 1]),
            "one": np.float32(1),
        },
    )
    graph = folder.parent / f"{folder.name}.onnx"
    onnx.save(predicting, graph)
    why = {"cut": None, "exact": False, "why": "three networks answer together"}
    about = BundleInfo(
        "grey",
        "binary",
        ("dark", "bright"),
        Preprocessing((8, 8), 1, letterbox),
        0.4,
        explanation={"cut": "layer4", "exact": False, "why": None} if explained else why,
    )
    files = {"explain.onnx": explaining.SerializeToString()} if explained else {}
    return str(write_bundle(folder, graph, about, files))


@pytest.fixture
def bundle(tmp_path):
    return write(tmp_path / "bundle")


@pytest.fixture
def pictures(tmp_path):
    """pictures/a.png black, pictures/deep/b.png white, both 20 × 30."""
    folder = tmp_path / "pictures"
    (folder / "deep").mkdir(parents=True)
    for name, value in {"a.png": 0, "deep/b.png": 255}.items():
        Image.fromarray(np.full((20, 30), value, np.uint8)).save(folder / name)
    return folder


def read(path):
    with Image.open(path) as image:
        return np.asarray(image)


def all_files(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def hot(grey):
    """A pixel of this grey value under the hottest heat."""
    return np.rint(0.3 * grey + 0.7 * INFERNO[255]).tolist()


def test_the_decided_label_without_torch(bundle, pictures, tmp_path):
    words = ["explain", bundle, pictures, "--out", tmp_path / "out", "--heat", "--json", "--quiet"]
    command = [sys.executable, "-c", BLOCKED, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    summary = json.loads(done.stdout)
    assert summary["cut"] == "layer4" and summary["unreadable"] == []
    a, b = summary["explanations"]
    assert [a["id"], a["label"], a["picture"]] == ["a.png", "dark", str(tmp_path / "out/a.png")]
    assert [b["id"], b["label"]] == ["deep/b.png", "bright"]
    assert a["probability"] == b["probability"] == pytest.approx(1 / (1 + np.exp(-4)), abs=1e-6)
    out = ["a.heat.png", "a.png", "deep/b.heat.png", "deep/b.png"]
    assert all_files(tmp_path / "out") == out
    for name, grey in (("a", 0), ("deep/b", 255)):  # both are sure of themselves everywhere
        assert (read(tmp_path / "out" / f"{name}.png") == hot(grey)).all()
        warm = read(tmp_path / "out" / f"{name}.heat.png")
        assert warm.shape == (20, 30) and (warm == 255).all()


def test_a_label_that_was_asked_for(bundle, pictures, tmp_path, capsys):
    out = tmp_path / "out"
    words = ["explain", bundle, str(pictures), "--out", str(out), "--label", "bright"]
    assert main(words) == 0
    assert all_files(out) == ["a.png", "deep/b.png"]
    assert (read(out / "a.png") == 0).all()  # nothing in black speaks for bright
    assert (read(out / "deep" / "b.png") == hot(255)).all()
    printed = capsys.readouterr()
    assert printed.out == "" and "2 pictures" in printed.err


def test_heat_lies_on_a_letterboxed_picture(tmp_path):
    bundle = write(tmp_path / "bundle", letterbox=True)
    wide = np.zeros((40, 160, 3), np.uint8)
    wide[:, 80:] = 255  # a right half; the network sees it in two of its eight rows
    Image.fromarray(wide).save(tmp_path / "wide.png")
    out = tmp_path / "out"
    words = ["explain", bundle, str(tmp_path / "wide.png"), "--out", str(out)]
    assert main([*words, "--label", "bright", "--heat", "--size", "80", "--quiet"]) == 0
    warm = read(out / "wide.heat.png")
    assert warm.shape == (20, 80)
    assert (warm[:, :25] == 0).all() and (warm[:, 55:] == 255).all()  # shrinking blurs the rest
    assert read(out / "wide.png").shape == (20, 80, 3)


def test_pictures_of_one_name_stay_apart(bundle, pictures, tmp_path):
    Image.fromarray(np.full((9, 9), 255, np.uint8)).save(pictures / "a.jpg")
    out = tmp_path / "out"
    outside = [str(pictures / "a.png"), str(pictures / ".." / "pictures" / "deep" / "b.png")]
    assert main(["explain", bundle, str(pictures), "--out", str(out), "--quiet"]) == 0
    assert all_files(out) == ["a.jpg.png", "a.png", "deep/b.png"] or all_files(out) == [
        "a.png",
        "a.png.png",
        "deep/b.png",
    ]
    again = tmp_path / "again"
    assert main(["explain", bundle, *outside, outside[0], "--out", str(again), "--quiet"]) == 0
    assert all_files(again) == ["a.png", "a.png.png", "b.png"]


def test_an_unreadable_picture(bundle, pictures, tmp_path, capsys):
    (pictures / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    words = ["explain", bundle, str(pictures), "--out", str(tmp_path / "out")]
    assert main(words) == 2
    assert "torn.png" in capsys.readouterr().err
    assert main([*words, "--skip-unreadable"]) == 0
    assert "left out" in capsys.readouterr().err
    assert all_files(tmp_path / "out") == ["a.png", "deep/b.png"]


@pytest.mark.parametrize(
    ("explained", "more", "message"),
    [
        (True, ["--label", "grey"], "the bundle's labels are dark, bright"),
        (False, [], "three networks answer together"),
        (True, ["--size", "2"], "--size"),
    ],
)
def test_what_can_not_be_explained(pictures, tmp_path, capsys, explained, more, message):
    bundle = write(tmp_path / "other", explained=explained)
    words = ["explain", bundle, str(pictures), "--out", str(tmp_path / "out"), *more]
    assert main(words) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
