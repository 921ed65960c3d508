"""A bundle: a folder with all that is needed to predict and to explain. No torch here.

Loading one runs no code of its own: graphs of standard operators and a JSON file, all verified.
"""

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerwise.config import write_json
from layerwise.data.pictures.images import prepare
from layerwise.errors import BundleError, OutputError
from layerwise.evaluation.operating import decide
from layerwise.models.onnx_session import Session, open_graph
from layerwise.serving.card import (
    ACTIVATION,
    AGAIN,
    CARD,
    EXPLAIN,
    HEAT,
    LABEL,
    MODEL,
    OUTPUT,
    README,
    BundleInfo,
    File,
    Preprocessing,
    card_of,
)
from layerwise.serving.model_card import model_card
from layerwise.serving.verify import verify

__all__ = [
    "ACTIVATION",
    "CARD",
    "EXPLAIN",
    "HEAT",
    "LABEL",
    "MODEL",
    "OUTPUT",
    "Bundle",
    "BundleInfo",
    "Preprocessing",
    "write_bundle",
]

EDGE = 1e-4
"""By which a probability may miss 0 and 1: what exporting may change."""

Image = str | Path | bytes | NDArray[np.uint8]


class Bundle:
    """A bundle ready to predict.

    Attributes:
        info: Labels, preprocessing, threshold, provenance, scores.
        id: The first 12 hexadecimal digits of the sha256 of `bundle.json`, which has the digests
            of all other files: it names the whole bundle.
        sha256: The digest of the graph.
        version: The version of Layerwise that wrote it.
    """

    def __init__(
        self,
        info: BundleInfo,
        session: Session,
        sha256: str,
        version: str,
        id: str,
        explainer: Any = None,  # noqa: ANN401 - a session of ONNX Runtime, which has no types
    ) -> None:
        """Use `Bundle.load`."""
        self.info, self.sha256, self.version, self.id = info, sha256, version, id
        self._session, self._explainer = session, explainer

    @classmethod
    def load(cls, folder: str | Path, threads: int | None = None) -> "Bundle":
        """Read a bundle and check everything in it.

        Args:
            folder: The folder with `model.onnx` and `bundle.json`.
            threads: Threads of ONNX Runtime; None leaves the number to it.

        Raises:
            BundleError: A file is missing, damaged or hostile, or they do not belong together.
        """
        folder = Path(folder)
        found = verify(folder)
        explainer = None
        try:
            session = Session(found.graphs[MODEL], threads, shares=True)
            if EXPLAIN in found.graphs:
                explainer = open_graph(found.graphs[EXPLAIN], threads, shares=True)
        except ValueError as error:
            raise BundleError(f"{folder}: {error}. {AGAIN}") from error
        digest = found.files[MODEL].sha256
        bundle = cls(found.info, session, digest, found.version, found.id, explainer)
        bundle._try(folder)
        return bundle

    def _try(self, folder: Path) -> None:
        """What the graphs say of a blank picture must be probabilities and heat."""
        how = self.info.preprocessing
        blank = np.zeros((1, *how.size, how.channels), np.uint8)
        try:
            scores = self.run(blank)
            said = [scores, *(self.explain(blank, np.zeros(1, np.int64)) if self.explains else ())]
        except Exception as error:  # of ONNX Runtime, whose classes share no public root
            raise BundleError(f"{folder} fails on a blank picture: {error}. {AGAIN}") from error
        if not all(((values >= -EDGE) & (values <= 1 + EDGE)).all() for values in said):  # no NaN
            raise BundleError(
                f"{folder}: for a blank picture it gives {scores[0].tolist()[:8]}, which are no "
                f"probabilities, or no heat from 0 to 1. {AGAIN}"
            )

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
        (scores,) = self._session.run(pixels, [OUTPUT])
        if scores.shape != (len(pixels), self.info.outputs):
            raise BundleError(
                f"the graph gave {scores.shape} for {len(pixels)} images and "
                f"{self.info.outputs} outputs. {AGAIN}"
            )
        return scores

    @property
    def explains(self) -> bool:
        """Whether the bundle can say where in a picture it looked."""
        return self._explainer is not None

    def explain(
        self, pixels: NDArray[np.uint8], labels: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Probabilities of prepared pictures, and where Grad-CAM sees the reason for a label.

        Args:
            pixels: uint8 (N, H, W, C) from `prepare`.
            labels: int64 (N,), the number of the label to explain in each picture.

        Returns:
            float32 (N, 1 | K) as `run` gives it, and heat float32 (N, H, W), 0 to 1.

        Raises:
            BundleError: The bundle does not explain.
        """
        if self._explainer is None:
            about = self.info.explanation or {}
            raise BundleError(
                f"this bundle can not explain its answers: {about.get('why') or 'it carries none'}."
                " Fit again with this version of Layerwise, or predict only"
            )
        numbers = np.asarray(labels, np.int64)
        if (
            numbers.shape != (len(pixels),)
            or not ((numbers >= 0) & (numbers < len(self.info.labels))).all()
        ):
            raise BundleError(
                f"one label a picture is explained, 0 to {len(self.info.labels) - 1}; these are "
                f"{numbers.tolist()[:8]} for {len(pixels)} pictures"
            )
        scores, activation = self._session.run(pixels, [OUTPUT, ACTIVATION])
        (heat,) = self._explainer.run([HEAT], {ACTIVATION: activation, LABEL: numbers})
        return scores, heat

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
        return decide(self.info.task, scores, self.info.threshold)


def write_bundle(
    folder: str | Path,
    model_path: str | Path,
    info: BundleInfo,
    files: Mapping[str, bytes | Path] | None = None,
) -> Path:
    """Write a bundle whole or not at all; one that stands there is replaced.

    Args:
        folder: The bundle's folder; its parents are made.
        model_path: The graph to copy into it.
        info: What else belongs to it, the model card included; no time and no path, so equal runs
            give equal bytes.
        files: Others that belong to it by name, `explain.onnx` for one: their bytes, or a file to
            copy.

    Returns:
        The folder.

    Raises:
        BundleError: The info is impossible, or what was written does not verify.
        OutputError: The folder can not be written, or holds something else.
    """
    folder = Path(folder)
    info.check(CARD)
    if folder.exists() and not (folder.is_dir() and _only_a_bundle(folder)):
        raise OutputError(f"{folder} holds something else than a bundle; name another folder")
    part, old = (folder.with_name(f".{folder.name}.{end}") for end in ("part", "old"))
    try:
        for left in (part, old):
            shutil.rmtree(left, ignore_errors=True)
        part.mkdir(parents=True)
        listed = {
            name: _put(part / name, content)
            for name, content in {
                MODEL: Path(model_path),
                README: model_card(info).encode(),
                **(files or {}),
            }.items()
        }
        write_json(part / CARD, card_of(info, listed))
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


def _put(path: Path, content: bytes | Path) -> File:
    """Write one file of a bundle, and what the card says of it."""
    if isinstance(content, Path):
        shutil.copyfile(content, path)
    else:
        path.write_bytes(content)
    with path.open("rb") as file:
        return File(hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_size)


def _only_a_bundle(folder: Path) -> bool:
    """Whether nothing would be lost with a folder but a bundle."""
    there = {path.name for path in folder.iterdir()}
    try:
        listed = set(json.loads((folder / CARD).read_bytes())["files"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        listed = set()  # format 1 lists none
    return there <= {CARD, MODEL} | listed


def _batches(images: Iterable[Image], size: int) -> Iterator[list[Image]]:
    """The images in lists of at most `size`."""
    source = iter(images)
    while some := list(islice(source, size)):
        yield some
