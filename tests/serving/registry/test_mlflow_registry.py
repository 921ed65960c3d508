"""MLflow's registry over a database file of its own."""

import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from layerwise.errors import BundleError, RegistryError
from layerwise.serving.bundle import Bundle
from layerwise.serving.registry import mlflow_registry
from layerwise.serving.registry.registry import ChampionChanged, open_registry

WHY = {"reasons": ["because"]}


@pytest.mark.slow  # its database takes longer to make than all else
@pytest.mark.filterwarnings("default")
def test_promote_fetch_refuse_and_roll_back(tmp_path, make_bundle, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    monkeypatch.chdir(tmp_path)  # nothing may be written where we stand
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    address = f"mlflow:sqlite:///{tmp_path}/db/mlflow.db#chest"
    (tmp_path / "db").mkdir()
    with pytest.raises(RegistryError, match="no registry of Layerwise"):
        open_registry(address)
    registry = open_registry(address, new=True, cache=tmp_path / "cache")
    assert registry.champion() is None and registry.history() == []
    a, b = make_bundle("a", 8), make_bundle("b", 4)
    first, second = Bundle.load(a).id, Bundle.load(b).id
    registry.promote(a, WHY, None)
    registry.refuse(second, WHY, first)
    with pytest.raises(ChampionChanged):
        registry.promote(b, WHY, None)
    registry.promote(b, WHY, first)
    again = open_registry(address, cache=tmp_path / "cache")
    assert again.champion() == second
    assert again.rollback(None, WHY)["champion"] == first
    assert again.champion() == first
    assert [(e["number"], e["action"], e["champion"]) for e in again.history()] == [
        (1, "promote", first),
        (2, "refuse", first),
        (3, "promote", second),
        (4, "rollback", first),
    ]
    one, other = (open_registry(address, cache=tmp_path / name) for name in ("one", "other"))
    with ThreadPoolExecutor(2) as pool:  # at once, and both compared with the first
        tried = [pool.submit(r.promote, b, WHY, first) for r in (one, other)]
        failed = [type(one.exception()) for one in tried if one.exception()]
    assert failed == [ChampionChanged]
    assert again.champion() == second and [e["number"] for e in again.history()] == [1, 2, 3, 4, 5]
    client = mlflow.MlflowClient(again._client.tracking_uri)
    client.create_registered_model("chest_promoting", description="process 7 of a machine")
    monkeypatch.setattr(mlflow_registry, "PATIENCE", 0.1)
    with pytest.raises(RegistryError, match=r"chest_promoting \(process 7 of a machine\)"):
        again.rollback(None, WHY)
    assert again.champion() == second
    client.delete_registered_model("chest_promoting")
    assert again.rollback(None, WHY)["champion"] == first
    fetched = again.fetch(second)
    assert Bundle.load(fetched).id == second and fetched.is_relative_to(tmp_path / "cache")
    with pytest.raises(RegistryError, match="there is no bundle"):
        again.fetch("0" * 12)
    graph = (a / "model.onnx").read_bytes()
    (kept,) = [p for p in (tmp_path / "db").rglob("model.onnx") if p.read_bytes() == graph]
    kept.write_bytes(b"altered")
    with pytest.raises(BundleError, match="damaged"):
        open_registry(address, cache=tmp_path / "other").fetch(first)
    assert "mlruns" not in os.listdir(tmp_path)


def test_an_address_without_a_name_is_said(tmp_path):
    pytest.importorskip("mlflow")
    with pytest.raises(RegistryError, match="names no model"):
        open_registry("mlflow:sqlite:///x.db#")
