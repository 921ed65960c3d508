"""Servers on real sockets, whose network is a closed formula: every answer can be worked out."""

import io
import json
import threading
from contextlib import contextmanager
from unittest import mock

import httpx
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from layerwise.serving.bundle import BundleInfo, Preprocessing, write_bundle
from layerwise.serving.http import server as process
from layerwise.serving.http.keys import Hosts
from layerwise.serving.http.logs import Log
from layerwise.serving.http.server import Server, listen
from layerwise.serving.http.settings import Settings

SIZE = (8, 8)
LABELS = ("NORMAL", "PNEUMONIA")


def _model(nodes, inputs, outputs, constants):
    values = [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()]
    infos = [
        [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in some]
        for some in (inputs, outputs)
    ]
    made = helper.make_graph([helper.make_node(*n[:3], **n[3]) for n in nodes], "g", *infos, values)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def graph(slope):
    """probability = sigmoid(slope · (mean grey / 255 − ½)); activation = grey / 255."""
    nodes = [
        ("Cast", ["pixels"], ["x"], {"to": TensorProto.FLOAT}),
        ("Div", ["x", "full"], ["activation"], {}),
        ("ReduceMean", ["activation"], ["m4"], {"axes": [1, 2, 3], "keepdims": 1}),
        ("Flatten", ["m4"], ["m"], {}),
        ("Sub", ["m", "half"], ["c"], {}),
        ("Mul", ["c", "slope"], ["z"], {}),
        ("Sigmoid", ["z"], ["probabilities"], {}),
    ]
    shape = ["n", *SIZE, 1]
    outputs = [
        ("probabilities", TensorProto.FLOAT, ["n", 1]),
        ("activation", TensorProto.FLOAT, shape),
    ]
    constants = {"full": np.float32(255), "half": np.float32(0.5), "slope": np.float32(slope)}
    return _model(nodes, [("pixels", TensorProto.UINT8, shape)], outputs, constants)


def explaining_graph():
    """Heat = grey / 255 for label 1, and 1 − grey / 255 for label 0."""
    nodes = [
        ("Squeeze", ["activation", "last"], ["a"], {}),
        ("Cast", ["label"], ["l"], {"to": TensorProto.FLOAT}),
        ("Unsqueeze", ["l", "two"], ["l3"], {}),
        ("Sub", ["one", "l3"], ["other"], {}),
        ("Sub", ["a", "other"], ["signed"], {}),
        ("Abs", ["signed"], ["heat"], {}),
    ]
    inputs = [
        ("activation", TensorProto.FLOAT, ["n", *SIZE, 1]),
        ("label", TensorProto.INT64, ["n"]),
    ]
    outputs = [("heat", TensorProto.FLOAT, ["n", *SIZE])]
    constants = {"last": np.int64([3]), "two": np.int64([1, 2]), "one": np.float32(1)}
    return _model(nodes, inputs, outputs, constants)


def write(folder, slope=8.0, explains=True, **changes):
    """A bundle of the formula."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    path = folder.parent / f"{folder.name}.onnx"
    onnx.save(graph(slope), path)
    how = {"cut": "features", "exact": True, "why": None}
    values = {
        "name": folder.name,
        "task": "binary",
        "labels": LABELS,
        "threshold": 0.4,
        "preprocessing": Preprocessing(SIZE, 1, letterbox=False),
        "provenance": {"run": "abc", "weights": "/home/someone/secret/place/w.safetensors"},
        "scores": {"auroc": {"value": 0.97, "low": 0.9, "high": 0.99}},
        "explanation": how if explains else {"cut": None, "why": "it has no such layer"},
    }
    files = {"explain.onnx": explaining_graph().SerializeToString()} if explains else {}
    return write_bundle(folder, path, BundleInfo(**{**values, **changes}), files)


def probability(grey, slope=8.0):
    """What the formula gives for a picture of one grey value, of the second label."""
    return 1 / (1 + np.exp(-slope * (grey / 255 - 0.5)))


def encode(array, kind="PNG", **options):
    file = io.BytesIO()
    Image.fromarray(np.asarray(array, np.uint8)).save(file, kind, **options)
    return file.getvalue()


def png(grey, size=SIZE):
    return encode(np.full(size, grey))


def dicom(pixels, frames=None, drop=(), cut=0):
    """A DICOM file with a patient's name in it, of one grey or of an array."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

    array = np.full(SIZE, pixels, np.uint8) if np.isscalar(pixels) else pixels
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    data = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    data.PatientName, data.PatientID = "Secret^Person", "MRN12345"
    data.Rows, data.Columns = array.shape
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 8
    data.HighBit, data.PixelRepresentation = 7, 0
    data.WindowCenter, data.WindowWidth = 128, 256
    data.PixelData = array.tobytes() * (frames or 1)
    if frames:
        data.NumberOfFrames = frames
    for name in drop:
        delattr(data, name)
    file = io.BytesIO()
    data.save_as(file, enforce_file_format=True)
    return file.getvalue()[: -cut or None]


class Running:
    """A server in a thread, and a client of it."""

    def __init__(self, server, port, lines):
        self.server, self.service, self.port, self.lines = server, server.service, port, lines
        self.url = f"http://127.0.0.1:{port}"
        self.client = httpx.Client(base_url=self.url, timeout=30)

    def events(self, name):
        return [e for e in map(json.loads, list(self.lines)) if e["event"] == name]

    def post(self, route, *contents, **options):
        if len(contents) == 1 and isinstance(contents[0], bytes):
            headers = {"Content-Type": "application/octet-stream", **options.pop("headers", {})}
            return self.client.post(route, content=contents[0], headers=headers, **options)
        named = [c if isinstance(c, tuple) else (f"{k}.png", c) for k, c in enumerate(contents)]
        return self.client.post(route, files=[("files", one) for one in named], **options)


@contextmanager
def running(where, keys=(), hosts=None, **settings):
    lines = []
    hosts = hosts or Hosts("127.0.0.1")
    server = Server(str(where), keys, hosts, Settings(**settings), Log(lines.append))
    started = threading.Event()
    server.when_started = started.set
    linger = mock.patch.object(process, "LINGER", 0.02)  # no test needs the whole half second
    with listen("127.0.0.1", 0) as listening, linger:
        found = Running(server, listening.getsockname()[1], lines)
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            assert started.wait(30)
            yield found
        finally:
            found.client.close()
            server.should_exit = True
            thread.join(60)
    assert not thread.is_alive()


@pytest.fixture(scope="session")
def serving():
    """What makes bundles, pictures and servers."""

    class Made:
        pass

    made = Made()
    made.write, made.probability, made.png, made.encode = write, probability, png, encode
    made.dicom = dicom
    made.running, made.size, made.labels = running, SIZE, LABELS
    return made


@pytest.fixture(scope="session")
def bundle(tmp_path_factory):
    return write(tmp_path_factory.mktemp("served") / "bundle")


@pytest.fixture(scope="session")
def server(bundle):
    """One server for all tests that change nothing of it."""
    with running(bundle, max_bytes=300_000, max_pixels=1_000_000, max_files=5, wait=0.0) as found:
        yield found
