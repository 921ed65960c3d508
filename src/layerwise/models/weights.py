"""Weights from a file, a run or a hub, read without running any code, and fitted to a network."""

import pickle
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from layerwise.errors import WeightsError
from layerwise.models.networks.foreign import first_convolution
from layerwise.models.registry import Network

NESTED = ("state_dict", "model_state_dict", "model", "net", "weights", "state_dict_ema")
SHOWN = 6  # differing keys that an error lists
Weights = dict[str, Tensor]


def read_weights(spec: str, network: Network) -> Weights:
    """Weights by name, as they stand in their source.

    Args:
        spec: A `.safetensors`, `.pth` or `.pt` file; the folder of a run; or "pretrained" for
            those that timm or torchvision offer for the network.
        network: What they are for.

    Raises:
        WeightsError: They can not be had, are damaged, or would have to run code to be read.
    """
    if spec == "pretrained":
        return _pretrained(network)
    path = Path(spec).expanduser()
    if path.is_dir():
        path = path / "weights.safetensors"
        if not path.is_file():
            raise WeightsError(
                f"--weights {spec}: the folder holds no finished run (no weights.safetensors); "
                "name a run's folder under runs/, or a file"
            )
    if not path.is_file():
        raise WeightsError(
            f"--weights {spec}: no such file; name a .safetensors or .pth file, a run's folder, "
            "pretrained or none"
        )
    found = _safetensors(path) if path.suffix == ".safetensors" else _torch(path)
    return {name.removeprefix("module."): tensor for name, tensor in found.items()}


def fit_weights(
    state: Mapping[str, Tensor], network: Network, source: str
) -> tuple[Weights, list[str]]:
    """Weights that the network takes, key by key, and what had to be done to them.

    A classifier of another shape is dropped, and other layers of the same head that differ. The
    first convolution is adapted to another number of channels: three channels are summed into one
    (what a grey picture given to all three would have caused), one is shared out to three.
    Anything else that differs is an error.

    Args:
        state: As `read_weights` gives it.
        network: What they are for.
        source: How the user named them, for the error.

    Returns:
        float32 weights under the network's names, without a dropped head; and notes.

    Raises:
        WeightsError: Listing what differs.
    """
    wanted = network.module.state_dict()
    dropped, notes = _dropped_head(state, network, source)
    first = f"{first_convolution(network.module)}.weight"
    fitted: Weights = {}
    wrong: list[str] = []
    inputs: list[str] = []  # those of `wrong` that another picture size explains
    for key, value in wanted.items():
        if key.startswith(dropped):
            continue
        if key not in state:
            if not key.endswith("num_batches_tracked"):
                wrong.append(f"missing: {key} {tuple(value.shape)}")
            continue
        found = state[key]
        if found.shape != value.shape:
            adapted = _adapt_channels(found, value) if key == first else None
            if adapted is None:
                wrong.append(f"{key} is {tuple(found.shape)}, needed {tuple(value.shape)}")
                if found.ndim == value.ndim == 2 and len(found) == len(value):
                    inputs.append(wrong[-1])
                continue
            notes.append(_channels_note(key, found, value))
            found = adapted
        if found.is_floating_point() and not found.is_meta and not found.isfinite().all():
            raise WeightsError(
                f"--weights {source}: {key} holds values that are no finite numbers; the training "
                "that made it diverged, or the file is damaged: name another one"
            )
        fitted[key] = found.to(value.dtype).clone()
    wrong += [
        f"unknown: {k}" for k in sorted(set(state) - set(wanted)) if not k.startswith(dropped)
    ]
    if wrong and wrong == inputs:
        side = network.contract.height
        raise WeightsError(
            f"--weights {source} does not fit --model {network.name} at {side}×{side} pixels: "
            + "; ".join(wrong[:SHOWN])
            + ". These weights are of pictures of another size: give the --image-size that they "
            "were trained with"
        )
    if wrong:
        more = f"\n  … and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
        raise WeightsError(
            f"--weights {source} does not fit --model {network.name}: {len(wrong)} of "
            f"{len(wanted)} keys differ\n  " + "\n  ".join(wrong[:SHOWN]) + more + "\n"
            "Name the network these weights were trained for (--model, --model-arg)."
        )
    return fitted, notes


def _dropped_head(
    state: Mapping[str, Tensor], network: Network, source: str
) -> tuple[tuple[str, ...], list[str]]:
    """The prefixes of keys that are dropped with a head that does not fit, and a notice.

    The head is the classifier alone, or, where other layers in one `nn.Sequential` with it differ
    too, all of that: people replace the whole of it.
    """
    wanted = network.module.state_dict()

    def differing(prefix: str) -> list[str]:
        keys = [key for key in {**wanted, **state} if key.startswith(prefix)]
        return [
            key
            for key in keys
            if key not in wanted or key not in state or state[key].shape != wanted[key].shape
        ]

    head = f"{network.classifier}."
    parent = network.classifier.rpartition(".")[0]
    whole = bool(parent) and type(network.module.get_submodule(parent)) is nn.Sequential
    if whole and any(not key.startswith(head) for key in differing(f"{parent}.")):
        note = f"The layers {parent} of {Path(source).name} are built differently"
        return (f"{parent}.",), [f"{note} and are dropped; new ones are learnt."]
    if not differing(head):
        return (), []
    shape = tuple(state[f"{head}weight"].shape) if f"{head}weight" in state else "absent"
    return (head,), [
        f"The classifier of {Path(source).name} ({network.classifier}, {shape}) is for other "
        "labels and is dropped; a new one is learnt."
    ]


def _adapt_channels(found: Tensor, wanted: Tensor) -> Tensor | None:
    """A convolution for 3 channels as one for 1, or the other way round; else None."""
    if found.ndim != 4 or found.shape[0] != wanted.shape[0] or found.shape[2:] != wanted.shape[2:]:
        return None
    if (found.shape[1], wanted.shape[1]) == (3, 1):
        return found.float().sum(dim=1, keepdim=True)
    if (found.shape[1], wanted.shape[1]) == (1, 3):
        return found.float().repeat(1, 3, 1, 1) / 3
    return None


def _channels_note(key: str, found: Tensor, wanted: Tensor) -> str:
    if found.shape[1] == 3:
        return (
            f"{key} was trained on colour and the network takes grey: its three channels are "
            "summed, which answers a grey picture as the colour network would."
        )
    return (
        f"{key} was trained on grey and the network takes colour: it is shared out evenly to "
        f"{wanted.shape[1]} channels, which answers a grey picture as before."
    )


def _safetensors(path: Path) -> Weights:
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(
            f"--weights {path}: not a whole .safetensors file ({error}); get it again"
        ) from error


def _torch(path: Path) -> Weights:
    """A `.pth` file, by torch's reader that only makes tensors and plain containers."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of other pickle protocols: what matters is an error
            found: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "weights_only" in str(error).lower() or "unsupported" in str(error).lower():
            raise WeightsError(
                f"--weights {path}: holds more than weights, and reading it would run code from "
                "the file; save its state_dict() alone and name that file"
            ) from error
        raise _damaged(path, error) from error
    except (RuntimeError, OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise _damaged(path, error) from error
    for _ in range(2):
        if isinstance(found, Mapping):
            inner = next((k for k in NESTED if isinstance(found.get(k), Mapping)), None)
            found = found[inner] if inner else found
    if not isinstance(found, Mapping) or not found:
        raise WeightsError(f"--weights {path}: holds no weights by name; save a state_dict()")
    odd = [key for key, value in found.items() if not isinstance(value, Tensor)]
    if odd:
        raise WeightsError(
            f"--weights {path}: {odd[0]!r} is no tensor; save the network's state_dict() alone"
        )
    return {str(key): value for key, value in found.items()}


def _damaged(path: Path, error: Exception) -> WeightsError:
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return WeightsError(f"--weights {path}: damaged or no weights file ({first}); get it again")


def _pretrained(network: Network) -> Weights:
    """The weights that timm or torchvision offer for it, from their cache or their hub."""
    kind, _, rest = (network.pretrained or "").partition(":")
    if not rest:
        raise WeightsError(
            f"--weights pretrained: {network.name} has none; name a file or a run, or use none"
        )
    try:
        if kind == "torchvision":
            import torchvision

            offered = torchvision.models.get_model_weights(rest)
            return dict(next(iter(offered)).get_state_dict(progress=False))
        import timm

        return dict(timm.create_model(rest, pretrained=True).state_dict())
    except Exception as error:  # hubs raise what their network libraries raise
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise WeightsError(
            f"--weights pretrained: the weights of {network.name} can not be fetched ({first}). "
            "Without a network, name a file: --weights FILE.safetensors or FILE.pth; or start at "
            "random: --weights none"
        ) from error
