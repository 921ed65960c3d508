"""The server does what its OpenAPI description says, whatever schemathesis thinks of."""

import json
import os
import subprocess
import sys

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
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


def attack(server, examples, mode=GenerationMode.POSITIVE):
    description = server.client.get("/openapi.json").json()
    schema = schemathesis.openapi.from_dict(description)
    for found in schema.get_all_operations():
        operation = found.ok()
        if mode.is_negative and operation.method != "post":
            continue  # nothing can be wrong with a question without parameters

        @given(operation.as_strategy(generation_mode=mode))
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
@pytest.mark.parametrize("mode", GenerationMode)
def test_schemathesis_at_length(server, mode):
    """What follows the description, and what does not."""
    attack(server, 1000, mode)


@pytest.mark.slow
def test_schemathesis_as_its_users_run_it(server, tmp_path):
    """Its own command with all its checks but one: not every sequence of bytes is a picture."""
    code = "from schemathesis.cli import schemathesis; schemathesis()"
    words = ["run", f"{server.url}/openapi.json", "--max-examples", "200", "--seed", "1"]
    words += ["--exclude-checks", "positive_data_acceptance", "--phases"]
    words += ["examples,coverage,fuzzing", "--generation-database", "none"]
    before = len(server.events("request"))
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        cwd=tmp_path,
        env=os.environ | {"NO_COLOR": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-1000:]
    assert len(server.events("request")) > before + 400  # 200 for each of two routes
    assert not server.events("defect")
