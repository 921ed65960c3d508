"""What the server says of pictures and of its model, as JSON-able values."""

from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerwise.config import to_mapping
from layerwise.serving import model_card
from layerwise.serving.bundle import Bundle
from layerwise.serving.http.problems import Problem
from layerwise.serving.http.settings import Settings


def prediction(bundle: Bundle, name: str, scores: NDArray[np.float32]) -> dict[str, Any]:
    """What a bundle says of one picture.

    Args:
        bundle: The one that gave the scores.
        name: The file's name.
        scores: (1,) for binary, of the second label, or (K,).
    """
    labels, task = bundle.info.labels, bundle.info.task
    values = scores.astype(float)
    each = [1 - values[0], values[0]] if task == "binary" else list(values)
    decided = bundle.decide(scores[None])[0]
    decision: Any
    if task == "multilabel":
        decision = [label for label, yes in zip(labels, decided, strict=True) if yes]
    else:
        decision = labels[int(decided)]
    probabilities = {k: round(float(p), 6) for k, p in zip(labels, each, strict=True)}
    return {"name": name, "probabilities": probabilities, "decision": decision}


def refused(name: str, problem: Problem) -> dict[str, Any]:
    """A picture among several that can not be used."""
    content = problem.content()
    return {"name": name, "error": {key: content[key] for key in ("status", "title", "detail")}}


def header(bundle: Bundle) -> dict[str, Any]:
    """What every answer says of the model."""
    return {
        "model": {"name": bundle.info.name, "id": bundle.id},
        "labels": list(bundle.info.labels),
        "threshold": bundle.info.threshold,
    }


def model(bundle: Bundle, settings: Settings) -> dict[str, Any]:
    """All there is to say of the model, without paths of the machine it was trained on."""
    info = to_mapping(bundle.info)
    keys = ("name", "task", "labels", "threshold", "preprocessing", "scores", "provenance")
    said = {key: info[key] for key in (*keys, "explanation", "quantised")}
    limits = {
        "bytes": settings.max_bytes,
        "pixels": settings.max_pixels,
        "files": settings.max_files,
    }
    said |= {"id": bundle.id, "layerwise": bundle.version, "limits": limits}
    said |= {
        "intended_use": model_card.intended_use(bundle.info),
        "not_for": model_card.not_for(bundle.info),
        "limitations": model_card.limits(bundle.info),
    }
    return {key: _without_paths(value) for key, value in said.items()}


def _without_paths(value: Any) -> Any:  # noqa: ANN401 - any JSON-able value
    """The same, with the last part of every absolute path in its place."""
    if isinstance(value, dict):
        return {key: _without_paths(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_paths(inner) for inner in value]
    if isinstance(value, str):
        for kind in (PurePosixPath, PureWindowsPath):
            if kind(value).is_absolute() or (kind is PurePosixPath and value.startswith("~")):
                return kind(value).name
    return value
