"""Operations and their gradients in terms of such as ONNX has.

What autograd runs backwards are operations of its own (`convolution_backward`). Those of
activations and normalisations are taken apart by torch's own tables. The others are written down
here: each is linear in the gradient that comes from above, so each is a convolution, a product
with a constant matrix, or a placing of values. Only gradients with respect to activations are
given, none to weights.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._decomp import get_decompositions
from torch.fx.experimental.proxy_tensor import disable_proxy_modes_tracing
from torch.nn import functional as F

aten = torch.ops.aten


def decompositions() -> dict[Any, Callable[..., Any]]:
    """The table that `make_fx` takes: operation → function of simpler ones."""
    known: dict[Any, Callable[..., Any]] = dict(get_decompositions(_BY_TORCH))
    return known | _OURS


_BY_TORCH = [
    aten.threshold_backward,
    aten.hardtanh_backward,
    aten.hardswish_backward,
    aten.hardsigmoid_backward,
    aten.sigmoid_backward,
    aten.tanh_backward,
    aten.silu_backward,
    aten.gelu_backward,
    aten.elu_backward,
    aten.leaky_relu_backward,
    aten.mish_backward,
    aten.softplus_backward,
    aten.log_sigmoid_backward,
    aten.glu_backward,
    aten._prelu_kernel_backward,
    aten._softmax_backward_data,
    aten._log_softmax_backward_data,
    aten._safe_softmax,
    aten.native_layer_norm_backward,
    aten._fused_rms_norm,
    aten._fused_rms_norm_backward,
    aten.addcmul,
    aten.addcdiv,
    aten.rsub,
]


def _convolution_backward(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    bias_sizes: object,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
    mask: object,
) -> tuple[Tensor, None, None]:
    """The transposed convolution of the gradient with the same weights, and the other way."""
    if transposed:
        rest = [0] * len(stride)
        back = aten.convolution(grad, weight, None, stride, padding, dilation, False, rest, groups)
        return back, None, None
    rest = [
        x.shape[i + 2]
        - (grad.shape[i + 2] - 1) * stride[i]
        + 2 * padding[i]
        - dilation[i] * (weight.shape[i + 2] - 1)
        - 1
        for i in range(len(stride))
    ]  # what the strides left over
    back = aten.convolution(grad, weight, None, stride, padding, dilation, True, rest, groups)
    return back, None, None


def _batch_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor | None,
    var: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
) -> Any:  # noqa: ANN401 - NotImplemented is what `make_fx` understands
    """In evaluation mode a scale and a shift."""
    if training or mean is None or var is None:
        return NotImplemented
    scale = _scale(weight, var, eps)
    shift = (0.0 if bias is None else bias) - mean * scale
    empty = x.new_empty((0,))
    return x * _along(scale, x) + _along(shift, x), empty, empty


def _batch_norm_backward(
    grad: Tensor,
    x: Tensor,
    weight: Tensor | None,
    mean: Tensor | None,
    var: Tensor | None,
    save_mean: object,
    save_invstd: object,
    training: bool,
    eps: float,
    mask: object,
) -> Any:  # noqa: ANN401
    if training or var is None:
        return NotImplemented
    return grad * _along(_scale(weight, var, eps), grad), None, None


def _scale(weight: Tensor | None, var: Tensor, eps: float) -> Tensor:
    scale = torch.rsqrt(var + eps)
    return scale if weight is None else scale * weight


def _along(values: Tensor, x: Tensor) -> Tensor:
    """One value a channel, (C,), so that it meets (N, C, ...)."""
    return values.reshape([1, -1] + [1] * (x.ndim - 2))


def _group_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    count: int,
    channels: int,
    places: int,
    groups: int,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    flat = x.reshape(count, groups, -1)
    mean = flat.mean(2, keepdim=True)  # (N, groups, 1)
    spread = torch.rsqrt((flat - mean).square().mean(2, keepdim=True) + eps)
    out = ((flat - mean) * spread).reshape(x.shape)
    out = out if weight is None else out * _along(weight, x)
    out = out if bias is None else out + _along(bias, x)
    return out, mean.reshape(count, groups), spread.reshape(count, groups)


def _group_norm_backward(
    grad: Tensor,
    x: Tensor,
    mean: Tensor,
    spread: Tensor,
    weight: Tensor | None,
    count: int,
    channels: int,
    places: int,
    groups: int,
    mask: object,
) -> tuple[Tensor, None, None]:
    """What of the gradient would move mean or deviation of a group is taken away."""
    spread = spread.reshape(count, groups, 1)
    flat = (x.reshape(count, groups, -1) - mean.reshape(count, groups, 1)) * spread
    slope = grad if weight is None else grad * _along(weight, grad)
    slope = slope.reshape(count, groups, -1)
    along = (slope * flat).mean(2, keepdim=True) * flat
    back = (slope - slope.mean(2, keepdim=True) - along) * spread
    return back.reshape(x.shape), None, None


def _max_pool_backward(
    grad: Tensor,
    x: Tensor,
    kernel: object,
    stride: object,
    padding: object,
    dilation: object,
    ceil_mode: object,
    indices: Tensor,
) -> Tensor:
    """Each window's gradient goes where its highest value was; those of one place add up."""
    flat = torch.zeros_like(x).flatten(2)  # (N, C, H·W)
    return flat.scatter_add(2, indices.flatten(2), grad.flatten(2)).reshape(x.shape)


def _average_pool_backward(
    grad: Tensor,
    x: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    ceil_mode: bool,
    count_include_pad: bool,
    divisor: int | None,
) -> Any:  # noqa: ANN401
    if divisor is not None:
        return NotImplemented
    sides = []
    for i in (0, 1):
        step = stride[i % len(stride)] if len(stride) else kernel[i % len(kernel)]
        with disable_proxy_modes_tracing():
            rows = F.avg_pool1d(
                torch.eye(int(x.shape[i + 2]))[None],
                kernel[i % len(kernel)],
                step,
                padding[i % len(padding)],
                ceil_mode,
                count_include_pad,
            )[0]  # (H, h): how each input row becomes output rows
        sides.append(rows)
    return _both_ways(grad, *sides)


def _adaptive_pool(x: Tensor, size: Sequence[int]) -> Tensor:
    rows, columns = (_shares(int(x.shape[i + 2]), int(size[i])) for i in (0, 1))
    return _both_ways(x, rows.T, columns.T)


def _adaptive_pool_backward(grad: Tensor, x: Tensor) -> Tensor:
    return _both_ways(grad, *(_shares(int(x.shape[i]), int(grad.shape[i])) for i in (2, 3)))


def _shares(size: int, wanted: int) -> Tensor:
    """(size, wanted): how adaptive pooling makes output rows of input rows."""
    with disable_proxy_modes_tracing():
        return F.adaptive_avg_pool1d(torch.eye(size)[None], wanted)[0]


def _both_ways(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Each map times rows (H, h) and columns (W, w): (N, C, h, w) → (N, C, H, W)."""
    wide = torch.matmul(x, columns.T)  # (N, C, h, W)
    return torch.matmul(wide.transpose(2, 3), rows.T).transpose(2, 3)


def _pad(x: Tensor, pad: Sequence[int], value: float = 0) -> Any:  # noqa: ANN401
    """Padding by less than nothing, as its own gradient has it, is cutting off."""
    if any(amount > 0 for amount in pad):
        return NotImplemented
    for pair in range(len(pad) // 2):
        before, after = -pad[2 * pair], -pad[2 * pair + 1]
        dim = x.ndim - 1 - pair
        x = aten.slice.Tensor(x, dim, before, int(x.shape[dim]) - after)
    return x


def _slice_backward(
    grad: Tensor, sizes: Sequence[int], dim: int, start: int | None, end: int | None, step: int
) -> Tensor:
    """Values back to where they were cut out, zeros elsewhere."""
    dim %= grad.ndim
    first, last, _ = slice(start, end, step).indices(int(sizes[dim]))
    if step == 1:
        around = [first, int(sizes[dim]) - max(first, last)]
        if around == [0, 0]:
            return grad.clone()
        return F.pad(grad, [0, 0] * (grad.ndim - 1 - dim) + around)
    with disable_proxy_modes_tracing():
        onto = torch.eye(int(sizes[dim]))[first:last:step]  # (n, size)
    return torch.matmul(grad.transpose(dim, -1), onto).transpose(dim, -1)


def _select_backward(grad: Tensor, sizes: Sequence[int], dim: int, index: int) -> Tensor:
    dim %= grad.ndim + 1
    index %= int(sizes[dim])
    return _slice_backward(grad.unsqueeze(dim), sizes, dim, index, index + 1, 1)


_OURS: dict[Any, Callable[..., Any]] = {
    aten.convolution_backward.default: _convolution_backward,
    aten.native_batch_norm.default: _batch_norm,
    aten.native_batch_norm_backward.default: _batch_norm_backward,
    aten.native_group_norm.default: _group_norm,
    aten.native_group_norm_backward.default: _group_norm_backward,
    aten.max_pool2d_with_indices_backward.default: _max_pool_backward,
    aten.avg_pool2d_backward.default: _average_pool_backward,
    aten._adaptive_avg_pool2d.default: _adaptive_pool,
    aten._adaptive_avg_pool2d_backward.default: _adaptive_pool_backward,
    aten.constant_pad_nd.default: _pad,
    aten.slice_backward.default: _slice_backward,
    aten.select_backward.default: _select_backward,
}
