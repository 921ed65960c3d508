"""The networks: our own by name, those of others as ``timm:NAME`` and ``torchvision:NAME``."""

import ast
import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import timm
import torch
import torchvision
from torch import nn
from torch.overrides import TorchFunctionMode

from layerwise.errors import ModelError
from layerwise.models.cuts import output_shape
from layerwise.models.lenet import LeNet5
from layerwise.models.pixels import InputContract

_OURS: dict[str, Callable[..., nn.Module]] = {}
_TAKEN = {"num_classes", "in_chans", "pretrained", "weights", "outputs", "channels", "image_size"}
_SIZE = 224  # pixels, where a network does not say
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Network:
    """A network and what belongs to it.

    Attributes:
        name: As asked for.
        module: (N, C, H, W) float32 → logits (N, outputs).
        classifier: The module that makes the logits, by its dotted name.
        contract: What the network expects of its input.
    """

    name: str
    module: nn.Module
    classifier: str
    contract: InputContract


def register(name: str, make: Callable[..., nn.Module]) -> None:
    """Add a network of our own: a function of ``outputs``, ``channels`` and ``image_size``.

    Its last `nn.Linear` is its classifier.

    Raises:
        ValueError: The name is taken.
    """
    if name in _OURS:
        raise ValueError(f"a network named {name!r} is registered already")
    _OURS[name] = make


def available() -> list[str]:
    """The names that `create` knows, our own first."""
    foreign = [f"timm:{name}" for name in timm.list_models()]
    return sorted(_OURS) + foreign + [f"torchvision:{name}" for name in _torchvision_names()]


def create(
    name: str,
    *,
    outputs: int,
    seed: int = 0,
    channels: int = 3,
    image_size: int | None = None,
    arguments: Mapping[str, str] | None = None,
) -> Network:
    """Make a network with random weights.

    Args:
        name: One of `available`.
        outputs: How many logits it gives.
        seed: Of its weights; the global random state is not touched.
        channels: Of its input, 1 or 3.
        image_size: Side of its square input in pixels; None: what the network was made for.
        arguments: Of its constructor, as text (``--model-arg KEY=VALUE``).

    Raises:
        ModelError: The name or an argument is unknown, the network can not be traced, or it does
            not accept pictures of this size.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        network = _make(name, outputs, channels, image_size, arguments or {})
    _check(network, outputs)
    return network


def blank(
    name: str,
    *,
    outputs: int,
    channels: int = 3,
    image_size: int | None = None,
    arguments: Mapping[str, str] | None = None,
) -> Network:
    """The same network as `create` makes, without weights: quick, and nearly no memory.

    Good for shapes, cuts and counts, also of networks larger than this machine's memory.

    Args:
        name: As for `create`, like all that follow.
        outputs: How many logits it gives.
        channels: Of its input, 1 or 3.
        image_size: Side of its square input in pixels; None: what the network was made for.
        arguments: Of its constructor, as text.

    Returns:
        A network whose parameters all lie on torch's meta device.

    Raises:
        ModelError: As `create`.
    """
    with torch.random.fork_rng(devices=[]), _WithoutMemory():
        network = _make(name, outputs, channels, image_size, arguments or {})
    # What was made of zeros, ones or given numbers follows; a shared parameter stays shared.
    moved: dict[int, nn.Parameter] = {}
    for part in network.module.modules():
        for key, value in part._parameters.items():
            if value is not None and not value.is_meta:
                new = nn.Parameter(value.detach().to("meta"), value.requires_grad)
                part._parameters[key] = moved.setdefault(id(value), new)
    _check(network, outputs)
    return network


class _WithoutMemory(TorchFunctionMode):
    """`torch.empty`, which layers make their parameters with, reserves nothing.

    Buffers, and numbers that a constructor computes with, are made as ever: some are looked at.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - what the function returns
        """The function itself, but for `torch.empty` where no device is asked for."""
        kwargs = kwargs or {}
        if func is torch.empty and kwargs.get("device") is None:
            kwargs = kwargs | {"device": "meta"}
        return func(*args, **kwargs)


def _make(
    name: str, outputs: int, channels: int, size: int | None, arguments: Mapping[str, str]
) -> Network:
    """A network by its name, with weights from the global random state."""
    source, _, kind = name.partition(":")
    options = parse_arguments(arguments)
    try:
        if source == "timm" and timm.is_model(kind):
            return _from_timm(name, kind, outputs, channels, size, options)
        if source == "torchvision" and kind in _torchvision_names():
            return _from_torchvision(name, kind, outputs, channels, size, options)
        if name in _OURS:
            return _ours(name, outputs, channels, size, options)
    except (TypeError, ValueError, RuntimeError, AssertionError, KeyError) as error:
        flags = " ".join(f"--model-arg {k}={v}" for k, v in arguments.items())
        raise ModelError(
            f"--model {name} {flags}: the network can not be made ({error}); check its "
            "--model-arg and --image-size"
        ) from error
    near = difflib.get_close_matches(name, available(), n=3, cutoff=0.3)
    raise ModelError(
        f"--model {name}: no such network; near to it are {', '.join(near)} "
        "(`layerwise models` lists all)"
    )


def parse_arguments(arguments: Mapping[str, str]) -> dict[str, Any]:
    """Constructor arguments from text: Python literals where they are some, else strings.

    Raises:
        ModelError: An argument is one that Layerwise itself sets.
    """
    for key in sorted(set(arguments) & _TAKEN):
        raise ModelError(
            f"--model-arg {key}: Layerwise sets it (from the labels, --image-size and --weights); "
            "leave it out"
        )
    options = {}
    for key, text in arguments.items():
        try:
            options[key] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            options[key] = text
    return options


def _from_timm(
    name: str, kind: str, outputs: int, channels: int, size: int | None, options: dict[str, Any]
) -> Network:
    fixed = timm.get_pretrained_cfg(kind)
    if size is not None and fixed is not None and fixed.fixed_input_size:
        options = {"img_size": size} | options
    module: Any = timm.create_model(
        kind, pretrained=False, num_classes=outputs, in_chans=channels, **options
    )
    if "NHWC" in str(getattr(module, "output_fmt", "")):
        raise ModelError(
            f"--model {name}: its activations have their channels last, which Layerwise does not "
            "read; choose another network with --model"
        )
    config = module.pretrained_cfg
    classifier = config.get("classifier")
    if not isinstance(classifier, str):
        classifier = _last_layer(module, outputs)
    side = size or (config.get("input_size") or (3, _SIZE, _SIZE))[-1]
    mean, std = config.get("mean", _IMAGENET_MEAN), config.get("std", _IMAGENET_STD)
    return Network(name, module, classifier, _contract(side, channels, mean, std))


def _from_torchvision(
    name: str, kind: str, outputs: int, channels: int, size: int | None, options: dict[str, Any]
) -> Network:
    if kind in ("googlenet", "inception_v3"):  # no second answers in training
        options = {"aux_logits": False, "init_weights": True} | options
    preset = torchvision.models.get_model_weights(kind).DEFAULT.transforms()
    side = size or preset.crop_size[0]
    if kind.startswith("vit_"):
        options = {"image_size": side} | options
    module = torchvision.models.get_model(kind, weights=None, num_classes=outputs, **options)
    if channels != 3:
        _replace_first_convolution(module, channels)
    contract = _contract(side, channels, preset.mean, preset.std)
    return Network(name, module, _last_layer(module, outputs), contract)


def _ours(
    name: str, outputs: int, channels: int, size: int | None, options: dict[str, Any]
) -> Network:
    side = size or _SIZE
    module = _OURS[name](outputs=outputs, channels=channels, image_size=side, **options)
    half = (0.5,) * channels
    return Network(
        name, module, _last_layer(module, outputs), _contract(side, channels, half, half)
    )


def _contract(
    side: int, channels: int, mean: tuple[float, ...], std: tuple[float, ...]
) -> InputContract:
    """The contract; a network of one channel takes the average of three."""
    if channels != len(mean):
        mean, std = (sum(mean) / len(mean),) * channels, (sum(std) / len(std),) * channels
    return InputContract(side, side, channels, tuple(map(float, mean)), tuple(map(float, std)))


def _torchvision_names() -> list[str]:
    names: list[str] = torchvision.models.list_models(module=torchvision.models)
    return names


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


def _last_layer(module: nn.Module, outputs: int) -> str:
    """The last linear layer or convolution with this many outputs."""
    names = [
        name
        for name, part in module.named_modules()
        if getattr(part, "out_features", getattr(part, "out_channels", None)) == outputs
        and isinstance(part, (nn.Linear, nn.Conv2d))
    ]
    return names[-1] if names else ""


def _check(network: Network, outputs: int) -> None:
    """Refuse a network that does not do what its description says."""
    contract = network.contract
    shape = output_shape(network.module, (contract.channels, contract.height, contract.width))
    try:
        layer: nn.Module | None = network.module.get_submodule(network.classifier)
    except AttributeError:
        layer = None
    found = getattr(layer, "out_features", getattr(layer, "out_channels", None))
    if shape[1:] != (outputs,) or found != outputs or not network.classifier:
        raise ModelError(
            f"--model {network.name} does not end in one layer with {outputs} outputs (it gives "
            f"{shape[1:]}); choose another network"
        )


register("lenet5", LeNet5)
