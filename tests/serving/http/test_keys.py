"""Who is let in."""

import pytest

from layerwise.errors import LayerwiseError
from layerwise.serving.http.keys import (
    Hosts,
    check_key,
    is_loopback,
    read_keys,
    refuse_open_door,
)
from layerwise.serving.http.problems import Problem

KEYS = (b"a" * 16, b"0123456789abcdef0123")


@pytest.mark.parametrize(
    ("headers", "right"),
    [
        ({b"authorization": b"Bearer " + KEYS[0]}, True),
        ({b"authorization": b"bearer  " + KEYS[1]}, True),
        ({b"x-api-key": KEYS[1]}, True),
        ({b"x-api-key": KEYS[0][:-1]}, False),
        ({b"x-api-key": KEYS[0] + b"a"}, False),
        ({b"x-api-key": b"\xff\xe9"}, False),
        ({b"authorization": b"Basic " + KEYS[0]}, False),
        ({b"authorization": KEYS[0]}, False),
        ({b"authorization": b"Bearer"}, False),
        ({}, False),
    ],
)
def test_keys(headers, right):
    check_key(headers, ())
    if right:
        check_key(headers, KEYS)
        return
    with pytest.raises(Problem) as refused:
        check_key(headers, KEYS)
    assert refused.value.status == 401
    assert refused.value.headers["WWW-Authenticate"].startswith("Bearer")
    assert not any(key.decode() in refused.value.detail for key in KEYS)


def test_keys_come_from_a_file_or_the_environment(tmp_path):
    file = tmp_path / "keys"
    file.write_text("# the page\n  aaaaaaaaaaaaaaaa  \n\n0123456789abcdef0123\n")
    assert read_keys(file, {}) == KEYS
    assert read_keys(None, {"LAYERWISE_API_KEY": "b" * 20}) == (b"b" * 20,)
    assert read_keys(None, {}) == read_keys(None, {"LAYERWISE_API_KEY": ""}) == ()


@pytest.mark.parametrize(
    ("content", "word"),
    [("", "no key"), ("# only this\n", "no key"), ("short", "16"), ("with a blank in it", "16")],
)
def test_what_is_no_key(tmp_path, content, word):
    file = tmp_path / "keys"
    file.write_text(content)
    with pytest.raises(LayerwiseError, match=word):
        read_keys(file, {})


def test_a_key_file_that_is_not_there(tmp_path):
    with pytest.raises(LayerwiseError, match="--key-file"):
        read_keys(tmp_path / "nothing", {})


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.0.7", False),
        ("example.org", False),
        ("", False),
    ],
)
def test_only_this_machine_is_let_in_without_a_key(host, loopback):
    assert is_loopback(host) == loopback
    refuse_open_door(host, KEYS)
    if loopback:
        refuse_open_door(host, ())
    else:
        with pytest.raises(LayerwiseError, match="LAYERWISE_API_KEY"):
            refuse_open_door(host, ())


@pytest.mark.parametrize(
    ("bound", "allowed", "host", "origin", "status"),
    [
        ("127.0.0.1", (), "127.0.0.1:8000", "", None),
        ("127.0.0.1", (), "localhost:8000", "http://localhost:8000", None),
        ("127.0.0.1", (), "[::1]:8000", "", None),
        ("127.0.0.1", (), "LOCALHOST", "", None),
        ("127.0.0.1", (), "evil.example:8000", "", 421),  # DNS rebinding
        ("127.0.0.1", (), "", "", 421),
        ("127.0.0.1", (), "127.0.0.1:8000", "http://evil.example", 403),
        ("127.0.0.1", (), "127.0.0.1:8000", "http://127.0.0.1:9000", 403),
        ("127.0.0.1", (), "127.0.0.1:8000", "null", 403),
        ("127.0.0.1", ("x.org",), "x.org", "https://x.org", None),
        ("127.0.0.1", ("x.org",), "127.0.0.1:8000", "https://x.org", None),  # Host not passed on
        ("0.0.0.0", (), "anything:1", "http://anything:1", None),
        ("0.0.0.0", (), "anything:1", "http://evil.example", 403),
        ("0.0.0.0", ("x.org",), "anything", "", 421),
        ("0.0.0.0", ("x.org",), "x.org:443", "", None),
    ],
)
def test_hosts_and_origins(bound, allowed, host, origin, status):
    headers = {b"host": host.encode()} | ({b"origin": origin.encode()} if origin else {})
    if status is None:
        Hosts(bound, allowed).check(headers)
        return
    with pytest.raises(Problem) as refused:
        Hosts(bound, allowed).check(headers)
    assert refused.value.status == status
