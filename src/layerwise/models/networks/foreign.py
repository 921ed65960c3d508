"""The networks of timm and torchvision, made for other labels, channels and picture sizes."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import timm
import torchvision
from torch import nn

from layerwise.models.pixels import InputContract

SIZE = 224  # pixels, where a network does not say
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Made:
    """A network, the name of the layer that makes its logits, and what it expects."""

    module: nn.Module
    classifier: str
    contract: InputContract


def names() -> list[str]:
    """All of them, as ``timm:NAME`` and ``torchvision:NAME``."""
    kinds = torchvision.models.list_models(module=torchvision.models)
    return [f"timm:{kind}" for kind in timm.list_models()] + [f"torchvision:{k}" for k in kinds]


def make(
    name: str, outputs: int, channels: int, size: int | None, options: dict[str, Any]
) -> Made | None:
    """A network with weights from the global random state; None: there is none of this name.

    Raises:
        Exception: What its own constructor raises.
    """
    source, _, kind = name.partition(":")
    if source == "timm" and timm.is_model(kind):
        return _from_timm(name, kind, outputs, channels, size, options)
    if source == "torchvision" and kind in torchvision.models.list_models(torchvision.models):
        return _from_torchvision(kind, outputs, channels, size, options)
    return None


def is_made_for_size(name: str) -> bool:
    """Whether a network of another picture size is another network."""
    source, _, kind = name.partition(":")
    if source == "torchvision":
        return kind.startswith("vit_")
    return bool(getattr(timm.get_pretrained_cfg(kind), "fixed_input_size", False))


def _from_timm(
    name: str, kind: str, outputs: int, channels: int, size: int | None, options: dict[str, Any]
) -> Made:
    if size is not None and is_made_for_size(name):
        options = {"img_size": size} | options
    make = partial(timm.create_model, kind, False, num_classes=outputs, in_chans=channels)
    module: Any = make(**options)
    if getattr(module, "dynamic_img_size", False) and getattr(module, "rope", None) is not None:
        # Positions computed for every picture anew would cross all cuts; its size is known.
        module = make(**{"dynamic_img_size": False} | options)
    config = module.pretrained_cfg
    classifier = config.get("classifier")
    if not isinstance(classifier, str):
        classifier = last_layer(module, outputs)
    side = size or (config.get("input_size") or (3, SIZE, SIZE))[-1]
    mean, std = config.get("mean", IMAGENET_MEAN), config.get("std", IMAGENET_STD)
    return Made(module, classifier, contract(side, channels, mean, std))


def _from_torchvision(
    kind: str, outputs: int, channels: int, size: int | None, options: dict[str, Any]
) -> Made:
    if kind in ("googlenet", "inception_v3"):  # no second answers in training
        options = {"aux_logits": False, "init_weights": True} | options
    preset = torchvision.models.get_model_weights(kind).DEFAULT.transforms()
    side = size or preset.crop_size[0]
    if kind.startswith("vit_"):
        options = {"image_size": side} | options
    module = torchvision.models.get_model(kind, weights=None, num_classes=outputs, **options)
    if channels != 3:
        _replace_first_convolution(module, channels)
    expected = contract(side, channels, preset.mean, preset.std)
    return Made(module, last_layer(module, outputs), expected)


def contract(
    side: int, channels: int, mean: tuple[float, ...], std: tuple[float, ...]
) -> InputContract:
    """The contract; a network of one channel takes the average of three."""
    if channels != len(mean):
        mean, std = (sum(mean) / len(mean),) * channels, (sum(std) / len(std),) * channels
    return InputContract(side, side, channels, tuple(map(float, mean)), tuple(map(float, std)))


def first_convolution(module: nn.Module) -> str:
    """The name of the convolution that reads the picture; "" where there is none."""
    return next((n for n, part in module.named_modules() if isinstance(part, nn.Conv2d)), "")


def _replace_first_convolution(module: nn.Module, channels: int) -> None:
    """Let a network of torchvision, which is made for three channels, read another number."""
    path, _, name = first_convolution(module).rpartition(".")
    parent = module.get_submodule(path)
    old = getattr(parent, name)
    new = nn.Conv2d(
        channels,
        old.out_channels,
        old.kernel_size,
        old.stride,
        old.padding,
        old.dilation,
        bias=old.bias is not None,
    )
    setattr(parent, name, new)


def last_layer(module: nn.Module, outputs: int) -> str:
    """The last linear layer or convolution with this many outputs."""
    names = [
        name
        for name, part in module.named_modules()
        if getattr(part, "out_features", getattr(part, "out_channels", None)) == outputs
        and isinstance(part, (nn.Linear, nn.Conv2d))
    ]
    return names[-1] if names else ""
