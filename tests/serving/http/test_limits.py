"""Too much, too slow, too many: what the server does then, and that it is well afterwards."""

import json
import socket
import threading

import pytest

from layerwise.serving.bundle import Bundle
from layerwise.serving.http import decoding


def talk(server, *pieces, until_refused=False):
    """Send pieces over a socket of its own; the status, the problem and how much was sent."""
    sent = 0
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        for piece in pieces:
            connection.sendall(piece)
            sent += len(piece)
            if until_refused:
                connection.settimeout(0)
                try:
                    if connection.recv(1, socket.MSG_PEEK):
                        break
                except BlockingIOError:
                    pass
                finally:
                    connection.settimeout(30)
        file = connection.makefile("rb")
        status = int(file.readline().split()[1])
        headers = {}
        while (line := file.readline()) != b"\r\n":
            name, _, value = line.decode().partition(":")
            headers[name.lower()] = value.strip()
        return status, json.loads(file.read(int(headers["content-length"]))), sent


def request(*lines):
    given = ["POST /v1/predict HTTP/1.1", "Host: 127.0.0.1", "Content-Type: image/png", *lines]
    return ("\r\n".join(given) + "\r\n\r\n").encode()


def test_a_gigabyte_is_refused_before_it_comes(server):
    status, problem, _ = talk(server, request("Content-Length: 1000000000"))
    assert status == 413 and "0.3 megabytes" in problem["detail"]


def test_a_gigabyte_of_unknown_length_is_refused_early(server):
    chunk = b"10000\r\n" + bytes(65536) + b"\r\n"
    pieces = (request("Transfer-Encoding: chunked"), *([chunk] * 16_000))
    status, problem, sent = talk(server, *pieces, until_refused=True)
    assert status == 413 and "0.3 megabytes" in problem["detail"]
    assert sent < 100_000_000  # the rest was never sent
    assert server.service.admission.held == 0


def test_a_slow_upload(bundle, serving):
    with serving.running(bundle, timeout=0.1) as slow:
        status, problem, _ = talk(slow, request("Content-Length: 1000"), b"\x89PNG")
        assert status == 408 and "0.1 s" in problem["detail"]
        assert slow.service.admission.pictures == 0
        assert slow.post("/v1/predict", serving.png(1)).status_code == 200


def test_a_client_that_leaves_gives_its_place_back(server, serving):
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(request("Content-Length: 1000") + b"half")
    while server.service.admission.pictures:
        pass
    assert server.post("/v1/predict", serving.png(1)).status_code == 200


def test_a_picture_that_takes_too_long(bundle, serving, monkeypatch):
    go, plain = threading.Event(), decoding.prepare

    def slow(*given):
        assert go.wait(30)
        return plain(*given)

    with serving.running(bundle, timeout=0.1) as server:
        monkeypatch.setattr(decoding, "prepare", slow)
        answer = server.post("/v1/predict", serving.png(1))
        assert answer.status_code == 503 and answer.headers["Retry-After"] == "1"
        assert "too long" in answer.json()["detail"]
        go.set()
        assert server.post("/v1/predict", serving.png(1)).status_code == 200
        assert server.service.admission.pictures == 0


def test_a_full_queue(bundle, serving, monkeypatch):
    go, plain = threading.Event(), Bundle.run

    def slow(self, pixels):
        assert go.wait(30)
        return plain(self, pixels)

    with serving.running(bundle, queue=3, max_files=3) as server:
        monkeypatch.setattr(Bundle, "run", slow)
        answers = []
        threads = [
            threading.Thread(
                target=lambda some: answers.append(server.post("/v1/predict", *some)),
                args=([serving.png(100)] * count,),
            )
            for count in (1, 2)
        ]
        for thread in threads:
            thread.start()
        while server.service.admission.pictures < 3:
            pass
        refused = server.post("/v1/predict", serving.png(1))
        assert refused.status_code == 429 and refused.headers["Retry-After"] == "1"
        assert "try again in 1 s" in refused.json()["detail"]
        assert server.client.get("/healthz").status_code == 200  # it is only busy
        go.set()
        for thread in threads:
            thread.join()
        assert [answer.status_code for answer in answers] == [200, 200]
        assert server.post("/v1/predict", serving.png(1)).status_code == 200


def test_one_defect_does_not_end_it(bundle, serving, monkeypatch):
    """What nobody has thought of is a 500 without a word of what the file said."""
    with serving.running(bundle) as server:
        with monkeypatch.context() as patched:

            def broken(*given):
                raise RuntimeError("Secret^Person")

            patched.setattr(decoding, "prepare", broken)
            answer = server.post("/v1/predict", serving.png(1))
        assert answer.status_code == 500 and answer.json()["type"] == "/docs#defect"
        assert server.post("/v1/predict", serving.png(1)).status_code == 200
        [defect] = server.events("defect")
        assert defect["error"] == "RuntimeError" and "broken" in defect["places"][-1]
        assert "Secret" not in "".join(server.lines) + answer.text


def test_when_it_stops_it_says_so(bundle, serving):
    with serving.running(bundle) as server:
        server.service.draining = True
        ready = server.client.get("/readyz")
        assert ready.status_code == 503 and ready.headers["Connection"] == "close"
        assert server.post("/v1/predict", serving.png(1)).status_code == 200


@pytest.mark.parametrize("content", [b"nonsense\r\n\r\n", b"GET nowhere", b"\0" * 99])
def test_what_is_no_http(server, content):
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(content + b"\r\n\r\n")
        assert connection.recv(99).startswith(b"HTTP/1.1 400")
    assert server.client.get("/healthz").status_code == 200
