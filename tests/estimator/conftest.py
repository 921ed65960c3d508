"""Small pictures with a bright square in the place of their class."""

import numpy as np
import pytest
import torch

SIDE = 28
PLACES = [(2, 2), (2, 16), (16, 2), (16, 16)]


@pytest.fixture(autouse=True)
def one_thread():
    """Small tensors are faster on one thread, and its number must not change within a test."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def drawn(has: np.ndarray, seed: int = 0) -> np.ndarray:
    """uint8 (n, SIDE, SIDE): noise, and a bright square for each label (n, K) of 0 and 1."""
    out = np.random.default_rng(seed).integers(0, 100, (len(has), SIDE, SIDE), dtype=np.uint8)
    for picture, labels in zip(out, has, strict=True):
        for label in np.flatnonzero(labels):
            top, left = PLACES[label]
            picture[top : top + 10, left : left + 10] += 140
    return out


@pytest.fixture(scope="session")
def make():
    """(pictures a class, classes, seed) → X, y with y 0, 1, … in turn."""

    def made(each: int = 20, classes: int = 2, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
        y = np.arange(each * classes) % classes
        return drawn(np.eye(4, dtype=int)[y], seed), y

    return made


@pytest.fixture(scope="session")
def squares():
    """(labels (n, K) of 0 and 1, seed) → X."""
    return drawn


@pytest.fixture(scope="session")
def places():
    """The upper left corner of each class's square, of 10 by 10 pixels."""
    return PLACES
