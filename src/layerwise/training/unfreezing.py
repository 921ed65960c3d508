"""Which layers learn in which epoch: first the new ones alone, then blocks from the head down.

New layers always learn. Copied ones may wait: for the epochs of a linear probe (Kumar et al. 2022,
LP-FT) and then, with gradual unfreezing (Howard & Ruder 2018, §3.3), each for the block above it.
A layer that waits has no gradient, so that the backward pass ends above it; no optimiser state and
no weight decay; and it is in evaluation mode, so that its batch-norm statistics stand still.
"""

import math
from collections.abc import Iterator

from torch import nn

from layerwise.errors import TrainingError
from layerwise.training.network import LayerGroup, TransferNetwork
from layerwise.training.recipe import Recipe

_ROUNDING = 1e-6  # a block that waits 3 · 0.1 epochs waits 0.3 epochs


def copied_blocks(network: TransferNetwork) -> list[LayerGroup]:
    """The copied layers among those that learn, by the block, from the head down."""
    return [group for group in network.learning_layers() if group.copied]


def blocks_learning(recipe: Recipe, epoch: int, blocks: int) -> int:
    """How many of the copied blocks learn in an epoch, counted from the head down.

    Without a probe the first stage is the head alone; after one it has been, and the first block
    joins at once. With `unfreeze` below 1 several join in an epoch.

    Args:
        recipe: Its `probe_epochs` and `unfreeze`.
        epoch: From 0.
        blocks: All copied blocks.
    """
    if epoch < recipe.probe_epochs:
        return 0
    if not recipe.unfreeze:
        return blocks
    joined = int((epoch - recipe.probe_epochs) / recipe.unfreeze + _ROUNDING)
    return min(blocks, joined + (recipe.probe_epochs > 0))


def whole_from(recipe: Recipe, blocks: int) -> int:
    """The first epoch in which every block learns, and from which on the schedule may judge."""
    waiting = max(0, blocks - (recipe.probe_epochs > 0))
    return recipe.probe_epochs + math.ceil(recipe.unfreeze * waiting - _ROUNDING)


def check_stages(recipe: Recipe, network: TransferNetwork) -> None:
    """Refuse stages that this transfer can not have.

    Raises:
        TrainingError: Nothing is copied that could wait or be pulled, or the lowest block would
            never learn.
    """
    transfer = network.transfer
    nothing = transfer.source in ("none", "untrained") or transfer.copy == "none"
    for name in ("probe_epochs", "unfreeze", "l2_sp"):
        if nothing and getattr(recipe, name):
            raise TrainingError(
                f"recipe: {name} is {getattr(recipe, name)}, but no layer of this network "
                f"({transfer.name}) has learnt before; set it to 0, or copy layers from a source"
            )
    blocks = len(copied_blocks(network))
    needed = whole_from(recipe, blocks) + 1
    if needed > recipe.epochs:
        raise TrainingError(
            f"recipe: unfreeze is {recipe.unfreeze} and {blocks} copied blocks wait for it, so "
            f"that the lowest one learns from epoch {needed} on, of {recipe.epochs}; lower "
            "unfreeze, raise epochs, or freeze the lower blocks in the transfer"
        )


def let_learn(module: nn.Module, blocks: list[LayerGroup], learning: int) -> None:
    """Let the first blocks learn and the others wait; the module is in training mode.

    Args:
        module: Of which the blocks are parts.
        blocks: From the head down.
        learning: How many of them learn.
    """
    for number, block in enumerate(blocks):
        for parameter in block.parameters:
            parameter.requires_grad_(number < learning)
    waiting = {p for block in blocks[learning:] for p in block.parameters}
    for part in parts_of(module, waiting):
        part.eval()


def parts_of(module: nn.Module, parameters: set[nn.Parameter]) -> Iterator[nn.Module]:
    """The largest parts of a module that have parameters, and none but these."""
    own = list(module.parameters())
    if own and all(parameter in parameters for parameter in own):
        yield module
        return
    for child in module.children():
        yield from parts_of(child, parameters)
