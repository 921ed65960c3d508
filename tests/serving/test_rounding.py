"""Graphs in 8-bit integers against integer arithmetic in numpy, and ranges against brute force."""

from collections import Counter

import numpy as np
import onnx
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from onnx import numpy_helper

from layerwise.errors import BundleError
from layerwise.models.onnx_session import Session
from layerwise.serving.rounding import (
    BINS,
    Ranges,
    closest_range,
    log_odds,
    rounded,
    rounded_values,
    simplified,
    steps,
)

SIZE, CHANNELS = 12, 4
NETWORK = """
<ir_version: 8, opset_import: ["": 17]>
net (uint8[n, 12, 12, 3] pixels) => (float[n, 1] probabilities, float[n, 4, 12, 12] activation)
<float scale = {255.0}> {
    x = Cast<to = 1>(pixels)
    u = Div(x, scale)
    t = Transpose<perm = [0, 3, 1, 2]>(u)
    c = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(t, w, b)
    activation = Relu(c)
    p = GlobalAveragePool(activation)
    f = Flatten(p)
    z = Gemm<transB = 1>(f, head, last)
    probabilities = Sigmoid(z)
}
"""


def weights():
    """Of very different channels, one scale for all would lose the small ones; all of one sign in
    one, so that integers of 16 bits would overflow where weights had 8 bits of range."""
    made = np.random.default_rng(0).normal(size=(CHANNELS, 3, 3, 3)).astype(np.float32)
    made[3] = 1
    return made * np.float32([0.01, 0.1, 1, 3]).reshape(-1, 1, 1, 1)


BIAS = np.float32([0.001, -0.02, 0.3, -4])


def network(text=NETWORK, **more):
    model = onnx.parser.parse_model(text)
    head = np.float32([[0.5, 0.4, 1, -0.5]])
    given = {"w": weights(), "b": BIAS, "head": head, "last": np.float32([-0.2]), **more}
    model.graph.initializer.extend(numpy_helper.from_array(v, k) for k, v in given.items())
    return model.SerializeToString()


def pictures(count, seed):
    made = np.random.default_rng(seed).integers(0, 256, (count, SIZE, SIZE, 3), dtype=np.uint8)
    made[0] = 255
    return made


def constants(graph):
    tensors = onnx.ModelProto.FromString(graph).graph.initializer
    return {t.name: numpy_helper.to_array(t) for t in tensors}


def test_the_integers_are_those_of_numpy():
    """What an integer kernel makes of a convolution, worked out in whole numbers."""
    graph, some = simplified(network()), pictures(6, 1)
    ranges = Ranges(graph, some).whole
    (answer,) = Session(rounded(graph, ranges), 1).run(some, ["activation"])

    def levels(low, high):
        step = np.float32((min(low, 0) - max(high, 0)) / -255)
        return step, np.round(-min(low, 0) / step)

    step, zero = levels(*ranges["t"])
    x = (some.astype(np.float32) / np.float32(255)).transpose(0, 3, 1, 2)
    whole = np.clip(np.round(x / step) + zero, 0, 255).astype(np.int64) - int(zero)
    padded = np.pad(whole, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = sliding_window_view(padded, (3, 3), axis=(2, 3))  # (n, C, H, W, 3, 3)
    each = (abs(weights()).reshape(CHANNELS, -1).max(axis=1) / 64).astype(np.float32)
    kernels = np.round(weights() / each.reshape(-1, 1, 1, 1)).astype(np.int64)
    total = np.einsum("nchwij,kcij->nkhw", windows, kernels)
    total += np.round(BIAS / (step * each)).astype(np.int64).reshape(-1, 1, 1)
    assert abs(total).max() > 2 * 2**15  # more than 16 bits hold
    step_out, zero_out = levels(0, ranges["c"][1])  # what the ReLU leaves
    exact = total * (step * each).astype(np.float64).reshape(-1, 1, 1) / step_out
    expected = np.clip(np.round(exact) + zero_out, 0, 255) - zero_out
    got = answer / step_out
    # Halves may go either way: the kernel multiplies by scales in single precision.
    assert abs(got - np.maximum(expected, 0)).max() < 1.001
    assert (abs(got - np.maximum(expected, 0)) < 0.001).mean() > 0.999


def test_weights_are_rounded_by_channel_and_the_last_layer_is_not():
    graph = simplified(network())
    made = rounded(graph, Ranges(graph, pictures(8, 2)).whole)
    model = onnx.ModelProto.FromString(made)
    assert {o.domain: o.version for o in model.opset_import} == {"": 17}
    values = constants(made)
    makers = {n.output[0]: n for n in model.graph.node}
    conv, gemm = (next(n for n in model.graph.node if n.op_type == k) for k in ("Conv", "Gemm"))
    integers, scale, zero = (values[name] for name in makers[conv.input[1]].input)
    assert integers.dtype == np.int8 and abs(integers.astype(int)).max() <= 64 and not zero.any()
    by_channel = scale.reshape(-1, 1, 1, 1)
    assert (abs(integers * by_channel - weights()) <= by_channel * 0.501).all()
    # One scale for all channels would be more than 100 times the first one's.
    assert scale.shape == (CHANNELS,) and scale[3] / scale[0] > 50
    assert values[gemm.input[1]].dtype == np.float32
    assert makers["probabilities"].op_type == "Sigmoid"
    assert makers[makers["probabilities"].input[0]].op_type == "Gemm"


def test_every_calibration_picture_counts():
    """The brightest pixel is in the first of many."""
    graph, dark = simplified(network()), np.full((16, SIZE, SIZE, 3), 50, np.uint8)
    dark[0, 0, 0, 0] = 204
    assert Ranges(graph, dark).whole["t"] == (0, pytest.approx(204 / 255, rel=1e-6))
    ranges = Ranges(graph, pictures(9, 4)).whole
    (seen,) = Session(network(), 1).run(pictures(9, 4), ["activation"])
    assert ranges["activation"] == (0, pytest.approx(seen.max(), rel=1e-6))
    values = constants(rounded(graph, ranges))
    scales = {name: v for name, v in values.items() if name == "t_scale"}
    assert scales["t_scale"] == pytest.approx(1 / 255, rel=1e-6)


@pytest.mark.parametrize(("seed", "tail"), [(0, 1.0), (1, 8.0), (2, 40.0)])
def test_the_closest_range_is_that_of_brute_force(seed, tail):
    """Values of two signs, most of them small and a few not: every pair of ends is tried."""
    draw = np.random.default_rng(seed)
    values = np.concatenate([draw.normal(size=20_000), tail * draw.normal(size=20) ** 2])
    low, high = values.min(), values.max()
    counts, _ = np.histogram(values, bins=BINS, range=(low, high))
    shares = np.linspace(0.02, 1, 50)

    def error(a, b):
        return np.square(rounded_values(values, np.float64(a), np.float64(b)) - values).sum()

    best = min(error(low * a, high * b) for a in shares for b in shares)
    found = closest_range(counts, low, high)
    assert best * 0.9 < error(*found) < best * 1.1
    assert error(*found) < error(low, high)


def test_an_even_spread_keeps_its_range():
    counts = np.full(BINS, 10)
    assert closest_range(counts, 0.0, 6.0) == (0, pytest.approx(6, rel=0.02))
    assert closest_range(counts, -2.0, 2.0) == pytest.approx((-2, 2), rel=0.02)
    assert closest_range(np.zeros(BINS, int), 0.0, 0.0) == (0, 0)


def test_rounded_values_are_256_levels_one_of_which_is_zero():
    values = np.linspace(-5, 5, 10_001)
    made = np.unique(rounded_values(values, np.float64(-1.0), np.float64(3.0)))
    assert len(made) == 256 and 0 in made
    assert np.diff(made) == pytest.approx(4 / 255)


def test_sizes_become_constants_and_paddings_part_of_convolutions():
    """A padding computed from the picture's size, as TensorFlow's "same" padding is exported."""
    text = NETWORK.replace(
        "c = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(t, w, b)",
        """shape = Shape(t)
    height = Gather(shape, two)
    h = Cast<to = 1>(height)
    wide = Clip(h, none, three)
    whole = Cast<to = 7>(wide)
    pads = Concat<axis = 0>(zeros, whole, whole, zeros, whole, whole)
    padded = Pad(t, pads)
    c = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(padded, w, b)""",
    ).replace("4, 12, 12]", "4, 18, 18]")
    more = {"none": np.float32(0), "three": np.float32(3), "zeros": np.int64([0, 0])}
    before = network(text, two=np.int64([2]), **more)
    graph = simplified(before)
    kinds = Counter(n.op_type for n in onnx.ModelProto.FromString(graph).graph.node)
    assert not {"Shape", "Gather", "Concat", "Clip", "Pad"} & set(kinds) and kinds["Conv"] == 1
    some = pictures(5, 3)
    wanted = ["activation", "probabilities"]
    for one, other in zip(
        Session(before, 1).run(some, wanted), Session(graph, 1).run(some, wanted), strict=True
    ):
        assert one == pytest.approx(other, abs=1e-6)
    (one,) = Session(before, 1).run(some, ["activation"])
    (other,) = Session(rounded(graph, Ranges(graph, some).whole), 1).run(some, ["activation"])
    assert one.shape == (5, CHANNELS, SIZE + 6, SIZE + 6)
    assert abs(one - other).max() < 0.02 * one.max()


def test_normalisation_becomes_part_of_its_convolution():
    text = NETWORK.replace("pads = [1, 1, 1, 1]>(t, w, b)", "pads = [1, 1, 1, 1]>(t, w)").replace(
        "activation = Relu(c)",
        "d = BatchNormalization(c, s, o, m, v)\n    activation = Relu(d)",
    )
    draw = np.random.default_rng(7)
    norm = {k: draw.uniform(0.5, 2, CHANNELS).astype(np.float32) for k in "somv"}
    graph = simplified(network(text, **norm))
    kinds = Counter(n.op_type for n in onnx.ModelProto.FromString(graph).graph.node)
    assert kinds["BatchNormalization"] == 0 and kinds["Conv"] == 1
    some = pictures(3, 5)
    ones = Session(network(text, **norm), 1).run(some)
    for one, other in zip(ones, Session(graph, 1).run(some), strict=True):
        assert one == pytest.approx(other, rel=1e-5, abs=1e-5)


def test_what_is_left_is_not_rounded():
    graph, some = simplified(network()), pictures(6, 1)
    ranges = Ranges(graph, some).whole
    kinds = {n.name: n.op_type for n in onnx.ModelProto.FromString(graph).graph.node}
    every = [kinds[name] for name in steps(rounded(graph, ranges))]
    assert every == ["Transpose", "Conv", "GlobalAveragePool", "Flatten"]
    (conv,) = (name for name, kind in kinds.items() if kind == "Conv")
    left = rounded(graph, ranges, left=[conv])
    assert conv not in steps(left)
    assert constants(left)["w"] == pytest.approx(weights())
    only = rounded(graph, ranges, only=[conv])
    assert [kinds[name] for name in steps(only)] == ["Transpose", "Conv"]
    wanted = log_odds(graph, some, 1)
    p = Session(graph, 1).run(some, ["probabilities"])[0].astype(np.float64).clip(1e-6, 1 - 1e-6)
    assert wanted == pytest.approx(np.log(p / (1 - p)))


def test_a_network_that_overflows_is_refused():
    large = weights() * np.float32(1e38)
    with pytest.raises(BundleError, match="overflow"):
        Ranges(simplified(network(w=large)), pictures(2, 0))
