"""`layerwise serve` where it must not start; that it serves is tests/serving/http's."""

import socket
import sys

import pytest

from layerwise.cli.main import main


@pytest.fixture
def bundle(tmp_path):
    """A folder that is never looked into: what is wrong is told before."""
    return tmp_path


def refused(capsys, *words):
    assert main(["serve", *map(str, words)]) == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said and said.count("\n") == 1
    return said


def test_a_port_in_use(bundle, capsys):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        said = refused(capsys, bundle, "--port", port)
    assert f"port {port} of 127.0.0.1 is in use" in said and "--port" in said


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_an_open_door(bundle, capsys, host, monkeypatch):
    monkeypatch.delenv("LAYERWISE_API_KEY", raising=False)
    said = refused(capsys, bundle, "--host", host)
    assert "without a key" in said and "LAYERWISE_API_KEY" in said


def test_an_address_of_another_machine(bundle, capsys, monkeypatch):
    monkeypatch.setenv("LAYERWISE_API_KEY", "k" * 20)
    said = refused(capsys, bundle, "--host", "192.0.2.1", "--port", "0")  # RFC 5737
    assert "--host 192.0.2.1" in said and "kkkk" not in said


def test_a_key_that_is_too_short(bundle, capsys, monkeypatch):
    monkeypatch.setenv("LAYERWISE_API_KEY", "secret")
    assert "16" in refused(capsys, bundle)
    assert "--key-file" in refused(capsys, bundle, "--key-file", bundle / "nothing")


def test_no_bundle(tmp_path, capsys):
    for place in (tmp_path, tmp_path / "nothing"):
        assert str(place) in refused(capsys, place, "--port", "0")


def test_without_the_extra(bundle, capsys, monkeypatch):
    for name in [n for n in sys.modules if n.startswith("layerwise.serving.http")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    assert "pip install 'layerwise[serve]'" in refused(capsys, bundle)
