"""A bundle in 8-bit integers, and what that costs and brings, measured. No torch.

Static quantisation by ONNX Runtime: every weight and activation becomes an 8-bit integer with a
scale, weights one scale a channel, activations the range that validation pictures gave (Jacob et
al. 2018). The graph keeps standard operators, QuantizeLinear and DequantizeLinear around the old
ones, and ONNX Runtime puts its integer kernels in their place when it loads it.
"""

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerwise.config import to_mapping
from layerwise.errors import BundleError, DataError
from layerwise.evaluation.intervals import bootstrap, paired_difference
from layerwise.evaluation.metrics import Threshold, measure
from layerwise.evaluation.operating import choose_threshold, decide
from layerwise.evaluation.predictions import Predictions
from layerwise.evaluation.timing import in_turns, processor, speedup, summary
from layerwise.models.onnx_session import INPUT
from layerwise.reporting.plain import finite
from layerwise.serving.bundle import Bundle, write_bundle
from layerwise.serving.card import CARD, EXPLAIN, MODEL, OUTPUT, BundleInfo
from layerwise.serving.labelled import Labelled, predictions
from layerwise.serving.sizes import shape_values
from layerwise.serving.statistics import Statistics
from layerwise.serving.verify import Verified, verify

PICTURES = 128
"""Of the validation part that give the ranges of activations."""
BATCH = 8
HEAVY = {"Conv", "ConvTranspose", "Gemm", "MatMul"}
METHOD = (
    "static, 8-bit activations with the smallest and largest value of the calibration, 8-bit "
    "weights of 7 bits' range by channel"
)
WAYS = ("everything", "layers with weights", "layers with weights, but no depthwise ones")
"""What is rounded: the first way that costs little enough is taken, else the one that costs least.
A small MobileNetV3 (squeeze-and-excitation, hard-swish) lost much of its AUROC by the first."""
ENOUGH = 0.005
"""Of AUROC on validation: what costs no more is taken."""

Say = Callable[[str], None]


def quantise(
    folder: str | Path,
    images: Labelled,
    out: str | Path,
    *,
    pictures: int = PICTURES,
    seconds: float = 30.0,
    threads: int = 1,
    seed: int = 0,
    say: Say,
) -> dict[str, Any]:
    """Write a bundle in 8-bit integers, and say what it costs and brings.

    Calibration, threshold and comparison see the validation part only. The test part, if there is
    one, is looked at last and decides nothing.

    Args:
        folder: The bundle to quantise.
        images: DATA, its validation part to be measured on.
        out: The new bundle's folder.
        pictures: How many of the validation part give the ranges.
        seconds: For the comparison of speed.
        threads: Of ONNX Runtime.
        seed: Of which pictures these are, and of the resamples.
        say: Told what is done.

    Returns:
        What `quantised` of the new bundle says, and "id", "threshold" and "test" of it.

    Raises:
        BundleError: It is in 8-bit integers already, or ONNX Runtime can not quantise it.
        DataError: `images` are not a validation part.
    """
    found = verify(folder)
    if found.info.quantised is not None:
        raise BundleError(f"{folder} computes with 8-bit integers already; name the one before")
    if images.part != "validation":
        raise DataError(
            f"{images.manifest.name} has no validation part, by which ranges and threshold are "
            "chosen; give the data of the fit, or a manifest of `layerwise split`"
        )
    chosen = np.random.default_rng(seed).permutation(images.rows)[:pictures]
    say(f"calibrating with {len(chosen)} validation pictures")
    with tempfile.TemporaryDirectory() as workplace:
        before = Bundle.load(folder, threads)
        one = predictions(before, images)
        tried: dict[str, float] = {}
        for way in WAYS:
            batches = (images.store.read(np.sort(rows)) for rows in _in_batches(chosen))
            made = quantised_graph(found.graphs[MODEL], batches, way)
            new = _trial(workplace, made, found, threads)
            other = predictions(new, images)
            tried[way] = _auroc(found.info, one) - _auroc(found.info, other)
            say(f"{way} in 8-bit integers: {-tried[way]:+.4f} AUROC on validation")
            # Also taken where there is no AUROC: NaN is not above anything.
            if len(tried) == 1 or tried[way] < min(list(tried.values())[:-1]):
                taken, graph, after, said = way, made, new, (one, other)
            if not tried[way] > ENOUGH:
                break
        about, threshold = _compared(found.info, before, *said, seed)
        say("comparing the speed of both")
        example = images.store.read(images.rows[:1])
        about |= _timed(before, after, example, seconds, threads)
        about |= {
            "method": METHOD,
            "rounded": taken,
            "tried": finite({way: -cost for way, cost in tried.items()}),
            "made_from": found.id,
            "calibration": {"part": "validation", "images": len(chosen), "seed": seed},
            "bytes": {"before": len(found.graphs[MODEL]), "after": len(graph)},
        }
        test = _tested(found.info, after, images, threshold, seed)
        info = replace(
            found.info,
            threshold=threshold,
            scores=test,
            quantised=about,
            explanation=_explanation(found.info),
            statistics=_statistics(found.info, said[1], threshold),
        )
        model = Path(workplace) / MODEL
        model.write_bytes(graph)
        write_bundle(out, model, info, _others(found))
    return {**about, "id": verify(out).id, "threshold": threshold, "test": test}


def quantised_graph(
    graph: bytes, batches: Iterable[NDArray[np.uint8]], way: str = WAYS[0]
) -> bytes:
    """A graph in 8-bit integers.

    What comes after the last layer with weights (the sigmoid or softmax) stays as it is: a
    probability in 8 bits would be one of 256.

    Args:
        graph: `model.onnx` of a bundle.
        batches: Pictures uint8 (n, H, W, C) that give the ranges of activations.
        way: One of `WAYS`.

    Raises:
        BundleError: ONNX Runtime can not quantise it.
    """
    import onnx
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.rest = iter(batches)

        def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
            some = next(self.rest, None)
            return None if some is None else {INPUT: some}

    model = onnx.ModelProto.FromString(graph)
    for number, node in enumerate(model.graph.node):
        node.name = node.name or f"node_{number}"
    # Else ONNX Runtime logs that the graph should be prepared first. It was, by the exporter.
    model.metadata_props.add(key="onnx.quant.pre_process", value="onnxruntime.quant")
    with tempfile.TemporaryDirectory() as workplace:
        source, target = Path(workplace) / "source.onnx", Path(workplace) / "target.onnx"
        source.write_bytes(model.SerializeToString())
        try:
            quantize_static(
                source,
                target,
                Reader(),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                # Processors without VNNI add two products of 8 bits in 16: full weights overflow.
                reduce_range=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                op_types_to_quantize=None if way == WAYS[0] else sorted(HEAVY),
                nodes_to_exclude=_left_alone(model, depthwise=way == WAYS[2]),
            )
        except Exception as error:  # of ONNX Runtime, whose classes share no public root
            first = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise BundleError(
                f"this network can not be written in 8-bit integers ({first}); serve it as it is"
            ) from error
        made = onnx.ModelProto.FromString(target.read_bytes())
    used = {node.domain for node in made.graph.node}
    opsets = [o for o in made.opset_import if o.domain == "" or o.domain in used]
    del made.opset_import[:]
    made.opset_import.extend(opsets)
    del made.metadata_props[:]
    del made.graph.value_info[:]
    content: bytes = made.SerializeToString()
    return content


def _left_alone(model: Any, *, depthwise: bool) -> list[str]:  # noqa: ANN401 - a protobuf message
    """The nodes that stay as they are, by name.

    Those between the last layers with weights and the outputs; and those that compute with sizes:
    a padding of 3 pixels in 8 bits may become one of 2. With `depthwise`, convolutions by groups
    too.
    """
    graph = model.graph
    size = [d.dim_value for d in graph.input[0].type.tensor_type.shape.dim[1:]]
    shapes = shape_values(model, {INPUT: ("UINT8", (1, *size))}, MODEL)
    makers = {name: node for node in graph.node for name in node.output}
    outputs = [value.name for value in graph.output]
    # Whoever makes another output keeps it under its name.
    alone = {makers[name].name for name in outputs if makers[name].op_type not in HEAVY}
    alone |= {node.name for node in graph.node if shapes & set(node.output)}
    if depthwise:
        groups = {
            node.name: a.i for node in graph.node for a in node.attribute if a.name == "group"
        }
        alone |= {name for name, count in groups.items() if count > 1}
    waiting, seen = [OUTPUT], set()
    while waiting:
        name = waiting.pop()
        node = makers.get(name)
        if node is None or name in seen or node.op_type in HEAVY:
            continue
        seen.add(name)
        alone.add(node.name)
        waiting.extend(node.input)
    return sorted(alone)


def _trial(workplace: str, graph: bytes, found: Verified, threads: int) -> Bundle:
    """The new graph as a bundle that can be asked; with the threshold of the old one."""
    folder, model = Path(workplace) / "trial", Path(workplace) / "trial.onnx"
    model.write_bytes(graph)
    return Bundle.load(write_bundle(folder, model, found.info, _others(found)), threads)


def _others(found: Verified) -> Mapping[str, bytes | Path]:
    """What the new bundle has of the old one as it is."""
    return {EXPLAIN: found.graphs[EXPLAIN]} if EXPLAIN in found.graphs else {}


def _explanation(info: BundleInfo) -> dict[str, Any] | None:
    """The old explaining graph has the weights before: it explains the new network nearly."""
    about = info.explanation
    if about is None or about.get("cut") is None:
        return about
    return {**about, "exact": False, "why": "its weights are those before the 8-bit integers"}


def _statistics(info: BundleInfo, said: Predictions, threshold: Threshold) -> dict[str, Any] | None:
    """The old statistics of inputs, with the new network's scores."""
    if info.statistics is None:
        return None
    old = Statistics.from_json(info.statistics, CARD)
    new = old.beside()
    new.inputs = old.inputs
    new.add_scores(said.scores, decide(info.task, said.scores, threshold))
    return new.to_json()


def _in_batches(rows: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    for start in range(0, len(rows), BATCH):
        yield rows[start : start + BATCH]


def _auroc(info: BundleInfo, said: Predictions) -> float:
    threshold = None if info.task == "multiclass" else 0.5
    return float(measure(info.task, said.targets, said.scores, threshold)["auroc"])


def _compared(
    info: BundleInfo, before: Bundle, one: Predictions, other: Predictions, seed: int
) -> tuple[dict[str, Any], Any]:
    """The cost on validation, JSON-able, and the threshold that it chooses for the new network."""
    task, groups = info.task, one.groups
    threshold = choose_threshold(task, other.targets, other.scores, groups, seed=seed)
    old = before.decide(one.scores)
    new = decide(task, other.scores, threshold)
    same = (old == new).reshape(len(old), -1).all(axis=1)  # (n,)
    difference = paired_difference(
        "auroc", task, one.targets, other.scores, one.scores, groups, seed=seed
    )
    return {
        "validation_images": len(same),
        "auroc_difference": finite(difference),
        "largest_difference": float(np.abs(other.scores - one.scores).max()),
        "agreement": float(same.mean()),
        "disagree": int((~same).sum()),
        "threshold_before": to_mapping(info)["threshold"],
    }, threshold


def _timed(
    before: Bundle, after: Bundle, example: NDArray[np.uint8], seconds: float, threads: int
) -> dict[str, Any]:
    """Both at batch 1, in turns."""
    runs = {"before": lambda: before.run(example), "after": lambda: after.run(example)}
    rounds, counts = in_turns(runs, seconds)
    both = {name: summary(rounds[name], counts[name], 1) for name in runs}
    keep = ("median_ms", "low_ms", "high_ms", "runs")
    return {
        "latency": {
            "batch": 1,
            "threads": threads,
            "cores": len(os.sched_getaffinity(0)),
            "processor": processor(),
            "rounds": len(rounds["before"]),
            **{n: {k: v for k, v in to_mapping(b).items() if k in keep} for n, b in both.items()},
        },
        "speedup": finite(speedup(both["before"], both["after"])),
    }


def _tested(
    info: BundleInfo,
    after: Bundle,
    images: Labelled,
    threshold: Threshold,
    seed: int,
) -> dict[str, Any]:
    """The test part's scores, everything being chosen; empty without one."""
    rows = images.manifest.indices("test")
    if not len(rows):
        return {}
    said = predictions(after, replace(images, rows=rows, part="test"))
    values = bootstrap(
        info.task, said.targets, said.scores, threshold, said.groups, labels=info.labels, seed=seed
    )
    return dict(finite(values))
