"""Fixtures shared by all tests."""

import os
import shutil
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
_NUMBERS = count()
QUIET = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --force-color-profile=srgb"
).split()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real images and weights; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("LAYERWISE_SHARED_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "README.md").is_file():
        pytest.skip(f"needs the real images of {folder} (set LAYERWISE_SHARED_DATA)")
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    """A Chromium of Playwright's synchronous kind.

    Of a module and no longer: while it lives, its event loop counts as running, and neither a
    second browser nor `asyncio.run` can start in the process.
    """
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        pytest.skip("needs the browser chromium on the PATH")
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=found, args=QUIET)
        yield opened
        opened.close()


@pytest.fixture(autouse=True)
def private_cache(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """No test reads or writes the user's own cache.

    `mktemp` would look through the folders of all tests before, for the next free number.
    """
    folder = tmp_path_factory.getbasetemp() / "caches" / str(next(_NUMBERS))
    folder.mkdir(parents=True)
    monkeypatch.setenv("LAYERWISE_CACHE", str(folder))
    return folder
