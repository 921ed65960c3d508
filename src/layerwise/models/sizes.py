"""Which picture sizes a network takes, when it does not take the one that was asked for."""

from collections.abc import Callable

import torch
from torch import nn

_STEPS = (1, 2, 4, 7, 8, 14, 16, 28, 32, 56, 64)  # pixels: patches and windows of known networks


def advice(accepts: Callable[[int], bool], asked: int, usual: int) -> str | None:
    """What to say of the picture sizes that a network takes.

    The smallest is found by bisection from the usual size downwards, in the smallest of some
    known steps in which the network takes sizes at all.

    Args:
        accepts: Whether the network takes square pictures of a side, pixels.
        asked: A side that it does not take.
        usual: The side it was made for.

    Returns:
        Half a sentence; None: it does not even take the usual size.
    """
    if not accepts(usual):
        return None
    steps = (s for s in _STEPS if accepts(usual + s) or (usual > s and accepts(usual - s)))
    step = next(steps, None)
    if step is None:
        return f"it takes only {usual}×{usual}"
    works, fails = 0, (usual - 1) // step + 1  # steps below the usual size
    while fails - works > 1:
        middle = (works + fails) // 2
        works, fails = (middle, fails) if accepts(usual - middle * step) else (works, middle)
    smallest = usual - works * step
    if asked < smallest:
        return f"the smallest that it takes are {smallest}×{smallest}"
    near = smallest + max(round((asked - smallest) / step), 0) * step
    near = near if accepts(near) else usual
    return (
        f"it takes sizes from {smallest} pixels on in steps of {step}, and the nearest are "
        f"{near}×{near}"
    )


def takes(module: nn.Module, channels: int, size: int) -> bool:
    """Whether a network takes square pictures of a side. Nothing is computed.

    Args:
        module: Takes (N, channels, H, W); what it holds is moved to torch's meta device.
        channels: Of the pictures.
        size: Their side in pixels.
    """
    picture = torch.empty(2, channels, size, size, device="meta")
    try:
        with torch.no_grad():
            module.to("meta").eval()(picture)
    except Exception:  # whatever the network's own code raises
        return False
    return True
