"""After the switch: a command without a shell, and a server that has to show the new bundle."""

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from layerwise.errors import LayerwiseError
from layerwise.serving.pipeline import deploy as module
from layerwise.serving.pipeline.deploy import run_command, wait_for

VALUES = {"id": "0123456789ab", "bundle": "/some where/b", "registry": "s3://r; touch x"}


def program(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_words_and_environment_reach_the_program_as_they_are(tmp_path):
    """No shell: neither spaces nor ; nor $ mean anything, and unknown braces stay."""
    code = "import json, os, sys; json.dump([sys.argv[1:], dict(os.environ)], open('said', 'w'))"
    code = code.replace("'said'", repr(str(tmp_path / "said")))
    run_command([*program(code), "{id}", "at {bundle}", "{registry}", "$HOME", "{x}"], VALUES, 60)
    words, environment = json.loads((tmp_path / "said").read_text())
    assert words == ["0123456789ab", "at /some where/b", "s3://r; touch x", "$HOME", "{x}"]
    assert environment["LAYERWISE_ID"] == "0123456789ab"
    assert environment["LAYERWISE_REGISTRY"] == "s3://r; touch x"


def test_what_the_program_prints_is_kept_from_standard_output(capfd):
    run_command(program("print('hello')"), VALUES, 60)
    said = capfd.readouterr()
    assert said.out == "" and "hello" in said.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (program("raise SystemExit(4)"), "ended with 4"),
        (["/no/such/program"], "can not be started"),
        (program("import time; time.sleep(60)"), "was not done after 0.2 s and was killed"),
    ],
)
def test_a_command_that_fails_says_how(words, message):
    with pytest.raises(LayerwiseError, match=message):
        run_command(words, VALUES, 0.2 if "sleep" in words[-1] else 60)


class Server:
    """Answers requests with what a list says, the last one for ever; keeps what was asked."""

    def __init__(self, *answers):
        self.asked = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):  # noqa: N802
                outer.asked.append((self.path, self.headers.get("X-API-Key")))
                status, content, *headers = answers[min(len(outer.asked), len(answers)) - 1]
                self.send_response(status)
                for name, value in headers:
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *args):
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, args=[0.01], daemon=True).start()
        return self

    def __exit__(self, *error):
        self.server.shutdown()
        self.server.server_close()


def shows(bundle):
    return 200, json.dumps({"name": "xrays", "id": bundle}).encode()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(module, "PAUSE", 0.001)


def test_it_waits_through_everything_a_restarting_server_says():
    answers = [(503, b""), (200, b"not whole"), (200, b"[]"), shows("old"), shows("new")]
    with Server(*answers) as server:
        wait_for(server.url + "/", "new", 60, "key of the server")
    assert server.asked == [("/v1/model", "key of the server")] * 5


def test_another_bundle_or_no_answer_is_an_error_in_the_end():
    with Server(shows("old")) as server:
        with pytest.raises(LayerwiseError, match="the server shows bundle old after"):
            wait_for(server.url, "new", 0.05)
    with pytest.raises(LayerwiseError, match="the server does not answer after"):
        wait_for(server.url, "new", 0.05)  # its port is closed now


def test_a_wrong_key_or_path_is_said_at_once():
    for status in (401, 404):
        with Server((status, b"")) as server:
            with pytest.raises(LayerwiseError, match=f"answers {status}.*key_env"):
                wait_for(server.url, "new", 60)
        assert len(server.asked) == 1


def test_the_key_is_not_sent_elsewhere():
    with Server(shows("new")) as other:
        answer = (302, b"", ("Location", f"{other.url}/v1/model"))
        with Server(answer) as server, pytest.raises(LayerwiseError, match="answers 302"):
            wait_for(server.url, "new", 60, "secret")
    assert other.asked == []
