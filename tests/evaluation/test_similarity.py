"""CKA and SVCCA against matrices written out, scikit-learn's CCA, and what must not change them."""

import numpy as np
import pytest
from sklearn.cross_decomposition import CCA

from layerwise.errors import DataError
from layerwise.evaluation import similarity
from layerwise.evaluation.similarity import linear_cka, svcca


def pair(n: int, p: int, q: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two features with three directions in common."""
    rng = np.random.default_rng(seed)
    common = rng.normal(size=(n, 3))
    x = common @ rng.normal(size=(3, p)) + rng.normal(size=(n, p)) + 5
    y = common @ rng.normal(size=(3, q)) + rng.normal(size=(n, q)) - 2
    return x.astype(np.float32), y.astype(np.float32)


def kernels(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return x.astype(float) @ x.T.astype(float), y.astype(float) @ y.T.astype(float)


@pytest.mark.parametrize("shape", [(30, 5, 8), (12, 40, 25), (20, 700, 4)])
def test_cka_is_the_hsic_of_centred_kernels(shape: tuple[int, int, int]) -> None:
    x, y = pair(*shape)
    k, el = kernels(x, y)
    centre = np.eye(len(x)) - 1 / len(x)

    def hsic(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.trace(a @ centre @ b @ centre))

    expected = hsic(k, el) / np.sqrt(hsic(k, k) * hsic(el, el))
    assert linear_cka(x, y) == pytest.approx(expected, rel=1e-9)
    assert linear_cka(y, x) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("shape", [(30, 5, 8), (12, 40, 25)])
def test_unbiased_cka_is_a_sum_over_different_images(shape: tuple[int, int, int]) -> None:
    """HSIC as what it estimates: means over pairs, quadruples and triples of different images."""
    x, y = pair(*shape)
    n = len(x)
    k, el = kernels(x - x.mean(0), y - y.mean(0))

    def hsic(a: np.ndarray, b: np.ndarray) -> float:
        pairs = quads = triples = 0.0
        for i in range(n):
            for j in range(n):
                if i != j:
                    pairs += a[i, j] * b[i, j]
                    others = [m for m in range(n) if m not in (i, j)]
                    triples += a[i, j] * b[i, others].sum()
                    inner = b[np.ix_(others, others)]
                    quads += a[i, j] * (inner.sum() - np.trace(inner))
        m = n * (n - 1)
        return pairs / m - 2 * triples / (m * (n - 2)) + quads / (m * (n - 2) * (n - 3))

    expected = hsic(k, el) / np.sqrt(hsic(k, k) * hsic(el, el))
    assert linear_cka(x, y, unbiased=True) == pytest.approx(expected, rel=1e-6)


def test_cka_does_not_see_rotation_scale_and_shift() -> None:
    x, y = pair(40, 6, 6)
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(6, 6)))[0]
    for unbiased in (False, True):
        same = linear_cka(x, y, unbiased=unbiased)
        moved = -1e6 * (x.astype(float) @ turn) + 7
        assert linear_cka(moved, y, unbiased=unbiased) == pytest.approx(same, abs=1e-9)
        assert linear_cka(x, 1e-30 * x.astype(float), unbiased=unbiased) == pytest.approx(1)
    stretched = x * np.array([100, 1, 1, 1, 1, 1])
    assert linear_cka(stretched, x) < 0.9  # it does see a stretch of one direction


def test_a_blockwise_product_is_the_whole_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for shape in [(50, 9, 7), (9, 50, 60)]:
        x, y = pair(*shape)
        whole = linear_cka(x, y)
        monkeypatch.setattr(similarity, "BLOCK", 4)
        assert linear_cka(x, y) == pytest.approx(whole, rel=1e-12)
        monkeypatch.undo()


def test_features_with_nothing_in_common() -> None:
    rng = np.random.default_rng(5)
    trials = [(rng.normal(size=(20, 60)), rng.normal(size=(20, 60))) for _ in range(40)]
    plain = np.mean([linear_cka(a, b) for a, b in trials])
    honest = np.mean([linear_cka(a, b, unbiased=True) for a, b in trials])
    assert plain > 0.6 and abs(honest) < 0.03
    # Two random subspaces of k among N − 1 dimensions: mean squared correlation k / (N − 1).
    few = [svcca(a, b, components=4) for a, b in trials]
    assert few[0].kept == (4, 4) and few[0].chance == pytest.approx(np.sqrt(4 / 19))
    assert np.mean([s.value for s in few]) == pytest.approx(few[0].chance, abs=0.1)
    assert np.mean([s.value for s in few]) < few[0].chance
    # Fewer images than features: near 1 by construction, and its chance says so.
    every = svcca(*trials[0])
    assert every.value > 0.9 and every.chance > 0.9


@pytest.mark.parametrize("components", [None, 2])
def test_svcca_without_truncation_is_cca(components: int | None) -> None:
    x, y = (side.astype(float) for side in pair(60, 4, 3))
    if components:  # CCA of the scores on the main directions, found by a plain SVD
        x, y = (
            (side - side.mean(0)) @ np.linalg.svd(side - side.mean(0))[2][:components].T
            for side in (x, y)
        )
    k = min(x.shape[1], y.shape[1])
    a, b = CCA(n_components=k, max_iter=20000, tol=1e-14).fit_transform(x, y)
    expected = np.mean([abs(np.corrcoef(a[:, i], b[:, i])[0, 1]) for i in range(k)])
    original = pair(60, 4, 3)
    got = svcca(*original, variance=1.0, components=components)
    assert got.value == pytest.approx(expected, abs=1e-6)
    assert got.kept == ((components,) * 2 if components else (4, 3))


def test_svcca_does_not_see_invertible_maps() -> None:
    for shape in [(50, 6, 5), (8, 6, 5)]:
        x, y = (side.astype(float) for side in pair(*shape))
        mix = np.random.default_rng(1).normal(size=(6, 6))
        same = svcca(x, y, variance=1.0)
        moved = svcca(1e5 * x @ mix + 3, y, variance=1.0)
        assert moved.value == pytest.approx(same.value, abs=1e-8)
    assert svcca(x, x @ mix, variance=1.0).value == pytest.approx(1)


def test_svcca_keeps_as_many_directions_as_hold_the_variance() -> None:
    """Orthogonal columns with variances 90, 9, 0.9 and 0.1 of 100, rotated."""
    rng = np.random.default_rng(2)
    basis = np.linalg.qr(np.hstack([np.ones((30, 1)), rng.normal(size=(30, 4))]))[0][:, 1:]
    turn = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    x = basis * np.sqrt([90, 9, 0.9, 0.1]) @ turn
    for variance, kept in [(0.5, 1), (0.9, 1), (0.95, 2), (0.99, 2), (0.995, 3), (1.0, 4)]:
        assert svcca(x, x, variance=variance).kept == (kept, kept)
    wide = np.hstack([x, np.zeros((30, 60))])  # more features than images: the other way round
    assert svcca(wide, x).kept == (2, 2)
    assert svcca(wide, x).value == pytest.approx(1)


def test_maps_count_as_one_row_an_image() -> None:
    x, y = pair(10, 12, 6)
    assert linear_cka(x.reshape(10, 3, 2, 2), y) == linear_cka(x, y)


def test_what_can_not_be_compared_is_named() -> None:
    x, y = pair(10, 4, 3)
    bad = x.copy()
    bad[3, 1] = np.nan
    flat = np.full((10, 4), 0.1, np.float32)
    for compare in (linear_cka, svcca):
        with pytest.raises(DataError, match="features of 1 images.*at least 2"):
            compare(x[:1], y[:1])
        with pytest.raises(DataError, match="10 and 9 images.*same images in the same order"):
            compare(x, y[:9])
        with pytest.raises(DataError, match="second features hold values that are not finite"):
            compare(y, bad)
        with pytest.raises(DataError, match="first features are the same for every image"):
            compare(flat, y)
    with pytest.raises(DataError, match="at least 4"):
        linear_cka(x[:3], y[:3], unbiased=True)
    with pytest.raises(ValueError, match="variance"):
        svcca(x, y, variance=0)
