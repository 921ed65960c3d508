"""A real server over bundles that are closed formulas, pictures for it, and one browser."""

import asyncio
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pydicom
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from pydicom.uid import ExplicitVRLittleEndian

from layerwise.serving.bundle import EXPLAIN, BundleInfo, Preprocessing, write_bundle

SIZE = (16, 24)  # (height, width) of the network's pictures
FINDINGS = [f"Finding {k}" for k in range(1, 15)]


def network(slopes: list[float], softmax: bool) -> onnx.ModelProto:
    """Sigmoid or softmax of slope · (mean of the activation - 0.5); that is grey / 255."""

    def const(name: str, value: object) -> onnx.TensorProto:
        return numpy_helper.from_array(np.asarray(value, np.float32), name)

    nodes = [
        helper.make_node("Cast", ["pixels"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["x", "scale"], ["activation"]),
        helper.make_node("ReduceMean", ["activation"], ["m4"], axes=[1, 2, 3], keepdims=1),
        helper.make_node("Flatten", ["m4"], ["m"]),
        helper.make_node("Sub", ["m", "half"], ["c"]),
        helper.make_node("Mul", ["c", "slopes"], ["z"]),
        helper.make_node("Softmax" if softmax else "Sigmoid", ["z"], ["probabilities"]),
    ]
    shape = ["n", *SIZE, 1]
    made = helper.make_graph(
        nodes,
        "closed form",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, shape)],
        [
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", len(slopes)]),
            helper.make_tensor_value_info("activation", TensorProto.FLOAT, shape),
        ],
        [const("scale", 255), const("half", 0.5), const("slopes", [slopes])],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def explainer() -> onnx.ModelProto:
    """Heat = what is bright for label 1, what is dark for any other."""
    nodes = [
        helper.make_node("Equal", ["label", "one"], ["is"]),
        helper.make_node("Cast", ["is"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["f", "shape"], ["w"]),  # (N, 1, 1, 1)
        helper.make_node("Sub", ["unit", "activation"], ["dark"]),
        helper.make_node("Sub", ["unit", "w"], ["v"]),
        helper.make_node("Mul", ["w", "activation"], ["a"]),
        helper.make_node("Mul", ["v", "dark"], ["b"]),
        helper.make_node("Add", ["a", "b"], ["h"]),
        helper.make_node("Squeeze", ["h", "last"], ["heat"]),
    ]
    made = helper.make_graph(
        nodes,
        "brightness",
        [
            helper.make_tensor_value_info("activation", TensorProto.FLOAT, ["n", *SIZE, 1]),
            helper.make_tensor_value_info("label", TensorProto.INT64, ["n"]),
        ],
        [helper.make_tensor_value_info("heat", TensorProto.FLOAT, ["n", *SIZE])],
        [
            numpy_helper.from_array(np.int64(1), "one"),
            numpy_helper.from_array(np.int64([-1, 1, 1, 1]), "shape"),
            numpy_helper.from_array(np.int64([3]), "last"),
            numpy_helper.from_array(np.float32(1), "unit"),
        ],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def span(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.02, "high": value + 0.01}


def bundle(folder: Path, task: str = "binary", explained: bool = True) -> Path:
    labels = ["NORMAL", "PNEUMONIA"] if task == "binary" else FINDINGS
    slopes = [8.0] if task == "binary" else list(np.linspace(8, -8, len(FINDINGS)))
    scores: dict[str, object] = {
        "auroc": span(0.97),
        "recall": span(0.91),
        "specificity": span(0.88),
    }
    if task != "binary":
        scores["per_label"] = {
            label: {"auroc": span(0.9 - k / 50)} for k, label in enumerate(labels)
        }
    info = BundleInfo(
        "chest <b>radiographs</b>",  # names are text, whatever they hold
        task,  # type: ignore[arg-type]
        tuple(labels),
        Preprocessing(SIZE, 1, letterbox=True),
        threshold=0.4 if task == "binary" else [0.4] * len(labels),
        provenance={"run": "abc", "data": "chests", "model": "timm:tiny", "seed": 0},
        scores=scores,
        explanation={"cut": "blocks.4", "exact": True, "why": None}
        if explained
        else {"cut": None, "exact": False, "why": "it ends in trees"},
    )
    folder.mkdir()
    onnx.save(network(slopes, task == "multiclass"), folder / "graph.onnx")
    more = {EXPLAIN: explainer().SerializeToString()} if explained else {}
    return write_bundle(folder / "bundle", folder / "graph.onnx", info, more)


def dicom(path: Path, pixels: np.ndarray) -> None:
    """A radiograph of 12 bits without a window, uint16 (H, W)."""
    meta = pydicom.dataset.FileMetaDataset()
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = pydicom.Dataset()
    data.file_meta = meta
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, "1.2.3"
    data.Modality, data.PatientName = "CR", "Nobody^Real"
    data.Rows, data.Columns = pixels.shape
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 12, 11, 0
    data.PixelData = pixels.astype("<u2").tobytes()
    data.save_as(path, enforce_file_format=True)


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """grey-040.png … grey-220.png of one grey each, halves.png, a DICOM, a broken one, a folder."""
    folder = tmp_path_factory.mktemp("pictures")
    for grey in (40, 100, 160, 220):
        Image.fromarray(np.full((32, 48), grey, np.uint8)).save(folder / f"grey-{grey:03d}.png")
    halves = np.full((64, 32), 60, np.uint8)  # higher than wide: letterboxed in SIZE
    halves[32:] = 200
    Image.fromarray(halves).save(folder / "halves.png")
    dicom(folder / "radiograph.dcm", np.tile(np.arange(48, dtype=np.uint16) * 87, (32, 1)))
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and then nothing")
    (folder / "ward" / "deep").mkdir(parents=True)
    shutil.copy(folder / "grey-220.png", folder / "ward" / "b.png")
    shutil.copy(folder / "grey-040.png", folder / "ward" / "deep" / "a.png")
    for clutter in (".hidden.png", "Thumbs.db"):
        (folder / "ward" / clutter).write_bytes(b"not a picture")
    return folder


Serve = Callable[..., str]


@pytest.fixture(scope="session")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """Starts a server of a task, with a key or without; equal requests give the same server."""
    uvicorn = pytest.importorskip("uvicorn", reason="needs the extra serve")
    pytest.importorskip("fastapi", reason="needs the extra serve")
    from layerwise.serving.http.app import build
    from layerwise.serving.http.keys import Hosts
    from layerwise.serving.http.logs import Log
    from layerwise.serving.http.models import Models
    from layerwise.serving.http.server import listen
    from layerwise.serving.http.service import Service
    from layerwise.serving.http.settings import Settings

    folder = tmp_path_factory.mktemp("served")
    running: dict[tuple[object, ...], tuple[str, object, threading.Thread]] = {}

    def start(task: str = "binary", key: str = "", explained: bool = True) -> str:
        asked = (task, key, explained)
        if asked not in running:
            log, settings = Log(lambda _: None), Settings(threads=1)
            where = bundle(folder / f"{task}-{explained}-{len(running)}", task, explained)
            service = Service(Models(str(where), settings, log), settings, log)
            app = build(service, [key.encode()] if key else [], Hosts("127.0.0.1"), log)
            listening = listen("127.0.0.1", 0)
            config = uvicorn.Config(app, lifespan="on", log_config=None, access_log=False)
            server, ready = uvicorn.Server(config), threading.Event()
            startup = server.startup

            async def started(sockets: object = None) -> None:
                await startup(sockets)
                ready.set()

            server.startup = started
            thread = threading.Thread(target=lambda: asyncio.run(server.serve([listening])))
            thread.start()
            assert ready.wait(20)
            address = f"http://127.0.0.1:{listening.getsockname()[1]}/"
            running[asked] = address, server, thread
        return running[asked][0]

    yield start
    for _, server, thread in running.values():
        server.should_exit = True  # type: ignore[attr-defined]
        thread.join(20)


class Visit:
    """A page, and everything it asked for or complained of."""

    def __init__(self, page: object, address: str) -> None:
        self.page, self.address = page, address
        self.asked: list[str] = []
        self.complaints: list[str] = []
        page.on("request", lambda r: self.asked.append(r.url))  # type: ignore[attr-defined]
        page.on("console", lambda m: self.complaints.append(m.text))  # type: ignore[attr-defined]
        page.on("pageerror", lambda e: self.complaints.append(str(e)))  # type: ignore[attr-defined]

    def check(self) -> None:
        """Nothing went to another host, and nothing went wrong but what the server refused."""
        own = (self.address, f"blob:{self.address}")
        assert [url for url in self.asked if not url.startswith(own)] == []
        refused = "Failed to load resource: "
        assert [text for text in self.complaints if not text.startswith(refused)] == []


@pytest.fixture
def visit(browser: object, serve: Serve) -> Iterator[Callable[..., Visit]]:
    """Opens the page of a server; afterwards all that it asked for is checked."""
    visits: list[Visit] = []

    def go(task: str = "binary", key: str = "", explained: bool = True, **options: object) -> Visit:
        address = serve(task, key, explained)
        size = options.pop("viewport", {"width": 1060, "height": 640})
        options = {
            "viewport": size,
            "reduced_motion": "reduce",
            **options,
        }  # nothing moves by itself
        page = browser.new_page(**options)  # type: ignore[attr-defined]
        page.set_default_timeout(8000)
        visits.append(Visit(page, address))
        page.goto(address)
        return visits[-1]

    yield go
    for each in visits:
        # A handler that still runs would raise its error in whichever test comes next.
        each.page.unroute_all(behavior="ignoreErrors")  # type: ignore[attr-defined]
        each.page.close()  # type: ignore[attr-defined]
    for each in visits:
        each.check()
