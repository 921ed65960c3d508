"""The pass over all cuts against a plain forward pass, and the whole depth profile.

    python bench/all_cuts.py IMAGES --model timm:mobilenetv2_100 --model-arg pad_type=same \
        --weights FILE --patient-from REGEX

Both passes run the same network in ONNX Runtime on the same pictures, in turn, A B A B …; the
ratio is taken pair by pair and its median printed. Then the profile (pass and probes) is timed
once, from an empty cache of activations.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from layerwise.cli.flags import parse_pairs
from layerwise.data.load import DataOptions
from layerwise.models.pixels import Pixels
from layerwise.studies.prepare import Request, prepare
from layerwise.studies.profile import auroc, profile
from layerwise.training.activations import PooledCuts, Runner
from layerwise.training.inputs import ImageInputs
from layerwise.training.transfer import Transfer


class Plain(torch.nn.Module):
    """Pictures to logits: the plain forward pass."""

    def __init__(self, pixels: Pixels, network: torch.nn.Module) -> None:
        super().__init__()
        self.pixels, self.network = pixels, network

    def forward(self, images):
        return self.network(self.pixels(images))


def seconds(runner, inputs, count):
    started = time.perf_counter()
    starts = range(0, count, runner.batch)
    rows = (np.arange(start, min(count, start + runner.batch)) for start in starts)
    for _ in runner.map(inputs.read(part, None) for part in rows):
        pass
    return time.perf_counter() - started


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("data")
    parser.add_argument("--model", default="timm:mobilenetv2_100")
    parser.add_argument("--model-arg", action="append", default=[])
    parser.add_argument("--weights", default="none")
    parser.add_argument("--patient-from")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--images", type=int, default=512, help="pictures in each timed pass")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        request = Request(
            data=args.data,
            out=Path(folder) / "out",
            cache=Path(folder) / "cache",
            options=DataOptions(patient_from=args.patient_from),
            model=args.model,
            arguments=parse_pairs(args.model_arg),
            weights=args.weights,
            image_size=args.image_size,
            threads=args.threads,
        )
        work = prepare(request, print, lambda _: lambda *_: None, lambda *_: 0).work
        cuts = [cut.name for cut in work.cuts()]
        network = work.network(Transfer(work.weights_name if args.weights != "none" else "none"))
        inputs = ImageInputs(work.store, "none", 0)
        example = inputs.read(np.arange(2), None)
        runners = [
            Runner(module, example, work.device, args.threads)
            for module in (
                PooledCuts(network.pixels, network.original, cuts),
                Plain(network.pixels, network.original),
            )
        ]
        count = min(args.images, len(work.store))
        for runner in runners:
            seconds(runner, inputs, min(64, count))  # warm-up
        pairs = [[seconds(r, inputs, count) for r in runners] for _ in range(args.rounds)]
        ratios = [every / plain for every, plain in pairs]
        print(f"cuts: {len(cuts)}, images a pass: {count}, rounds: {args.rounds}")
        print(f"plain forward: {count / statistics.median(p for _, p in pairs):.0f} images/s")
        print(
            f"every cut / plain: {statistics.median(ratios):.3f} "
            f"(min {min(ratios):.3f}, max {max(ratios):.3f})"
        )
        started = time.perf_counter()
        probes = profile(work)
        print(
            f"whole profile of {len(cuts)} cuts on {len(work.store)} pictures: "
            f"{time.perf_counter() - started:.1f} s"
        )
        for probe in probes:
            print(f"  {probe.cut.name:<24}{auroc(work, probe.outcome):.4f} validation AUROC")


if __name__ == "__main__":
    main()
