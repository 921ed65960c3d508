"""The registry: what is champion, what was, and what an interruption or a hand leaves of it."""

import hashlib
import json
import shutil
import subprocess
import sys
import textwrap
import threading

import fsspec
import pytest

from layerwise.errors import BundleError, RegistryError
from layerwise.serving.bundle import Bundle
from layerwise.serving.registry import places
from layerwise.serving.registry.registry import (
    ChampionChanged,
    is_registry,
    lineage,
    open_registry,
    promoted,
)

WHY = {"reasons": ["because"]}


def id_of(folder):
    return hashlib.sha256((folder / "bundle.json").read_bytes()).hexdigest()[:12]


@pytest.fixture(params=["folder", "memory"])
def place(request, tmp_path):
    """Both kinds of place behave alike."""
    if request.param == "folder":
        yield str(tmp_path / "registry")
    else:
        yield f"memory://registry-of-{tmp_path.name}"
        fsspec.filesystem("memory").rm(f"/registry-of-{tmp_path.name}", recursive=True)


@pytest.fixture
def registry(place, tmp_path):
    found = open_registry(place, new=True, cache=tmp_path / "cache")
    found.refuse("0" * 12, WHY, None)  # a first bundle below its floors
    return found


def fill(registry, *folders):
    """Promote these in turn; their ids."""
    for folder in folders:
        registry.promote(folder, WHY, registry.champion())
    return [id_of(folder) for folder in folders]


def test_promote_fetch_and_history(registry, place, make_bundle, tmp_path):
    a, b = make_bundle("a", 8), make_bundle("b", 4)
    first, second = fill(registry, a, b)
    assert registry.champion() == second
    again = open_registry(place, cache=tmp_path / "cache")
    assert again.champion() == second
    assert [(e["number"], e["action"], e["previous"], e["champion"]) for e in again.history()] == [
        (1, "refuse", None, None),
        (2, "promote", None, first),
        (3, "promote", first, second),
    ]
    for folder, name in ((a, first), (b, second)):
        fetched = again.fetch(name)
        assert Bundle.load(fetched).id == name
        assert {p.name: p.read_bytes() for p in fetched.iterdir()} == {
            p.name: p.read_bytes() for p in folder.iterdir()
        }
    decision = json.loads(registry._place.read("decisions/0003.json"))
    assert decision["reasons"] == ["because"] and decision["previous"] == first
    assert is_registry(place)


def test_promoting_needs_the_champion_it_was_compared_with(registry, make_bundle):
    (first,) = fill(registry, make_bundle("a", 8))
    before = registry._place.read("registry.json")
    with pytest.raises(ChampionChanged, match=f"now {first}, not None"):
        registry.promote(make_bundle("b", 4), WHY, None)
    with pytest.raises(ChampionChanged):
        registry.refuse("1" * 12, WHY, None)
    assert registry._place.read("registry.json") == before


def test_rollback_goes_back_step_by_step_and_forward_by_name(registry, make_bundle):
    a, b, c = fill(registry, make_bundle("a", 8), make_bundle("b", 4), make_bundle("c", 2))
    assert registry.rollback(None, WHY)["champion"] == b
    assert registry.rollback(None, WHY)["champion"] == a
    with pytest.raises(RegistryError, match=f"nothing to go back to, {a} is its first"):
        registry.rollback(None, WHY)
    assert registry.rollback(c[:6], WHY)["previous"] == a
    assert registry.champion() == c
    assert registry.rollback(None, WHY)["champion"] == a  # what it was before
    with pytest.raises(RegistryError, match="is the champion already"):
        registry.rollback(a, WHY)
    with pytest.raises(RegistryError, match=f"no bundle that was ever champion.*{a}, {b}, {c}"):
        registry.rollback("0" * 12, WHY)  # that one was refused


def test_lineage_and_what_is_kept_are_read_from_the_history():
    def entry(action, bundle):
        return {"action": action, "bundle": bundle}

    history = [entry("promote", n) for n in "abc"]
    history += [entry("refuse", "x"), entry("rollback", "a"), entry("promote", "d")]
    assert lineage(history) == ["a", "d"]
    assert promoted(history) == ["a", "b", "c", "d"]
    assert lineage([*history, entry("rollback", "b")]) == ["a", "d", "b"]


def test_an_altered_bundle_is_neither_fetched_nor_gone_back_to(tmp_path, make_bundle):
    registry = open_registry(tmp_path / "registry", new=True)
    a, _ = fill(registry, make_bundle("a", 8), make_bundle("b", 4))
    kept = tmp_path / "registry" / "bundles" / a
    graph = (kept / "model.onnx").read_bytes()
    (kept / "model.onnx").write_bytes(graph[:-1] + bytes([graph[-1] ^ 1]))
    for use in (lambda: registry.fetch(a), lambda: registry.rollback(None, WHY)):
        with pytest.raises(BundleError, match="sha256 differs"):
            use()
    # A whole bundle of another digest in its place is no better.
    shutil.rmtree(kept)
    shutil.copytree(make_bundle("other", 1), kept)
    with pytest.raises(BundleError, match=f"not that of bundle {a}"):
        registry.fetch(a)
    # Promoted again it is mended.
    registry.promote(make_bundle("a", 8), WHY, registry.champion())
    assert Bundle.load(registry.fetch(a)).id == a


def test_an_altered_object_is_not_fetched_and_a_damaged_cache_is_mended(tmp_path, make_bundle):
    files = fsspec.filesystem("memory")
    registry = open_registry("memory://altered", new=True, cache=tmp_path / "cache")
    (a,) = fill(registry, make_bundle("a", 8))
    cached = registry.fetch(a)
    (cached / "model.onnx").write_bytes(b"damaged")
    assert Bundle.load(registry.fetch(a)).id == a
    shutil.rmtree(tmp_path / "cache")
    files.pipe_file(f"/altered/bundles/{a}/model.onnx", b"damaged")
    with pytest.raises(BundleError, match="damaged"):
        registry.fetch(a)
    assert list((tmp_path / "cache" / "bundles").iterdir()) == []  # nothing half is left
    files.rm_file(f"/altered/bundles/{a}/bundle.json")
    with pytest.raises(BundleError, match="is missing"):
        registry.fetch(a)
    files.rm("/altered", recursive=True)


def test_a_lock_that_is_held_is_waited_for_and_then_named(tmp_path, make_bundle, monkeypatch):
    files = fsspec.filesystem("memory")
    monkeypatch.setattr(places, "PATIENCE", 0.0)
    registry = open_registry("memory://locked", new=True, cache=tmp_path / "cache")
    files.pipe_file("/locked/lock", b'{"host": "elsewhere"}')
    with pytest.raises(RegistryError, match="elsewhere.*remove this object"):
        registry.promote(make_bundle("a", 8), WHY, None)
    assert not is_registry("memory://locked")
    files.rm_file("/locked/lock")
    fill(registry, make_bundle("a", 8))
    assert not files.exists("/locked/lock")
    files.rm("/locked", recursive=True)


def test_of_promotions_at_once_one_succeeds(place, tmp_path, make_bundle):
    registry = open_registry(place, new=True, cache=tmp_path / "cache")
    folders = [make_bundle(f"b{k}", 1 + k) for k in range(4)]
    ends = []

    def promote(folder):
        try:
            ends.append(registry.promote(folder, WHY, None)["bundle"])
        except ChampionChanged:
            ends.append(None)

    threads = [threading.Thread(target=promote, args=(folder,)) for folder in folders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (won,) = {end for end in ends if end}
    assert ends.count(None) == 3
    assert registry.champion() == won and len(registry.history()) == 1
    assert Bundle.load(registry.fetch(won)).id == won


@pytest.mark.parametrize(
    "content, says",
    [
        (b"{", "damaged"),
        (b"[]", "damaged"),
        (b'{"format": 9, "champion": null, "history": []}', "format 9"),
        (b'{"format": 1, "champion": "../../etc", "history": []}', "etc"),
        (b'{"format": 1, "champion": null, "history": [{"bundle": "../x"}]}', "format 1"),
    ],
    ids=["cut", "list", "format", "path", "history"],
)
def test_a_damaged_registry_is_refused(tmp_path, content, says):
    (tmp_path / "registry.json").write_bytes(content)
    with pytest.raises(RegistryError, match=says):
        open_registry(tmp_path).champion()


def test_what_is_no_registry_is_said(tmp_path, make_bundle):
    with pytest.raises(RegistryError, match="registry.json is missing"):
        open_registry(tmp_path / "nothing")
    with pytest.raises(RegistryError, match="nosuch"):
        open_registry("nosuch://place")
    assert not is_registry(make_bundle())
    registry = open_registry(tmp_path / "new", new=True)
    assert registry.champion() is None and not (tmp_path / "new").exists()
    with pytest.raises(RegistryError, match="there is no bundle '../x'"):
        registry.fetch("../x")
    (tmp_path / "file").write_text("")
    with pytest.raises(RegistryError, match="can not be written"):
        fill(open_registry(tmp_path / "file" / "registry", new=True), make_bundle())


STEPS = ("copyfile", "rename", "replace", "before registry.json", "after registry.json")


@pytest.mark.slow
@pytest.mark.parametrize("step", STEPS)
def test_a_kill_leaves_the_old_champion_or_the_new_one(step, tmp_path, make_bundle):
    """Killed within a step of a promotion, by a signal that nothing can catch."""
    a, b = make_bundle("a", 8), make_bundle("b", 4)
    place = tmp_path / "registry"
    (old,) = fill(open_registry(place, new=True), a)
    code = f"""
    import os, pathlib, shutil, signal
    from layerwise.serving.registry.registry import open_registry

    def die(*args):
        os.kill(os.getpid(), signal.SIGKILL)

    step = {step!r}
    if step == "copyfile":
        def half(source, target):
            pathlib.Path(target).write_bytes(pathlib.Path(source).read_bytes()[:100])
            die()
        shutil.copyfile = half
    elif step == "rename":
        pathlib.Path.rename = die
    else:
        replace = pathlib.Path.replace
        def switch(self, target):
            if step == "replace" or step.endswith(target.name):
                if step.startswith("after"):
                    replace(self, target)
                die()
            return replace(self, target)
        pathlib.Path.replace = switch
    registry = open_registry({str(place)!r})
    registry.promote(pathlib.Path({str(b)!r}), {WHY!r}, {old!r})
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], timeout=60)
    assert done.returncode == -9
    registry = open_registry(place)
    new = id_of(b)
    assert registry.champion() == (new if step.startswith("after") else old)
    assert Bundle.load(registry.fetch(registry.champion()))
    assert len(registry.history()) == 1 + step.startswith("after")
    if not step.startswith("after"):  # and the next promotion finds nothing in its way
        fill(registry, b)
    assert registry.champion() == new
    assert Bundle.load(registry.fetch(new)).id == new
    assert sorted(p.name for p in (place / "bundles").iterdir()) == sorted([old, new])
    assert registry.history()[-1]["decision"] == "decisions/0002.json"
