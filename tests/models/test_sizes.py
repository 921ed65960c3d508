"""Which sizes a network takes: made-up networks, and real ones by running them."""

import re

import pytest
import torch

from layerwise.errors import ModelError
from layerwise.models.registry import _OURS, blank, create
from layerwise.models.sizes import advice


@pytest.mark.parametrize(
    ("accepts", "asked", "usual", "words"),
    [
        (lambda s: s >= 33, 10, 224, "the smallest that it takes are 33×33"),
        (lambda s: s >= 1, 0, 224, "the smallest that it takes are 1×1"),
        (lambda s: s >= 224, 100, 224, "the smallest that it takes are 224×224"),
        (lambda s: s == 224, 100, 224, "it takes only 224×224"),
        (lambda s: s >= 64 and s % 32 == 0, 10, 224, "the smallest that it takes are 64×64"),
        (lambda s: s >= 64 and s % 32 == 0, 100, 224, "from 64 pixels on in steps of 32.*96×96"),
        (lambda s: s % 14 == 0 and s > 0, 300, 518, "from 14 pixels on in steps of 14.*294×294"),
        (lambda s: 64 <= s <= 224, 900, 224, "from 64 .*in steps of 1, .*nearest are 224×224"),
    ],
)
def test_the_advice_says_what_is_taken(accepts, asked: int, usual: int, words: str) -> None:
    assert re.search(words, advice(accepts, asked, usual))


def test_what_takes_no_size_has_no_advice() -> None:
    assert advice(lambda size: False, 100, 224) is None


def test_the_smallest_size_of_a_foreign_network_is_the_smallest() -> None:
    with pytest.raises(ModelError, match="smallest that it takes are 63×63; .*--image-size"):
        blank("torchvision:alexnet", outputs=2, image_size=20)
    blank("torchvision:alexnet", outputs=2, image_size=63)
    with pytest.raises(ModelError):
        blank("torchvision:alexnet", outputs=2, image_size=62)


def test_sizes_in_steps_are_said() -> None:
    with pytest.raises(ModelError, match="steps of 16, and the nearest are 96×96"):
        create("torchvision:vit_b_16", outputs=2, image_size=100)


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
@pytest.mark.parametrize("name", sorted(set(_OURS) - {"custom"}))
def test_the_smallest_size_of_our_own_is_the_smallest(name: str) -> None:
    own = _OURS[name]
    picture = torch.zeros(2, 1, own.smallest, own.smallest, device="meta")
    module = blank(name, outputs=2, channels=1, image_size=own.smallest).module
    module.to("meta").eval()(picture)
    with pytest.raises(ModelError, match=f"at least {own.smallest} pixels"):
        blank(name, outputs=2, image_size=own.smallest - 1)
    if own.smallest > 1:  # nor would the network itself take less
        with pytest.raises(RuntimeError):
            with torch.device("meta"):
                smaller = own.make(outputs=2, channels=1, image_size=own.smallest - 1)
            smaller.eval()(picture[..., 1:, 1:])
