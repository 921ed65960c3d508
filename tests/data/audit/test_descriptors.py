"""The search finds every close pair, and crops lie closer than strangers do."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.fft import dctn
from scipy.ndimage import gaussian_filter

from layerwise.data.audit import descriptors
from layerwise.data.audit.descriptors import close_pairs, learn


def brute(plain, inner, radius):
    out = []
    for i in range(len(plain)):
        for j in range(i + 1, len(plain)):
            pairs = ((plain[i], plain[j]), (inner[i], plain[j]), (plain[i], inner[j]))
            near = min(float(((a - b) ** 2).sum()) for a, b in pairs)
            if near <= radius:
                out.append((near, i, j))
    return sorted(out)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 40), st.integers(1, 9), st.integers(0, 99), st.floats(0.5, 20))
def test_pairs_are_those_of_a_comparison_of_all(count, block, seed, radius):
    random = np.random.default_rng(seed)
    plain, inner = random.standard_normal((2, count, 4)).astype(np.float32) + 3
    expected = brute(plain.astype(float), inner.astype(float), radius)
    border = [near for near, _, _ in brute(plain.astype(float), inner.astype(float), radius + 1)]
    if any(abs(near - radius) < 1e-4 for near in border):
        return  # too close to call in float32
    pairs, found = close_pairs(plain, inner, radius, 10_000, block=block)
    assert found == len(expected)
    assert {tuple(pair) for pair in pairs.tolist()} == {(i, j) for _, i, j in expected}


def test_where_there_are_too_many_the_closest_are_kept():
    random = np.random.default_rng(0)
    plain, inner = random.standard_normal((2, 60, 4)).astype(np.float32)
    expected = brute(plain.astype(float), inner.astype(float), 99.0)
    pairs, _ = close_pairs(plain, inner, 99.0, 25, block=7)
    assert {tuple(pair) for pair in pairs.tolist()} == {(i, j) for _, i, j in expected[:25]}


def test_frequencies_are_those_of_scipy():
    details = np.random.default_rng(0).uniform(0, 255, (2, 64, 64)).astype(np.float32)
    small = details.reshape(2, 32, 2, 32, 2).mean(axis=(2, 4))
    low = dctn(small, axes=(1, 2), norm="ortho")
    wanted = [(u, v) for u in range(13) for v in range(13) if 0 < u + v <= 12]
    expected = np.array([[one[u, v] for u, v in wanted] for one in low])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(descriptors._frequencies(details), expected, atol=1e-4)


def test_crops_lie_within_the_radius_and_strangers_outside():
    random = np.random.default_rng(0)
    noise = random.standard_normal((120, 64, 64))
    details = np.stack([gaussian_filter(one, 5) for one in noise]).astype(np.float32) * 400 + 128
    description = learn(details[:80], seed=0)
    plain, inner = description.of(details)
    assert plain.shape == inner.shape == (120, 32)
    crop, crop_inner = description.of(descriptors._crop(details, np.random.default_rng(5)))
    near = np.min(
        [
            ((a - b) ** 2).sum(axis=1)
            for a, b in ((crop, plain), (crop_inner, plain), (crop, inner))
        ],
        axis=0,
    )
    assert (near <= description.radius).mean() >= 0.97  # fresh pictures among them
    assert close_pairs(plain, inner, description.radius, 100)[1] == 0
    again = learn(details[:80], seed=0)
    np.testing.assert_array_equal(again.weights, description.weights)
    assert again.radius == description.radius
