"""The networks: our own by name, those of others as ``timm:NAME`` and ``torchvision:NAME``."""

import ast
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from layerwise.errors import ModelError
from layerwise.models.cuts import Cut, cut_points, output_shape
from layerwise.models.names import nearest
from layerwise.models.networks import alexnet, caffenet, cbr, custom, foreign, lenet, vgg
from layerwise.models.networks.foreign import IMAGENET_MEAN, IMAGENET_STD, contract, last_layer
from layerwise.models.pixels import InputContract
from layerwise.models.sizes import advice, takes

_TAKEN = {"num_classes", "in_chans", "pretrained", "weights", "outputs", "channels", "image_size"}


@dataclass(frozen=True)
class Network:
    """A network and what belongs to it.

    Attributes:
        name: As asked for.
        module: (N, C, H, W) float32 → logits (N, outputs).
        classifier: The module that makes the logits, by its dotted name.
        contract: What the network expects of its input.
        pretrained: The network whose pretrained weights are offered for this one: itself, or one
            with layers of the same names; None: there are none.
        made_of: All that its constructor was given. Networks where it is equal differ in their
            weights alone.
    """

    name: str
    module: nn.Module
    classifier: str
    contract: InputContract
    pretrained: str | None = None
    made_of: tuple[Hashable, ...] = ()


@dataclass(frozen=True)
class _Own:
    """How a network of our own is made; see `register`."""

    make: Callable[..., nn.Module]
    size: int
    smallest: int
    pretrained: str | None
    mean: tuple[float, ...]
    std: tuple[float, ...]


_OURS: dict[str, _Own] = {}
_SOUND: set[tuple[Hashable, ...]] = set()  # what `_check` has found to be so, by `made_of`
_CUTS: dict[tuple[Hashable, ...], list[Cut]] = {}  # likewise


def register(
    name: str,
    make: Callable[..., nn.Module],
    *,
    size: int = foreign.SIZE,
    smallest: int = 1,
    pretrained: str | None = None,
    mean: tuple[float, ...] = (0.5,),
    std: tuple[float, ...] = (0.5,),
) -> None:
    """Add a network of our own.

    Args:
        name: Without a colon.
        make: Takes ``outputs``, ``channels`` and ``image_size``, and by name whatever else
            ``--model-arg`` may set. The last `nn.Linear` of what it makes is the classifier.
        size: Side of its pictures in pixels, where none is asked for.
        smallest: The least side that it takes.
        pretrained: As of `Network`.
        mean: That its input is scaled to, one value or one a colour channel.
        std: Likewise.

    Raises:
        ValueError: The name is taken.
    """
    if name in _OURS:
        raise ValueError(f"a network named {name!r} is registered already")
    _OURS[name] = _Own(make, size, smallest, pretrained, mean, std)


def available() -> list[str]:
    """The names that `create` knows, our own first."""
    return sorted(_OURS) + foreign.names()


def offered_weights(name: str) -> str | None:
    """The network whose pretrained weights are offered for one of this name; see `Network`."""
    return _OURS[name].pretrained if name in _OURS else name if ":" in name else None


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
    with (
        _sizes_said(name, outputs, channels, image_size, arguments or {}),
        torch.random.fork_rng(devices=[]),
    ):
        torch.default_generator.manual_seed(seed)
        network = _make(name, outputs, channels, image_size, arguments or {})
        _check(network, outputs)
    return network


@contextmanager
def _sizes_said(
    name: str, outputs: int, channels: int, size: int | None, arguments: Mapping[str, str]
) -> Iterator[None]:
    """An error that comes of a foreign network's picture size says which sizes it takes."""
    try:
        yield
    except ModelError as error:
        if size is None or ":" not in name:
            raise
        sizes = _advice(name, outputs, channels, size, arguments)
        if sizes is None:  # it is not the size
            raise
        raise ModelError(
            f"--model {name} does not take pictures of {size}×{size} pixels: {sizes}; choose "
            "another --image-size"
        ) from error


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
    with (
        _sizes_said(name, outputs, channels, image_size, arguments or {}),
        torch.random.fork_rng(devices=[]),
    ):
        network = _made_without_memory(name, outputs, channels, image_size, arguments or {})
        # What was made of zeros, ones or given numbers follows; shared parameters stay shared.
        moved: dict[int, nn.Parameter] = {}
        for part in network.module.modules():
            for key, value in part._parameters.items():
                if value is not None and not value.is_meta:
                    new = nn.Parameter(value.detach().to("meta"), value.requires_grad)
                    part._parameters[key] = moved.setdefault(id(value), new)
        _check(network, outputs)
    return network


def _made_without_memory(
    name: str, outputs: int, channels: int, size: int | None, arguments: Mapping[str, str]
) -> Network:
    try:
        with _WithoutMemory():
            return _make(name, outputs, channels, size, arguments)
    except ModelError as error:
        if not isinstance(error.__cause__, RuntimeError):
            raise
        # A constructor that runs a part of its network (timm's hybrids) needs weights.
        return _make(name, outputs, channels, size, arguments)


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
    options = parse_arguments(arguments)
    made_of = (_OURS.get(name, name), outputs, channels, size, *sorted(arguments.items()))
    try:
        made = foreign.make(name, outputs, channels, size, options)
        if made is not None:
            return Network(name, made.module, made.classifier, made.contract, name, made_of)
        if name in _OURS:
            return replace(_ours(name, outputs, channels, size, options), made_of=made_of)
    except (TypeError, ValueError, RuntimeError, AssertionError, KeyError) as error:
        flags = " ".join(f"--model-arg {k}={v}" for k, v in arguments.items())
        raise ModelError(
            f"--model {name} {flags}: the network can not be made ({error}); check its "
            "--model-arg and --image-size"
        ) from error
    raise ModelError(
        f"--model {name}: no such network; near to it are {', '.join(nearest(name, available()))} "
        "(`layerwise models` lists all)"
    )


def _advice(
    name: str, outputs: int, channels: int, asked: int, arguments: Mapping[str, str]
) -> str | None:
    """What picture sizes a foreign network takes; None: none."""

    def make(size: int | None) -> Network | None:
        try:
            with torch.random.fork_rng(devices=[]), _WithoutMemory():
                return _make(name, outputs, channels, size, arguments)
        except ModelError:
            return None

    usual = make(None)
    if usual is None:
        return None

    def accepts(size: int) -> bool:
        network = make(size) if foreign.is_made_for_size(name) else usual
        return network is not None and takes(network.module, channels, size)

    return advice(accepts, asked, usual.contract.height)


def cuts_of(network: Network) -> list[Cut]:
    """As `cut_points`, of a network as it was made; of equal ones they are looked for once.

    Raises:
        ModelError: As `cut_points`.
    """
    found = _CUTS.get(network.made_of)
    if found is None:
        expected = network.contract
        size = (expected.channels, expected.height, expected.width)
        found = cut_points(network.module, size)
        if network.made_of:
            _CUTS[network.made_of] = found
    return list(found)


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


def _ours(
    name: str, outputs: int, channels: int, size: int | None, options: dict[str, Any]
) -> Network:
    own = _OURS[name]
    side = own.size if size is None else size
    if side < own.smallest:
        raise ModelError(
            f"--model {name} needs pictures of at least {own.smallest} pixels, not {side}; choose "
            "another --image-size"
        )
    module = own.make(outputs=outputs, channels=channels, image_size=side, **options)
    expected = contract(side, channels, own.mean, own.std)
    return Network(name, module, last_layer(module, outputs), expected, own.pretrained)


def _check(network: Network, outputs: int) -> None:
    """Refuse a network that does not do what its description says; equal ones are tried once."""
    if network.made_of in _SOUND:
        return
    expected = network.contract
    shape = output_shape(network.module, (expected.channels, expected.height, expected.width))
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
    _SOUND.add(network.made_of)


register("lenet5", lenet.LeNet5, smallest=lenet.SMALLEST)
register("alexnet", alexnet.AlexNet, smallest=alexnet.SMALLEST)
register(
    *("vgg16", vgg.VGG16),
    smallest=vgg.SMALLEST,
    pretrained="torchvision:vgg16",
    mean=IMAGENET_MEAN,
    std=IMAGENET_STD,
)
register("caffenet", caffenet.CaffeNet, size=227, smallest=caffenet.SMALLEST)
register("caffenet-32", caffenet.CaffeNet32, size=32, smallest=caffenet.SMALLEST_32)
register("cbr-larget", cbr.large_t)
register("cbr-largew", cbr.large_w)
register("cbr-small", cbr.small)
register("cbr-tiny", cbr.tiny)
register("custom", custom.Custom)
