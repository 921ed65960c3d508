"""What OpenAPI says of bodies and answers: the contract of `/v1`, as JSON schemas."""

from typing import Any

from layerwise.serving.http.problems import KINDS, TYPE
from layerwise.serving.http.uploads import FIELD

Schema = dict[str, Any]


def _object(properties: Schema, optional: tuple[str, ...] = ()) -> Schema:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required}


_TEXT: Schema = {"type": "string"}
_TEXTS: Schema = {"type": "array", "items": _TEXT}
_PNG: Schema = {"type": "string", "contentEncoding": "base64", "contentMediaType": "image/png"}
_ERROR = _object({"status": {"type": "integer"}, "title": _TEXT, "detail": _TEXT})
_REFUSED = _object({"name": _TEXT, "error": _ERROR})
_SAID: Schema = {
    "name": {**_TEXT, "description": "The file's name, as it was sent."},
    "probabilities": {
        "type": "object",
        "additionalProperties": {"type": "number", "minimum": 0, "maximum": 1},
        "description": "By label.",
    },
    "decision": {
        "anyOf": [_TEXT, _TEXTS],
        "description": "At the threshold; of a model with several labels at once, a list.",
    },
}
_LOOKED: Schema = {
    **_SAID,
    "label": {**_TEXT, "description": "The label that is explained."},
    "cut": {"anyOf": [_TEXT, {"type": "null"}], "description": "The layer it is explained at."},
    "heat": {
        "anyOf": [_PNG, {"type": "null"}],
        "description": "Where the model looked: grey, of the network's picture size, to be laid "
        "over the whole picture (letterboxed, if preprocessing says so). Null: not explained.",
    },
    "picture": {**_PNG, "description": "The picture as it was decoded, grey or RGB."},
}
_THRESHOLD: Schema = {
    "anyOf": [
        {"type": "number"},
        {"type": "array", "items": {"type": "number"}},
        {"type": "null"},
    ]
}


def _answer(prediction: Schema) -> Schema:
    return _object(
        {
            "model": _object({"name": _TEXT, "id": _TEXT}),
            "labels": _TEXTS,
            "threshold": _THRESHOLD,
            "predictions": {
                "type": "array",
                "items": {"anyOf": [_object(prediction), _REFUSED]},
            },
        }
    )


PREDICTIONS = _answer(_SAID)
EXPLANATIONS = _answer(_LOOKED)
_ANY: Schema = {"type": "object"}
_MAYBE: Schema = {"anyOf": [_ANY, {"type": "null"}]}
MODEL = _object(
    {
        "name": _TEXT,
        "id": _TEXT,
        "layerwise": {**_TEXT, "description": "The version that wrote the bundle."},
        "task": {"enum": ["binary", "multiclass", "multilabel"]},
        "labels": _TEXTS,
        "threshold": _THRESHOLD,
        "preprocessing": _ANY,
        "scores": {**_ANY, "description": "On the test part, with 95% intervals."},
        "provenance": _ANY,
        "explanation": _MAYBE,
        "quantised": _MAYBE,
        "intended_use": _TEXTS,
        "not_for": _TEXTS,
        "limitations": _TEXTS,
        "limits": _object({name: {"type": "integer"} for name in ("bytes", "pixels", "files")}),
    }
)
PROBLEM = _object({"type": _TEXT, "title": _TEXT, "status": {"type": "integer"}, "detail": _TEXT})
_BINARY: Schema = {"type": "string", "format": "binary"}
BODY: Schema = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": _object({FIELD: {"type": "array", "minItems": 1, "items": _BINARY}})
        },
        "image/*": {"schema": _BINARY},
        "application/dicom": {"schema": _BINARY},
        "application/octet-stream": {"schema": _BINARY},
    },
}


def json_answer(schema: Schema, description: str) -> Schema:
    """An answer in JSON."""
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def problems(*kinds: str) -> dict[int | str, Schema]:
    """The refusals of these kinds, by status."""
    found: dict[int | str, Schema] = {}
    for kind in kinds:
        status, title = KINDS[kind]
        before = found.get(status, {}).get("description")
        found[status] = {
            "description": f"{before} {title}." if before else f"{title}.",
            "content": {TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
    return found
