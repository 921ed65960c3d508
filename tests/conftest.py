"""Fixtures shared by all tests."""

import os
from itertools import count
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
_NUMBERS = count()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real images and weights; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("LAYERWISE_SHARED_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "README.md").is_file():
        pytest.skip(f"needs the real images of {folder} (set LAYERWISE_SHARED_DATA)")
    return folder


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
