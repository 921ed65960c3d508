"""`/docs`: the OpenAPI description as one plain page, without a script and without another host."""

import base64
import hashlib
import json
from html import escape
from typing import Any

from layerwise.serving.http.problems import KINDS

STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 52rem; margin: 0 auto; padding: 1rem; }
code, pre { font-family: ui-monospace, monospace; font-size: .9em; }
pre { overflow-x: auto; padding: .75rem; border: 1px solid #8886; border-radius: .4rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .3rem .8rem .3rem 0; }
tr { border-bottom: 1px solid #8884; }
h2 { margin-top: 2.5rem; }
"""
_DIGEST = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
POLICY = (
    f"default-src 'none'; style-src 'sha256-{_DIGEST}'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
"""The page's Content-Security-Policy: nothing but its own style."""


def page(description: dict[str, Any]) -> str:
    """The page of an OpenAPI description.

    Args:
        description: As `/openapi.json` has it.
    """
    info = description["info"]
    parts = [
        f"<h1>{escape(info['title'])}</h1>",
        *(f"<p>{escape(text)}</p>" for text in info.get("description", "").split("\n\n")),
        '<p>For programs: <a href="openapi.json">openapi.json</a>.</p>',
    ]
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            parts += _operation(path, method, operation)
    parts += ["<h2>What is refused</h2>", _problems()]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{escape(info['title'])}</title><style>{STYLE}</style></head>"
        f"<body>{''.join(parts)}</body></html>"
    )


def _operation(path: str, method: str, operation: dict[str, Any]) -> list[str]:
    parts = [
        f'<h2 id="{escape(operation["operationId"])}"><code>{method.upper()} {escape(path)}</code>'
        f"</h2><p>{escape(operation.get('description') or operation['summary'])}</p>"
    ]
    rows = [
        (f"<code>{escape(p['name'])}</code>", escape(p.get("description", "")))
        for p in operation.get("parameters", [])
    ]
    if "requestBody" in operation:
        kinds = ", ".join(operation["requestBody"]["content"])
        rows.append(("body", f"<code>{escape(kinds)}</code>"))
    if rows:
        parts.append(_table(("Given", ""), rows))
    if "example" in operation.get("x-curl", {}):
        parts.append(f"<pre>{escape(operation['x-curl']['example'])}</pre>")
    answers = []
    for status, answer in operation["responses"].items():
        schema = answer.get("content", {}).get("application/json", {}).get("schema")
        shape = f"<pre>{escape(json.dumps(_shape(schema), indent=1))}</pre>" if schema else ""
        answers.append((status, escape(answer["description"]) + shape))
    return [*parts, _table(("Status", "Answer"), answers)]


def _shape(schema: dict[str, Any]) -> Any:  # noqa: ANN401 - JSON-able
    """A schema as an example of what fits it."""
    if "anyOf" in schema:
        return _shape(schema["anyOf"][0])
    if "enum" in schema:
        return " | ".join(schema["enum"])
    if schema.get("properties"):
        return {name: _shape(inner) for name, inner in schema["properties"].items()}
    if isinstance(schema.get("additionalProperties"), dict):
        return {"…": _shape(schema["additionalProperties"])}
    if schema.get("type") == "array":
        return [_shape(schema["items"])]
    examples = {"integer": 0, "number": 0.5, "string": "…", "object": {}}
    return examples.get(str(schema.get("type")))


def _problems() -> str:
    rows = [
        (str(status), f'<span id="{kind}"><code>{kind}</code></span>: {escape(title)}')
        for kind, (status, title) in sorted(KINDS.items(), key=lambda item: item[1])
    ]
    return _table(("Status", "Type and title"), rows)


def _table(head: tuple[str, str], rows: list[tuple[str, str]]) -> str:
    """Rows of HTML under two heads."""
    lines = "".join(f"<tr><td>{a}</td><td>{b}</td></tr>" for a, b in rows)
    return f"<table><tr><th>{head[0]}</th><th>{head[1]}</th></tr>{lines}</table>"
