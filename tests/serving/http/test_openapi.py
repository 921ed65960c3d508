"""The server does what its OpenAPI description says, whatever schemathesis thinks of."""

import json

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


def test_the_description(server):
    said = server.client.get("/openapi.json").json()
    assert set(said["paths"]) == {
        *("/v1/predict", "/v1/explain", "/v1/model", "/v1/statistics"),
        *("/healthz", "/readyz", "/metrics"),
    }
    assert "multipart/form-data" in said["paths"]["/v1/predict"]["post"]["requestBody"]["content"]
    assert "HTTPValidationError" not in json.dumps(said)


def attack(server, examples):
    description = server.client.get("/openapi.json").json()
    schema = schemathesis.openapi.from_dict(description)
    for found in schema.get_all_operations():
        operation = found.ok()

        @given(operation.as_strategy())
        @settings(
            max_examples=examples if operation.method == "post" else 3,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        def ask(case):
            case.validate_response(case.call(base_url=server.url), checks=CHECKS)

        ask()
    assert not server.events("defect")


def test_schemathesis(server):
    attack(server, 15)


@pytest.mark.slow
def test_schemathesis_at_length(server):
    attack(server, 1000)
