"""Bundles that are not what they were, or would do harm, are refused before they are loaded."""

import hashlib
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from layerwise.errors import BundleError
from layerwise.serving import sizes
from layerwise.serving.bundle import Bundle, BundleInfo, Preprocessing, write_bundle
from layerwise.serving.card import sealed
from layerwise.serving.operators import allowed_operators, parse_graph
from layerwise.serving.sizes import check_sizes
from layerwise.serving.verify import verify

SIZE = (6, 8)
INFO = BundleInfo("grey", "binary", ("dark", "bright"), Preprocessing(SIZE, 1, letterbox=False))
QUIET = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def const(name, value):
    return numpy_helper.from_array(np.asarray(value), name)


def node(kind, given, made, **attributes):
    return helper.make_node(kind, given.split(), made.split(), **attributes)


def graph(*more, constants=(), outputs=()):
    """sigmoid(mean grey / 255), with other nodes before and other outputs after."""
    nodes = [
        *more,
        node("Cast", "pixels", "x", to=TensorProto.FLOAT),
        node("Div", "x scale", "activation"),
        node("ReduceMean", "activation", "m", axes=[1, 2, 3], keepdims=1),
        node("Flatten", "m", "z"),
        node("Sigmoid", "z", "probabilities"),
    ]
    pixels = helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["n", *SIZE, 1])
    out = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 1])
    given = [const("scale", np.float32(255)), *constants]
    made = helper.make_graph(nodes, "grey", [pixels], [out, *outputs], given)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def activation():
    return helper.make_tensor_value_info("activation", TensorProto.FLOAT, ["n", *SIZE, 1])


def heat(size=SIZE):
    """The brightness itself as heat, whatever the label."""
    ends = [
        helper.make_tensor_value_info("activation", TensorProto.FLOAT, ["n", *SIZE, 1]),
        helper.make_tensor_value_info("label", TensorProto.INT64, ["n"]),
    ]
    out = helper.make_tensor_value_info("heat", TensorProto.FLOAT, ["n", *size])
    nodes = [node("Reshape", "activation shape", "heat")]
    given = [const("shape", np.array([-1, *size], np.int64))]
    made = helper.make_graph(nodes, "heat", ends, [out], given)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def put(folder, model, info=INFO, **files):
    path = folder.parent / f"{folder.name}.onnx"
    path.write_bytes(model.SerializeToString())
    return write_bundle(folder, path, info, files)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A bundle with everything in it, and its files' bytes."""
    folder = tmp_path_factory.mktemp("whole") / "bundle"
    explained = BundleInfo(
        **{**vars(INFO), "explanation": {"cut": "brightness", "exact": True, "why": None}}
    )
    files = {"explain.onnx": heat().SerializeToString(), "notes.txt": b"of the writer"}
    put(folder, graph(outputs=[activation()]), explained, **files)
    return folder, {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_whole_bundle_is_taken(whole):
    folder, contents = whole
    found = verify(folder)
    assert found.id == hashlib.sha256(contents["bundle.json"]).hexdigest()[:12]
    assert set(found.files) == set(contents) - {"bundle.json"}
    assert {name: file.bytes for name, file in found.files.items()} == {
        name: len(content) for name, content in contents.items() if name != "bundle.json"
    }
    assert found.graphs == {k: v for k, v in contents.items() if k.endswith(".onnx")}
    picture = np.random.default_rng(0).integers(0, 256, (1, *SIZE, 1), dtype=np.uint8)
    scores, shown = Bundle.load(folder, threads=1).explain(picture, np.zeros(1, np.int64))
    assert scores[0, 0] == pytest.approx(1 / (1 + np.exp(-picture.mean() / 255)), abs=1e-6)
    np.testing.assert_allclose(shown[0], picture[0, ..., 0] / 255, atol=1e-6)


def refused_with(whole, name, content):
    """Whether a bundle in which a file has another content is refused; it is put back."""
    folder, contents = whole
    (folder / name).write_bytes(content)
    try:
        verify(folder)
    except BundleError as error:
        assert name in str(error) or "bundle.json" in str(error)
        return True
    finally:
        (folder / name).write_bytes(contents[name])
    return False


@QUIET
@given(data=st.data())
def test_any_changed_byte_is_refused(whole, data):
    name = data.draw(st.sampled_from(sorted(whole[1])))
    content = bytearray(whole[1][name])
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] = data.draw(st.integers(0, 255).filter(lambda b: b != content[place]))
    assert refused_with(whole, name, bytes(content))


@QUIET
@given(data=st.data())
def test_any_truncated_file_is_refused(whole, data):
    name = data.draw(st.sampled_from(sorted(whole[1])))
    content = whole[1][name]
    assert refused_with(whole, name, content[: data.draw(st.integers(0, len(content) - 1))])


@QUIET
@given(content=st.binary(max_size=300), name=st.sampled_from(["bundle.json", "model.onnx"]))
def test_any_other_bytes_are_refused(whole, content, name):
    assert refused_with(whole, name, content)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"a":' * 100_000,
        '{"format": 2, "format": 2}',
        '{"format": NaN}',
        '{"format": 1e999}',
        '{"format": 2, "layerwise": "0.1", "files": {}}',
        '{"format": 2, "x": ' + "[" * 40 + "]" * 40 + "}",
    ],
)
def test_cards_that_are_made_to_harm(whole, text):
    assert refused_with(whole, "bundle.json", text.encode())


def test_a_card_of_many_bytes_is_not_read(whole):
    assert refused_with(whole, "bundle.json", b" " * (5 << 20))


def rewrite(folder, change):
    """A card that was changed by someone who knows how to seal it."""
    path = folder / "bundle.json"
    card = json.loads(path.read_text())
    change(card)
    path.write_text(json.dumps(sealed(card), indent=1) + "\n")


@pytest.mark.parametrize(
    "name", ["../secret.txt", "/etc/passwd", "a/b.txt", "..", ".hidden", "", "bundle.json", "ä.txt"]
)
def test_no_file_outside_the_folder_is_named(tmp_path, name):
    folder = put(tmp_path / "bundle", graph())
    (tmp_path / "secret.txt").write_text("s")
    entry = {"sha256": hashlib.sha256(b"s").hexdigest(), "bytes": 1}
    rewrite(folder, lambda card: card["files"].update({name: entry}))
    with pytest.raises(BundleError, match="can not be a file of a bundle"):
        verify(folder)


def test_links_and_other_things_are_refused(tmp_path):
    folder = put(tmp_path / "bundle", graph(), **{"notes.txt": b"s"})
    (tmp_path / "secret.txt").write_bytes(b"s")
    (folder / "notes.txt").unlink()
    (folder / "notes.txt").symlink_to(tmp_path / "secret.txt")
    with pytest.raises(BundleError, match=r"notes.txt can not be read \(a link\)"):
        verify(folder)
    (folder / "notes.txt").unlink()
    os.mkfifo(folder / "notes.txt")  # reading one would wait for ever
    with pytest.raises(BundleError, match="no plain file"):
        verify(folder)
    (folder / "notes.txt").unlink()
    (folder / "notes.txt").mkdir()
    with pytest.raises(BundleError, match="notes.txt"):
        verify(folder)


def test_a_file_that_is_not_listed_is_named(tmp_path):
    folder = put(tmp_path / "bundle", graph())
    (folder / "extra.py").write_text("print()")
    with pytest.raises(BundleError, match="extra.py does not belong.*Remove it"):
        verify(folder)


def test_a_listed_size_that_is_too_large_is_refused_unread(tmp_path):
    folder = put(tmp_path / "bundle", graph())
    rewrite(folder, lambda card: card["files"]["model.onnx"].update(bytes=1 << 40))
    with pytest.raises(BundleError, match="more than a bundle may have"):
        verify(folder)


def test_format_1_is_still_read(tmp_path):
    folder = put(tmp_path / "bundle", graph())
    (folder / "README.md").unlink()
    card = json.loads((folder / "bundle.json").read_text())
    digest = card.pop("files")["model.onnx"]["sha256"]
    for key in ("seal", "explanation", "statistics", "quantised"):
        card.pop(key)
    (folder / "bundle.json").write_text(json.dumps({**card, "format": 1, "sha256": digest}))
    bundle = Bundle.load(folder, threads=1)
    assert bundle.info == INFO and bundle.sha256 == digest and not bundle.explains
    assert verify(folder).format == 1
    (folder / "model.onnx").write_bytes((folder / "model.onnx").read_bytes()[:-1])
    with pytest.raises(BundleError, match="model.onnx is damaged"):
        verify(folder)


BOMB = np.array([1 << 20, 1 << 20], np.int64)


def nested():
    """A Loop that runs for ever."""
    yes = helper.make_tensor_value_info("yes", TensorProto.BOOL, [])
    count = helper.make_tensor_value_info("count", TensorProto.INT64, [])
    inner = [helper.make_node("Identity", ["yes"], ["go"])]
    out = [helper.make_tensor_value_info("go", TensorProto.BOOL, [])]
    body = helper.make_graph(inner, "body", [count, yes], out)
    return node("Loop", "times true", "", body=body)


def sparse():
    values = const("values", np.ones(1, np.float32))
    found = helper.make_sparse_tensor(values, const("at", np.zeros(1, np.int64)), [1 << 40])
    return node("Constant", "", "huge", sparse_value=found)


HOSTILE = {
    "a loop": ([nested()], [const("times", np.int64(1 << 62)), const("true", True)], "Loop"),
    "noise": ([node("RandomNormal", "", "r", shape=[4])], [], "RandomNormal"),
    "a custom operator": ([helper.make_node("Evil", ["pixels"], ["e"])], [], "not standard"),
    "a custom domain": (
        [helper.make_node("Relu", ["pixels"], ["e"], domain="com.microsoft")],
        [],
        "not standard",
    ),
    "a sparse tensor": ([sparse()], [], "sparse"),
    "a large constant": (
        [node("ConstantOfShape", "big", "huge")],
        [const("big", BOMB)],
        "more than",
    ),
    "a large picture": (
        [
            node("Cast", "pixels", "f", to=TensorProto.FLOAT),
            node("Resize", "f none scales", "huge", mode="nearest"),
        ],
        [const("none", np.zeros(0, np.float32)), const("scales", np.float32([1, 1e4, 1e4, 1]))],
        "more than",
    ),
    "a repeated picture": (
        [node("Tile", "pixels times", "huge")],
        [const("times", np.int64([1, 1 << 16, 1 << 16, 1]))],
        "more than",
    ),
    "a spread value": (
        [node("Expand", "scale big", "huge")],
        [const("big", BOMB)],
        "more than",
    ),
    "a product of vectors": (
        [node("Mul", "a b", "huge")],
        [const("a", np.zeros((1 << 15, 1), np.int8)), const("b", np.zeros((1, 1 << 15), np.int8))],
        "more than",
    ),
    "doubling": (
        [helper.make_node("Concat", [f"d{k}"] * 2, [f"d{k + 1}"], axis=0) for k in range(40)],
        [const("d0", np.zeros(4, np.float32))],
        "more than",
    ),
    "a size that the picture says": (
        [
            node("Cast", "pixels", "i", to=TensorProto.INT64),
            node("ReduceSum", "i axes", "s", keepdims=0),
            node("ConstantOfShape", "s", "huge"),
        ],
        [const("axes", np.int64([1, 2, 3]))],
        "not follow",
    ),
    "a size computed from constants": (
        [
            node("Shape", "pixels", "shape"),
            node("Gather", "shape one", "h"),
            node("Mul", "h many", "large"),
            node("ConstantOfShape", "large", "huge"),
        ],
        [const("one", np.int64([1])), const("many", np.int64([1 << 40]))],
        "more than",
    ),
    "parts that do not fit": (
        [node("MatMul", "a b", "e")],
        [const("a", np.zeros((2, 3), np.float32)), const("b", np.zeros((2, 3), np.float32))],
        "does not fit",
    ),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_graphs_are_refused(tmp_path, what):
    nodes, constants, message = HOSTILE[what]
    folder = put(tmp_path / "bundle", graph(*nodes, constants=constants))
    with pytest.raises(BundleError, match=message) as refused:
        verify(folder)
    assert "model.onnx" in str(refused.value)


def external(model):
    tensor = model.graph.initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    tensor.ClearField("raw_data")
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../../etc/passwd"


def more_than_held(model):
    model.graph.initializer[0].dims[:] = [1 << 40]


def text_tensor(model):
    model.graph.initializer.append(helper.make_tensor("t", TensorProto.STRING, [1], [b"x"]))


def a_function(model):
    model.functions.add(name="Relu", domain="")


def another_opset(model):
    model.opset_import.append(helper.make_opsetid("com.example", 1))


def no_pixels(model):
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT


def another_size(model):
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 7


def a_free_size(model):
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "h"


def another_input(model):
    model.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, [1]))


def another_output(model):
    model.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, [1]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (external, "other files"),
        (more_than_held, "holds something else"),
        (text_tensor, "STRING"),
        (a_function, "functions"),
        (another_opset, "not standard"),
        (no_pixels, "should have"),
        (another_size, r"n, 6, 8, 1"),
        (a_free_size, r"n, 6, 8, 1"),
        (another_input, "should have"),
        (another_output, "should have"),
    ],
)
def test_changed_graphs_are_refused(tmp_path, change, message):
    model = graph()
    change(model)
    with pytest.raises(BundleError, match=message):
        verify(put(tmp_path / "bundle", model))


def explaining(nodes=(), constants=()):
    """`heat`, with other nodes before."""
    model = heat()
    after = list(model.graph.node)
    del model.graph.node[:]
    for one in nodes:
        model.graph.node.add().CopyFrom(one)
        for k, name in enumerate(one.input):
            model.graph.node[-1].input[k] = "activation" if name == "pixels" else name
    model.graph.node.extend(after)
    model.graph.initializer.extend([const("scale", np.float32(255)), *constants])
    return model


UNLOADED = [*HOSTILE, "other files", "more than it holds", "another input", "altered", "cut off"]


@pytest.fixture
def opened(monkeypatch):
    """How many graphs ONNX Runtime was given."""
    import onnxruntime

    calls, plain = [], onnxruntime.InferenceSession

    def watched(*given, **options):
        calls.append(given)
        return plain(*given, **options)

    monkeypatch.setattr(onnxruntime, "InferenceSession", watched)
    return calls


def test_a_harmless_bundle_reaches_onnx_runtime(tmp_path, opened):
    files = {"explain.onnx": explaining().SerializeToString()}
    Bundle.load(put(tmp_path / "bundle", graph(outputs=[activation()]), **files), threads=1)
    assert len(opened) == 2


@pytest.mark.parametrize("file", ["model.onnx", "explain.onnx"])
@pytest.mark.parametrize("what", UNLOADED)
def test_what_is_refused_never_reaches_onnx_runtime(tmp_path, opened, what, file):
    nodes, constants, _ = HOSTILE.get(what, ((), (), ""))
    changes = {
        "other files": external,
        "more than it holds": more_than_held,
        "another input": another_input,
    }
    made = {"model.onnx": graph(outputs=[activation()]), "explain.onnx": explaining()}
    if file == "model.onnx":
        made[file] = graph(*nodes, constants=constants, outputs=[activation()])
    else:
        made[file] = explaining(nodes, constants)
    changes.get(what, lambda model: None)(made[file])
    files = {"explain.onnx": made["explain.onnx"].SerializeToString()}
    folder = put(tmp_path / "bundle", made["model.onnx"], **files)
    content = (folder / file).read_bytes()
    if what == "altered":
        (folder / file).write_bytes(content.replace(b"activation", b"activatiom", 1))
    elif what == "cut off":
        (folder / file).write_bytes(content[:-1])
    with pytest.raises(BundleError, match=file):
        Bundle.load(folder, threads=1)
    assert opened == []


def test_an_explaining_graph_must_fit(tmp_path):
    model = graph(outputs=[activation()])
    wrong = heat((4, 12)).SerializeToString()
    with pytest.raises(BundleError, match=r"explain.onnx.*'heat' is \(1, 4, 12\)"):
        verify(put(tmp_path / "bundle", model, **{"explain.onnx": wrong}))
    right = heat().SerializeToString()
    with pytest.raises(BundleError, match=r"model.onnx.*activation"):  # which it does not give
        verify(put(tmp_path / "other", graph(), **{"explain.onnx": right}))


def test_a_blank_picture_must_give_probabilities(tmp_path):
    model = graph()
    model.graph.node[-1].op_type = "Log"  # of 0: minus infinity
    folder = put(tmp_path / "bundle", model)
    verify(folder)
    with pytest.raises(BundleError, match="no probabilities"):
        Bundle.load(folder, threads=1)


def test_nothing_is_loaded_by_verifying(tmp_path):
    """Neither ONNX Runtime nor torch, whatever the bundle holds."""
    folder = put(tmp_path / "bundle", graph())
    code = (
        "import sys\n"
        "for name in ('torch', 'onnxruntime'): sys.modules[name] = None\n"
        "from layerwise.serving.verify import verify\n"
        "print(verify(sys.argv[1]).id)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == verify(folder).id


def test_the_operators_are_those_of_the_opset():
    allowed = allowed_operators()
    assert {"Conv", "QuantizeLinear", "DequantizeLinear", "LayerNormalization"} <= allowed
    assert not allowed & {"Loop", "If", "Scan", "RandomUniform", "Gelu"}  # Gelu is of opset 20


def test_shapes_that_need_computing_are_computed():
    """A flattening whose sizes come from the picture's own shape, as torch's exporter writes it."""
    nodes = [
        node("Shape", "pixels", "shape"),
        node("Gather", "shape zero", "n"),
        node("Unsqueeze", "n axis", "n1"),
        node("Concat", "n1 rest", "wanted", axis=0),
        node("Reshape", "pixels wanted", "flat"),
        node("ConstantOfShape", "wanted", "zeros"),
    ]
    constants = [
        const("zero", np.int64(0)),
        const("axis", np.int64([0])),
        const("rest", np.int64([4, 12])),
    ]
    model = parse_graph(graph(*nodes, constants=constants).SerializeToString(), "g")
    inputs = {"pixels": ("UINT8", (1, *SIZE, 1))}
    out = check_sizes(model, inputs, {"probabilities": ("FLOAT", (1, 1))}, "g")
    assert out == {"probabilities": (1, 1)}


def test_the_sum_of_all_sizes_is_bounded(monkeypatch):
    monkeypatch.setattr(sizes, "MOST_TOGETHER", 3 * 48)  # of 48 + 48 + 1 + 1 + 1
    inputs, outputs = {"pixels": ("UINT8", (1, *SIZE, 1))}, {"probabilities": ("FLOAT", (1, 1))}
    content = graph().SerializeToString()
    check_sizes(parse_graph(content, "g"), inputs, outputs, "g")
    monkeypatch.setattr(sizes, "MOST_TOGETHER", 98)
    with pytest.raises(BundleError, match="more than 98 numbers in all"):
        check_sizes(parse_graph(content, "g"), inputs, outputs, "g")
