"""Real X-rays: two halves of one hospital's are alike, another hospital's are not."""

import numpy as np
import pytest

from layerwise.data.pictures.images import header, prepare
from layerwise.serving.drift import Limits, checks, compare
from layerwise.serving.measures import INPUTS
from layerwise.serving.statistics import reference

LABELS = ("NORMAL", "PNEUMONIA")
SIZE = (96, 96)


def read(files):
    """Prepared pictures and the sizes of their files."""
    pixels = [prepare(path, SIZE, 1, letterbox=False) for path in files]
    headers = [header(path) for path in files]
    return np.stack(pixels), [(one.height, one.width) for one in headers]


def said(pixels):
    """No model is needed to see inputs drift: one that answers by brightness."""
    scores = (pixels.mean(axis=(1, 2, 3)) / 255)[:, None].astype(np.float32)
    return scores, (scores[:, 0] >= 0.5).astype(np.int64)


@pytest.fixture(scope="module")
def halves(shared_data):
    """Two random halves of 800 pictures of the Guangzhou training part."""
    files = sorted((shared_data / "guangzhou" / "train").glob("*/*.jpeg"))
    chosen = np.random.default_rng(0).permutation(len(files))[:800]
    return [read([files[k] for k in part]) for part in (chosen[:400], chosen[400:])]


@pytest.fixture(scope="module")
def before(halves):
    pixels, sizes = halves[0]
    return reference("binary", LABELS, [pixels], sizes, *said(pixels))


def judged(before, pixels, sizes):
    after = before.beside()
    after.add(pixels, *said(pixels), sizes)
    return compare(before, after, Limits())


@pytest.mark.slow
def test_two_halves_of_one_hospital_are_alike(halves, before):
    found = judged(before, *halves[1])
    assert [one.name for one in found if one.verdict == "drifted"] == []
    assert not any(checks(found).values())


@pytest.mark.slow
def test_another_hospital_is_drift(shared_data, before):
    files = sorted((shared_data / "chest3").glob("*/*.*"))
    chosen = np.random.default_rng(1).permutation(len(files))[:400]
    found = judged(before, *read([files[k] for k in chosen]))
    drifted = {one.name for one in found if one.verdict == "drifted"}
    assert {"brightness", "contrast", "likeness"} & drifted and {"aspect", "side"} <= drifted
    assert checks(found)["window"] is True
    few = judged(before, *read([files[k] for k in chosen[:40]]))
    assert {one.name for one in few if one.verdict == "drifted"} <= drifted


@pytest.mark.slow
def test_one_inverted_picture_in_twenty_is_found(halves, before):
    """X-rays have enough in common for it: nearly all are alike, none is like a negative."""
    pixels, sizes = halves[1]
    mixed = pixels.copy()
    mixed[::20] = 255 - mixed[::20]
    found = {one.name: one for one in judged(before, mixed, sizes) if one.kind == "sign"}
    assert before.inputs["negative"][1] <= 2
    alike = before.inputs["likeness"][INPUTS["likeness"][:-1] >= 0.3].sum()
    assert alike >= 0.95 * before.images
    assert found["negative"].verdict == "drifted"
    assert found["negative"].after[1] >= 18  # of 20
