"""A bundle: `model.onnx` and `bundle.json`, all that is needed to predict. No torch here.

Loading one runs no code of its own: a graph of standard operators and a JSON file, both checked.
"""

import hashlib
import shutil
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerwise.config import write_json
from layerwise.data.pictures.images import prepare
from layerwise.errors import BundleError, OutputError
from layerwise.models.onnx_session import Session
from layerwise.serving.card import AGAIN, BundleInfo, Preprocessing, card_of, read_card

__all__ = ["CARD", "MODEL", "OUTPUT", "Bundle", "BundleInfo", "Preprocessing", "write_bundle"]

MODEL = "model.onnx"
CARD = "bundle.json"
OUTPUT = "probabilities"
"""The name of the graph's only output."""

FILES = {MODEL, CARD}

Image = str | Path | bytes | NDArray[np.uint8]


class Bundle:
    """A bundle ready to predict.

    Attributes:
        info: Labels, preprocessing, threshold, provenance, scores.
        sha256: The digest of the graph.
        version: The version of Layerwise that wrote it.
    """

    def __init__(self, info: BundleInfo, session: Session, sha256: str, version: str) -> None:
        """Use `Bundle.load`."""
        self.info, self.sha256, self.version = info, sha256, version
        self._session = session

    @classmethod
    def load(cls, folder: str | Path, threads: int | None = None) -> "Bundle":
        """Read a bundle and check everything in it.

        Args:
            folder: The folder with `model.onnx` and `bundle.json`.
            threads: Threads of ONNX Runtime; None leaves the number to it.

        Raises:
            BundleError: A file is missing or damaged, or the two do not belong together.
        """
        folder = Path(folder)
        for name in (CARD, MODEL):
            if not (folder / name).is_file():
                raise BundleError(
                    f"{folder} is no bundle: {name} is missing. Give the folder `bundle` that "
                    "`layerwise fit` wrote under --out."
                )
        info, sha256, version = read_card(folder / CARD)
        graph = (folder / MODEL).read_bytes()
        digest = hashlib.sha256(graph).hexdigest()
        if digest != sha256:
            raise BundleError(
                f"{folder / MODEL} is damaged or not the one that {CARD} describes (its sha256 "
                "differs). Copy the whole folder again."
            )
        _refuse_external_data(folder / MODEL, graph)
        try:
            session = Session(graph, threads)
        except ValueError as error:
            raise BundleError(f"{folder / MODEL}: {error}. {AGAIN}") from error
        wanted = (*info.preprocessing.size, info.preprocessing.channels)
        if session.pixel_shape != wanted or session.outputs != (OUTPUT,):
            raise BundleError(
                f"{folder / MODEL} takes pixels {session.pixel_shape} and gives "
                f"{session.outputs}; {CARD} says {wanted} and ('{OUTPUT}',). {AGAIN}"
            )
        return cls(info, session, digest, version)

    def prepare(self, image: Image) -> NDArray[np.uint8]:
        """A file, its bytes or an array → uint8 (H, W, C), as in training; DataError if damaged."""
        how = self.info.preprocessing
        return prepare(image, size=how.size, channels=how.channels, letterbox=how.letterbox)

    def run(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Probabilities of prepared pictures.

        Args:
            pixels: uint8 (N, H, W, C) from `prepare`.

        Returns:
            float32 (N, 1) for binary (of the second label), else (N, K).
        """
        (scores,) = self._session.run(pixels)
        if scores.shape != (len(pixels), self.info.outputs):
            raise BundleError(
                f"the graph gave {scores.shape} for {len(pixels)} images and "
                f"{self.info.outputs} outputs. {AGAIN}"
            )
        return scores

    def predict(self, images: Iterable[Image], batch: int = 32) -> NDArray[np.float32]:
        """Probabilities of pictures; no more than one batch of pixels is in memory.

        Args:
            images: Paths, bytes, or uint8 arrays (H, W), (H, W, 1) or (H, W, 3) of any size.
            batch: Pictures at a time.

        Returns:
            float32 (N, 1) for binary (of the second label), else (N, K), in [0, 1].

        Raises:
            DataError: A picture is damaged; the message names it.
        """
        scores = [
            self.run(np.stack([self.prepare(image) for image in some]))  # (n, H, W, C)
            for some in _batches(images, batch)
        ]
        return np.concatenate([np.empty((0, self.info.outputs), np.float32), *scores])

    def decide(self, scores: NDArray[np.float32]) -> NDArray[np.int64]:
        """Decisions at the bundle's threshold.

        Args:
            scores: float (N, 1) or (N, K) from `predict`.

        Returns:
            int64: (N,) the label's number for binary and multiclass, (N, K) of 0 and 1 for
            multilabel.
        """
        if self.info.task == "multiclass":
            return np.asarray(scores.argmax(axis=1), np.int64)
        limit = 0.5 if self.info.threshold is None else self.info.threshold
        limits = np.asarray(limit, np.float64)
        positive = np.asarray(scores.astype(np.float64) >= limits, np.int64)  # (N, 1 or K)
        return positive[:, 0] if self.info.task == "binary" else positive


def write_bundle(folder: str | Path, model_path: str | Path, info: BundleInfo) -> Path:
    """Write a bundle whole or not at all; one that stands there is replaced.

    Args:
        folder: The bundle's folder; its parents are made.
        model_path: The graph to copy into it.
        info: What else belongs to it; no time and no path, so equal runs give equal bytes.

    Returns:
        The folder.

    Raises:
        BundleError: The info is impossible.
        OutputError: The folder can not be written, or holds something else.
    """
    folder = Path(folder)
    info.check(CARD)
    if folder.exists() and not (folder.is_dir() and {p.name for p in folder.iterdir()} <= FILES):
        raise OutputError(f"{folder} holds something else than a bundle; name another folder")
    part, old = (folder.with_name(f".{folder.name}.{end}") for end in ("part", "old"))
    try:
        for left in (part, old):
            shutil.rmtree(left, ignore_errors=True)
        part.mkdir(parents=True)
        shutil.copyfile(model_path, part / MODEL)
        digest = hashlib.sha256((part / MODEL).read_bytes()).hexdigest()
        write_json(part / CARD, card_of(info, digest))
        if folder.exists():
            folder.rename(old)
        part.rename(folder)
    except OSError as error:
        shutil.rmtree(part, ignore_errors=True)
        if old.exists() and not folder.exists():
            old.rename(folder)
        raise OutputError(
            f"{folder}: the bundle can not be written ({error.strerror or error}); free some "
            "space, or name another place with --out"
        ) from error
    shutil.rmtree(old, ignore_errors=True)
    return folder


def _batches(images: Iterable[Image], size: int) -> Iterator[list[Image]]:
    """The images in lists of at most `size`."""
    source = iter(images)
    while some := list(islice(source, size)):
        yield some


def _refuse_external_data(path: Path, graph: bytes) -> None:
    """A graph may point at other files for its weights; a bundle's must not."""
    import onnx

    try:
        model = onnx.load_model_from_string(graph)
    except Exception as error:  # protobuf's own classes
        raise BundleError(f"{path} is no ONNX graph ({error}). {AGAIN}") from error
    if any(t.data_location == onnx.TensorProto.EXTERNAL for t in _tensors(model.graph)):
        raise BundleError(f"{path} keeps weights in other files, which is not allowed. {AGAIN}")
    if model.functions or any(o.domain not in ("", "ai.onnx") for o in model.opset_import):
        raise BundleError(f"{path} uses operators that are not standard ONNX. {AGAIN}")


def _tensors(graph: Any) -> Iterator[Any]:  # noqa: ANN401 - protobuf messages
    """Every constant of a graph, those inside of its nodes and their subgraphs included."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for attribute in (a for node in graph.node for a in node.attribute):
        yield from (attribute.t, *attribute.tensors)
        for inner in (attribute.g, *attribute.graphs):
            if inner.node or inner.initializer:
                yield from _tensors(inner)
