"""Curves whose facts are known, because they are made of them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

Curves = dict[str, Any]
SEVEN = ["conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7"]
HALF = 0.01  # of every interval

# Differences to the base by layer. Layers 1 and 2 are general for random halves and layer 1 for the
# named groups; BnB is fragile at 3 to 6 and BnB+ recovers; AnB+ gains 0.021 at every layer.
PAPER: Mapping[str, Mapping[str, Sequence[float]]] = {
    "random": {
        "BnB": [0.001, -0.002, -0.03, -0.06, -0.05, -0.02, -0.001],
        "BnB+": [0.002, 0.001, -0.003, 0.0, 0.001, 0.002, 0.001],
        "AnB": [0.0, -0.004, -0.035, -0.085, -0.08, -0.07, -0.08],
        "AnB+": [0.021] * 7,
        "random filters": [-0.12, -0.2, -0.33, -0.4, -0.46, -0.5, -0.5],
    },
    "groups": {
        "BnB": [0.001, -0.002, -0.03, -0.06, -0.05, -0.02, -0.001],
        "BnB+": [0.002, 0.001, -0.003, 0.0, 0.001, 0.002, 0.001],
        "AnB": [-0.002, -0.03, -0.08, -0.14, -0.17, -0.2, -0.25],
        "AnB+": [0.02] * 7,
        "random filters": [-0.12, -0.2, -0.33, -0.4, -0.46, -0.5, -0.5],
    },
}
LABELS = {"random": ("random {} A", "random {} B"), "groups": ("man-made", "natural")}


def interval(value: float, half: float = HALF, repeats: Sequence[float] = ()) -> dict[str, Any]:
    each = list(repeats) or [value]
    sd = float(np.std(each, ddof=1)) if len(each) > 1 else float("nan")
    ends = {"low": value - half, "high": value + half}
    return {"value": value, **ends, "sd": sd, "repeats": each}


@pytest.fixture(scope="session")
def fabricate() -> Callable[..., Curves]:
    """Builds curves from differences to the base."""

    def build(
        facts: Mapping[str, Mapping[str, Sequence[float]]] = PAPER,
        layers: Sequence[str] = SEVEN,
        numbers: Sequence[int] | None = None,
        longer: float | None = 0.002,
        base: float = 0.72,
        repeats: int = 2,
        splits: int = 2,
        directions: int = 2,
        overfitting: bool = True,
        half: float = HALF,
    ) -> Curves:
        numbers = list(numbers or range(1, len(layers) + 1))
        pairs = []
        for kind in facts:
            for split in range(1, (splits if kind == "random" else 1) + 1):
                a, b = (name.format(split) for name in LABELS.get(kind, ("one set", "another")))
                sides = [
                    {"name": name, "labels": [f"class {i}" for i in group]}
                    for name, group in ((a, range(4)), (b, range(4, 9)))
                ]
                name = f"random {split}" if kind == "random" else f"{a} / {b}"
                pairs.append({"name": name, "kind": kind, "a": sides[0], "b": sides[1]})
        points, means = [], []
        for kind, treatments in facts.items():
            mine = [pair for pair in pairs if pair["kind"] == kind]
            rows = [("base", None, 0, 0.0)]
            if longer is not None:
                rows.append(("base, twice as long", None, 0, longer))
            for treatment, differences in treatments.items():
                rows += [(treatment, *at) for at in zip(layers, numbers, differences, strict=True)]
            targets = [
                (p, *((s, t)[:: 1 if k else -1]))
                for p in mine
                for s, t in [(p["a"], p["b"])]
                for k in range(directions)
            ]
            for treatment, cut, number, difference in rows:
                for pair, source, target in targets:
                    # Targets lie above and below the mean, and so do repeats: means stay.
                    shift = 0.02 * (1 if target is pair["b"] else -1) * (directions > 1)
                    value = base + difference + shift
                    spread = np.linspace(-0.004, 0.004, repeats) if repeats > 1 else [0.0]
                    point = {
                        "pair": pair["name"],
                        "kind": kind,
                        "source": {"A": source, "B": target}.get(treatment[0], {}).get("name"),
                        "target": target["name"],
                        "treatment": treatment,
                        "cut": cut,
                        "layer": number,
                        "accuracy": interval(value, half, [value + s for s in spread]),
                        "difference_to_base": interval(
                            difference, 0 if treatment == "base" else half
                        ),
                    }
                    points.append(point)
                means.append(
                    {
                        "kind": kind,
                        "treatment": treatment,
                        "cut": cut,
                        "layer": number,
                        "accuracy": interval(base + difference, half),
                        "difference_to_base": interval(
                            difference, 0 if treatment == "base" else half
                        ),
                    }
                )
        decomposition, table1 = [], []
        for kind, treatments in facts.items():
            if {"BnB", "AnB"} <= set(treatments):
                for cut, number, b, a in zip(
                    layers, numbers, treatments["BnB"], treatments["AnB"], strict=True
                ):
                    decomposition.append(
                        {
                            "kind": kind,
                            "cut": cut,
                            "layer": number,
                            "coadaptation": interval(-b, half),
                            "specificity": interval(b - a, half),
                            "total": interval(-a, half),
                        }
                    )
            if "AnB+" in treatments:
                for start in sorted({0, 2 * len(layers) // 7, 4 * len(layers) // 7}):
                    gain = float(np.mean(treatments["AnB+"][start:]))
                    own = treatments.get("BnB+")
                    table1.append(
                        {
                            "kind": kind,
                            "layers": f"{numbers[start]}-{numbers[-1]}",
                            "over_base": interval(gain, half),
                            "over_selffer": own
                            and interval(gain - float(np.mean(own[start:])), half),
                            "over_longer": None
                            if longer is None
                            else interval(gain - longer, half),
                        }
                    )
        compared = [
            {
                "kind": kind,
                "cut": cut,
                "layer": number,
                "difference_to_base": interval(float(np.mean([line[i] for line in lines])), half),
            }
            for kind, lines in (
                *((k, [t["AnB"]]) for k, t in facts.items() if "AnB" in t),
                (
                    "random filters",
                    [t["random filters"] for t in facts.values() if "random filters" in t],
                ),
            )
            if lines
            for i, (cut, number) in enumerate(zip(layers, numbers, strict=True))
        ]
        if "AnB" in facts.get("random", {}):
            for kind in [k for k in facts if k != "random" and "AnB" in facts[k]]:
                both = zip(layers, numbers, facts[kind]["AnB"], facts["random"]["AnB"], strict=True)
                compared += [
                    {
                        "kind": f"{kind} minus random",
                        "cut": cut,
                        "layer": number,
                        "difference_to_base": interval(a - b, half),
                    }
                    for cut, number, a, b in both
                ]
        curves = {
            "metric": "accuracy",
            "layers": list(layers),
            "numbers": numbers,
            "pairs": pairs,
            "points": points,
            "means": means,
            "decomposition": decomposition,
            "table1": table1,
            "kinds_compared": compared,
        }
        if overfitting:
            fits = ((500, 0.9, 0.7), (250, 0.93, 0.63), (125, 0.96, 0.55), (50, 0.99, 0.42))
            curves["overfitting"] = {
                "task": pairs[0]["b"]["name"],
                "rows": [
                    {
                        "per_class": per_class,
                        "images": 5 * per_class,
                        "epochs": 10,
                        "train": interval(train),
                        "test": interval(test),
                        "gap": interval(train - test),
                    }
                    for per_class, train, test in fits
                ],
                "bases": [
                    {
                        "pair": pair["name"],
                        "task": side["name"],
                        "train": interval(0.9),
                        "test": interval(0.72),
                        "gap": interval(0.18),
                    }
                    for pair in pairs
                    for side in (pair["a"], pair["b"])
                ],
            }
        return curves

    return build
