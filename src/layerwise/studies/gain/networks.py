"""The networks of a gain study, each with the weights that transfer learning starts it from."""

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from layerwise.errors import LayerwiseError, ModelError, WeightsError
from layerwise.models.registry import blank, create
from layerwise.models.weights import fit_weights, read_weights
from layerwise.studies.workspace import Workspace
from layerwise.training.activations import state_digest

Weights = dict[str, Tensor]


@dataclass(frozen=True)
class Candidate:
    """A network of the study.

    Attributes:
        name: What it is called in figures; no two are called the same.
        model: A name of the registry.
        arguments: For its constructor.
        weights: A file, a run's folder or "pretrained"; None: it is first trained on other data
            of the user's, and those weights are its source.
    """

    name: str
    model: str
    arguments: Mapping[str, str]
    weights: str | None


@dataclass(frozen=True)
class Started:
    """A network's source weights.

    Attributes:
        weights: Fitted to the network; None: they come from a run of the study.
        name: What results call them.
        notes: What had to be done to them.
    """

    weights: Weights | None
    name: str
    notes: tuple[str, ...] = ()


def candidates(
    models: Sequence[str], weights: Sequence[str], arguments: Sequence[str], source: str | None
) -> list[Candidate]:
    """The networks that the flags name.

    Args:
        models: As `--model`, in order.
        weights: As `--weights`: none (pretrained for all), one for all, or one a model in order.
        arguments: As `--model-arg`: KEY=VALUE for all networks, MODEL:KEY=VALUE for one.
        source: As `--source`: data that each network is trained on first, in place of weights.

    Raises:
        LayerwiseError: The numbers do not fit, weights are "none", or a network is named twice.
    """
    if not models:
        raise LayerwiseError("a gain study needs a network; name one or more with --model")
    if source is not None and weights:
        raise LayerwiseError(
            f"--source {source} and --weights {weights[0]}: both would be what transfer learning "
            "starts from; leave one out"
        )
    if len(weights) not in (0, 1, len(models)):
        raise LayerwiseError(
            f"{len(weights)} --weights for {len(models)} --model; name one for all, or one a model "
            "in the same order"
        )
    if "none" in weights:
        raise WeightsError(
            "--weights none: this study compares pretrained weights with random ones, and so "
            "needs some; name a file, a run's folder or pretrained, or data with --source DATA2"
        )
    each = list(weights) * (len(models) if len(weights) == 1 else 1) or ["pretrained"] * len(models)
    pairs = [
        (model, None if source is not None else one)
        for model, one in zip(models, each, strict=True)
    ]
    twice = [pair for pair, count in Counter(pairs).items() if count > 1]
    if twice:
        raise LayerwiseError(f"--model {twice[0][0]} is named twice with the same weights; once do")
    common = Counter(model for model, _ in pairs)
    named = _arguments(models, arguments)
    return [
        Candidate(
            _shown(model) if common[model] == 1 else f"{_shown(model)}, {_file(one)}",
            model,
            named[model],
            one,
        )
        for model, one in pairs
    ]


def common_size(networks: Sequence[Candidate], asked: int | None) -> int:
    """The side in pixels of every picture of the study, the same for all its networks.

    With pictures of different sizes, a difference between networks would be one of pictures too.

    Args:
        networks: All of the study.
        asked: As `--image-size`; None: the largest of the networks' own sizes that all take.

    Raises:
        ModelError: A network is unknown, or does not take the size asked for; or no size is
            taken by all.
    """
    own = {}
    for candidate in networks:
        network = blank(candidate.model, outputs=1, image_size=asked, arguments=candidate.arguments)
        own[candidate.name] = network.contract.height
    if asked is not None:
        return asked
    for side in sorted(set(own.values()), reverse=True):
        if all(_takes(candidate, side) for candidate in networks):
            return side
    sizes = ", ".join(f"{name} {side}" for name, side in own.items())
    raise ModelError(
        f"no size of pictures is taken by all networks (their own: {sizes}); name one that all "
        "take with --image-size, or study them apart"
    )


def starts(networks: Sequence[Candidate], side: int, outputs: int = 1) -> list[Started]:
    """The source weights of every network.

    Args:
        networks: All of the study.
        side: Of the pictures.
        outputs: Of the networks; a classifier for another number is left out.

    Raises:
        WeightsError: A network has none: it is named, and where weights can come from.
    """
    out = []
    for candidate in networks:
        if candidate.weights is None:
            out.append(Started(None, "trained on the source data"))
            continue
        network = create(
            candidate.model, outputs=outputs, image_size=side, arguments=candidate.arguments
        )
        if candidate.weights == "pretrained" and network.pretrained is None:
            raise WeightsError(
                f"--model {candidate.model}: there are no published weights of it to start from; "
                f"train it on other pictures (`layerwise fit DATA2 --model {candidate.model} "
                "--weights none --out DIR`) and name --weights DIR/runs/ID, or let this study do "
                "so: --source DATA2"
            )
        try:
            found = read_weights(candidate.weights, network)
            fitted, notes = fit_weights(found, network, source=candidate.weights)
        except WeightsError as error:
            raise WeightsError(f"--model {candidate.model}: {error}") from error
        out.append(Started(fitted, source_name(candidate.model, candidate.weights), tuple(notes)))
    return out


def source_name(model: str, weights: str) -> str:
    """What a source is called in a transfer, as `prepare` calls it: runs of both are the same."""
    path = Path(weights)
    if path.is_dir():
        return f"run {path.resolve().name}"
    return f"{model}, pretrained" if weights == "pretrained" else path.name


def with_network(work: Workspace, candidate: Candidate, start: Started | None) -> Workspace:
    """The workspace with another network; without a start, it has no source weights.

    What is initialised at random then has the same key whatever weights it is compared with.
    """
    weights = None if start is None else start.weights
    return dataclasses.replace(
        work,
        model=candidate.model,
        arguments=dict(candidate.arguments),
        weights=weights,
        weights_name="none" if weights is None or start is None else start.name,
        weights_digest="none" if weights is None else state_digest(weights),
        keep="all",
        _cuts=[],
    )


def _arguments(models: Sequence[str], words: Sequence[str]) -> dict[str, dict[str, str]]:
    """The constructor's arguments of each model."""
    found: dict[str, dict[str, str]] = {model: {} for model in models}
    for word in words:
        key, equals, value = word.partition("=")
        model, _, name = key.strip().rpartition(":")
        if not equals or not name or (model and model not in found):
            some = f" (networks are {', '.join(found)})" if model else ""
            raise LayerwiseError(
                f"--model-arg {word!r} is neither KEY=VALUE, for all networks, nor "
                f"MODEL:KEY=VALUE, for one{some}; write {models[0]}:pad_type=same"
            )
        for one in [model] if model else models:
            found[one][name] = value.strip()
    return found


def _takes(candidate: Candidate, side: int) -> bool:
    """Whether a network takes pictures of this size."""
    try:
        blank(candidate.model, outputs=1, image_size=side, arguments=candidate.arguments)
    except ModelError:
        return False
    return True


def _shown(model: str) -> str:
    """A network's name without the library that it comes from."""
    return model.rpartition(":")[2]


def _file(weights: str | None) -> str:
    """Weights in a few letters."""
    if weights is None or weights == "pretrained":
        return "pretrained"
    return Path(weights).stem if not Path(weights).is_dir() else Path(weights).resolve().name
