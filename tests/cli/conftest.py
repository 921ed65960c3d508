"""Small folders of generated pictures, and the command as a user gives it."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SIDE = 32  # pixels


@pytest.fixture(autouse=True, scope="module")
def few_trees():
    """A small forest in every fit: growing one of 200 trees takes longer than all else in it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("layerwise.models.classic.TREES", 20)
        yield


@pytest.fixture
def draw_no_more(monkeypatch):
    """To be called before the second sitting of a study whose figures have been looked at."""

    def empty(_figure, out, **_options):
        out.write('<svg viewBox="0 0 1 1"></svg>')

    return lambda: monkeypatch.setattr("matplotlib.figure.Figure.savefig", empty)


def picture(path: Path, bright: float, seed: int) -> Path:
    """A grey picture: noise around a disc whose brightness tells the class."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE / 2
    values = 90 + 60 * bright * (x**2 + y**2 < 90) + generator.normal(0, 25, (SIDE, SIDE))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.clip(values, 0, 255).astype(np.uint8)).save(path)
    return path


@pytest.fixture
def classes(tmp_path):
    """A folder of two class folders with 12 pictures each, of 6 patients a class."""
    root = tmp_path / "pictures"
    for number in range(12):
        picture(root / "well" / f"a{number // 2}_{number}.png", 0, number)
        picture(root / "ill" / f"b{number // 2}_{number}.png", 1, 100 + number)
    return root


@pytest.fixture
def fit_words():
    """The words of a small fit, everything but DATA and --out at its cheapest."""

    def words(data: object, out: object, *more: object) -> list[str]:
        small = "--model lenet5 --weights none --image-size 32 --threads 1 --time 8s --quiet"
        return ["fit", str(data), "--out", str(out), *small.split(), *map(str, more)]

    return words
