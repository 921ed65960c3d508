"""Connections that are misused, or only used oddly: the server bears them, and lets go of them."""

import socket
import time

import numpy as np
import pytest

from layerwise.serving.http import server as process

BEGIN = b"POST /v1/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/png\r\n"
CHUNKED = BEGIN + b"Transfer-Encoding: chunked\r\n\r\n"


def connect(server):
    return socket.create_connection(("127.0.0.1", server.port), timeout=30)


def status(file):
    """The status of the next answer, which is read to its end."""
    found, length = int(file.readline().split()[1]), 0
    while (line := file.readline().lower()) != b"\r\n":
        if line.startswith(b"content-length:"):
            length = int(line.split(b":")[1])
    file.read(length)
    return found


def hung_up(connection):
    """Whether the server lets go; waits for it."""
    try:
        return connection.recv(1000) == b""
    except ConnectionResetError:
        return True


@pytest.mark.parametrize(
    ("begin", "more"),
    [
        (b"GET /healthz HTTP/1.1\r\n", b"X-Some: " + b"a" * 9990 + b"\r\n"),
        (b"GET /healthz HTTP/1.1\r\nX-One: ", b"a" * 10_000),
        (b"GET /", b"a" * 10_000),
        (CHUNKED + b"1\r\nx\r\n0\r\n", b"X-Some: " + b"a" * 9990 + b"\r\n"),
    ],
    ids=["headers", "one header", "path", "trailers"],
)
def test_what_is_no_body_and_has_no_end_is_not_taken(server, begin, more):
    sent = 0
    with connect(server) as connection:
        connection.sendall(begin)
        with pytest.raises(OSError):
            while sent < 200_000_000:
                connection.sendall(more)
                sent += len(more)
    assert sent < 50_000_000  # the rest of it lay in the system's buffers
    assert server.client.get("/healthz").status_code == 200


def test_a_long_head_and_a_body_in_crumbs_are_taken(server, serving):
    long = server.client.get("/healthz", headers={"X-Cookie": "a" * 30_000})
    assert long.status_code == 200
    content = serving.encode(np.random.default_rng(0).integers(0, 256, (150, 150)))
    crumbs = b"".join(b"1\r\n%c\r\n" % byte for byte in content)
    assert len(crumbs) > 2 * process.MOST_HEAD
    with connect(server) as connection, connection.makefile("rb") as file:
        connection.sendall(CHUNKED + crumbs + b"0\r\n\r\n")
        assert status(file) == 200


def test_after_a_refused_upload_has_passed_by_the_connection_is_used_again(server):
    with connect(server) as connection, connection.makefile("rb") as file:
        for _ in range(2):
            connection.sendall(BEGIN + b"Content-Length: 400000\r\n\r\n")
            assert status(file) == 413
            connection.sendall(bytes(400_000) + b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert status(file) == 200


def test_requests_sent_at_once_are_answered_in_turn(server, serving):
    picture = serving.png(100)
    ask = BEGIN + b"Content-Length: %d\r\n\r\n" % len(picture) + picture
    other = b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with connect(server) as connection, connection.makefile("rb") as file:
        connection.sendall((ask + other) * 5)
        assert [status(file) for _ in range(10)] == [200, 404] * 5


@pytest.mark.parametrize(
    "sent",
    [b"", b"GET /heal", BEGIN + b"Content-Length: 400000\r\n\r\n" + bytes(1000)],
    ids=["nothing", "half a head", "a refused upload"],
)
def test_clients_that_never_go_on_are_let_go(monkeypatch, bundle, serving, sent):
    monkeypatch.setattr(process, "PATIENCE", 0.1)
    with serving.running(bundle, max_bytes=300_000) as server, connect(server) as connection:
        connection.sendall(sent)
        if b"400000" in sent:
            assert connection.recv(9000).startswith(b"HTTP/1.1 413")
        assert hung_up(connection)


def test_a_slow_upload_is_not_hung_up_on(monkeypatch, bundle, serving):
    monkeypatch.setattr(process, "PATIENCE", 0.01)
    picture = serving.png(100)
    with serving.running(bundle) as server, connect(server) as connection:
        for _ in range(2):
            connection.sendall(BEGIN + b"Content-Length: %d\r\n\r\n" % len(picture))
            time.sleep(0.1)
            connection.sendall(picture)
            with connection.makefile("rb") as file:
                assert status(file) == 200
