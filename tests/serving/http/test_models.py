"""The champion changes while requests are under way."""

import shutil
import threading
import time

import httpx
import pytest

from layerwise.errors import BundleError, LayerwiseError, RegistryError
from layerwise.serving.bundle import Bundle
from layerwise.serving.http import models
from layerwise.serving.http.logs import Log
from layerwise.serving.http.settings import Settings
from layerwise.serving.registry.registry import open_registry

POLL = 0.02


def until(true):
    """Wait for something that is bound to happen."""
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_no_request_is_lost_when_the_champion_changes(tmp_path, serving):
    """Every answer is right for the model that it names, before, during and after."""
    slopes = {"first": 8.0, "second": -8.0, "third": 3.0}
    folders = {name: serving.write(tmp_path / name, slope) for name, slope in slopes.items()}
    ids = {Bundle.load(folder).id: name for name, folder in folders.items()}
    registry = open_registry(tmp_path / "registry", new=True)
    names = {name: id for id, name in ids.items()}
    registry.promote(folders["first"], {}, None)
    answers, enough = [], threading.Event()

    def ask(server, seed):
        with httpx.Client(base_url=server.url, timeout=30) as client:
            grey = seed
            while not enough.is_set():
                grey = (grey * 7 + 13) % 256
                files = [("files", (str(grey), serving.png(grey)))]
                answers.append((grey, client.post("/v1/predict", files=files)))

    with serving.running(tmp_path / "registry", poll=POLL) as server:
        threads = [threading.Thread(target=ask, args=(server, n)) for n in range(4)]
        for thread in threads:
            thread.start()
        for before, name in (("first", "second"), ("second", "third")):
            until(lambda: sum(r.json()["model"]["name"] == before for _, r in answers) > 10)  # noqa: B023
            registry.promote(folders[name], {}, names[before])
        until(lambda: sum(r.json()["model"]["name"] == "third" for _, r in answers) > 10)
        enough.set()
        for thread in threads:
            thread.join()
        assert server.client.get("/readyz").json()["model"] == names["third"]
        metrics = server.client.get("/metrics").text
        assert 'layerwise_reloads_total{result="done"} 2.0' in metrics
        assert [e["previous"] for e in server.events("reloaded")] == [
            names["first"],
            names["second"],
        ]
    for grey, answer in answers:
        assert answer.status_code == 200
        said = answer.json()
        name = ids[said["model"]["id"]]
        wanted = serving.probability(grey, slopes[name])
        [found] = said["predictions"]
        assert found["probabilities"]["PNEUMONIA"] == pytest.approx(wanted, abs=2e-6)


class Source:
    """A registry whose champion is set by hand."""

    def __init__(self, folder):
        self.folders = {Bundle.load(folder).id: folder}
        self.now = next(iter(self.folders))
        self.asked = 0

    def champion(self):
        self.asked += 1
        if isinstance(self.now, Exception):
            raise self.now
        return self.now

    def fetch(self, bundle):
        return self.folders[bundle]


def test_what_goes_wrong_leaves_the_old_model(tmp_path, serving, bundle, monkeypatch):
    source = Source(bundle)
    monkeypatch.setattr(models, "open_source", lambda where: source)
    damaged = tmp_path / "damaged"
    shutil.copytree(serving.write(tmp_path / "good", 3.0), damaged)
    (damaged / "model.onnx").write_bytes(b"not what it was")
    better = Bundle.load(tmp_path / "good").id
    first = source.now
    with serving.running("registry", poll=POLL) as server:

        def still_right():
            [found] = server.post("/v1/predict", serving.png(100)).json()["predictions"]
            assert found["probabilities"]["PNEUMONIA"] == pytest.approx(
                serving.probability(100), abs=2e-6
            )

        source.now = RegistryError("registry.json: can not be read; check the disk")
        until(lambda: server.events("reload failed"))
        still_right()
        source.folders["d" * 12] = damaged
        source.now = "d" * 12
        until(lambda: server.events("reload failed")[-1]["bundle"] == "d" * 12)
        still_right()
        asked, tried = source.asked, len(server.events("reload failed"))
        until(lambda: source.asked > asked + 5)
        assert len(server.events("reload failed")) == tried  # not again at every look
        source.now = None  # as after the registry was emptied
        asked = source.asked
        until(lambda: source.asked > asked + 1)
        still_right()
        source.folders[better], source.now = tmp_path / "good", better
        until(lambda: server.client.get("/readyz").json()["model"] == better)
        failed = [e for e in server.events("reload failed") if e["bundle"] == "d" * 12]
        assert failed[0]["model"] == first and "model.onnx" in failed[0]["error"]
        assert 'layerwise_reloads_total{result="done"} 1.0' in server.client.get("/metrics").text


def test_a_registry_without_a_champion(monkeypatch, bundle):
    source = Source(bundle)
    source.now = None
    monkeypatch.setattr(models, "open_source", lambda where: source)
    with pytest.raises(LayerwiseError, match="layerwise promote"):
        models.Models("somewhere", Settings(), Log(print))


def test_a_damaged_bundle_is_not_served(tmp_path, serving):
    folder = serving.write(tmp_path / "bundle")
    (folder / "model.onnx").write_bytes(b"")
    with pytest.raises(BundleError, match="model.onnx"):
        models.Models(str(folder), Settings(), Log(print))
