"""Fixtures of the tests of networks."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from layerwise.models.registry import Network

Shapes = dict[str, tuple[tuple[int, ...], tuple[int, ...]]]


@pytest.fixture(scope="session")
def layer_shapes() -> Callable[[Network], Shapes]:
    """What goes into each layer of a network and what comes out, for one picture, no batch.

    Seen by forward hooks, on the device that the network lies on.
    """

    def shapes(network: Network) -> Shapes:
        seen: Shapes = {}

        def note(name: str) -> Callable[[nn.Module, tuple[Tensor], Tensor], None]:
            def hook(module: nn.Module, taken: tuple[Tensor], given: Tensor) -> None:
                seen[name] = (tuple(taken[0].shape[1:]), tuple(given.shape[1:]))

            return hook

        hooks = [part.register_forward_hook(note(n)) for n, part in network.module.named_modules()]
        contract = network.contract
        device = next(network.module.parameters()).device
        picture = torch.zeros(1, contract.channels, contract.height, contract.width, device=device)
        network.module.eval()(picture)
        for hook in hooks:
            hook.remove()
        return seen

    return shapes
