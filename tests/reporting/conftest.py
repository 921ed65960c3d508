"""Made-up results and evidence of each kind, with names that try to be HTML."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from layerwise.data.audit.findings import Finding
from layerwise.data.brightness import measure
from layerwise.data.exploration import count, draw_rows, size_up
from layerwise.data.manifest import Manifest, make_table
from layerwise.data.storage.headers import Headers
from layerwise.data.storage.store import build_store
from layerwise.evaluation.intervals import bootstrap
from layerwise.reporting.inspection import Changed, Inspection
from layerwise.reporting.report import Evidence, Explanation, ProfilePoint

Made = tuple[dict[str, Any], Evidence]

NASTY = "<script>alert('x')</script> & \"$a_b$\".png"
CUTS = ["conv_stem", "blocks.0", "blocks.1", "blocks.2", "blocks.3", "blocks.4", "blocks.5"]


def span(value: float, half: float = 0.02) -> dict[str, float]:
    return {"value": value, "low": value - half, "high": min(1.0, value + half)}


def run(id: str, name: str, value: float | None, **more: Any) -> dict[str, Any]:
    keep = more.pop("keep", "all")
    validation = {} if value is None else {"auroc": span(value)}
    return {
        "id": id,
        "name": name,
        "model": "timm:mobilenetv2_100",
        "transfer": {"source": "w.pth", "keep": keep, "copy": keep, "freeze": "none"},
        "state": "done",
        "seconds": 12.5,
        "parameters": 2_200_000,
        "validation": validation,
        **more,
    }


def predictions(task: str, n: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    if task == "binary":
        targets = (rng.random(n) < 0.6).astype(np.int64)
        logits = rng.normal(3.2 * targets - 1.4, 1.3)
        return targets, (1 / (1 + np.exp(-logits)))[:, None].astype(np.float32)
    if task == "multiclass":
        targets = rng.integers(0, 5, n)
        logits = rng.normal(size=(n, 5)) + 2.5 * np.eye(5)[targets]
        scores = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        return targets, scores.astype(np.float32)
    truth = (rng.random((n, 4)) < [0.5, 0.2, 0.1, 0.0]).astype(np.float32)  # the last never
    scores = 1 / (1 + np.exp(-rng.normal(2.5 * truth - 1.5, 1.2)))
    truth[rng.random((n, 4)) < 0.1] = np.nan
    return truth, scores.astype(np.float32)


@pytest.fixture(scope="session")
def make() -> Callable[..., Made]:
    """Builds (results, evidence) of a task; ``bare`` leaves out all that may be left out."""

    def build(task: str = "binary", bare: bool = False) -> Made:
        n = 300
        targets, scores = predictions(task, n)
        labels = {
            "binary": ["NORMAL", "PNEUMONIA"],
            "multiclass": ["five", "six", "seven", "eight", "<b>nine</b>"],
            "multilabel": ["Edema", "Effusion & more", "Mass", "Never seen"],
        }[task]
        threshold = {"binary": 0.41, "multiclass": None, "multilabel": [0.4, 0.5, 0.6, 0.5]}[task]
        groups = np.array([f"p{i // 2}" for i in range(n)])
        test = bootstrap(task, targets, scores, threshold, groups, labels=labels, draws=60)
        results: dict[str, Any] = {
            "layerwise": "0.1.0",
            "command": "fit",
            "seed": 0,
            "seconds": 1123.4,
            "data": {"name": f"chests {NASTY}", "fingerprint": "abc", "labels": labels},
            "runs": [],
            "chosen": None,
            "threshold": threshold,
            "test": test,
        }
        if bare:
            return results, Evidence(task, labels, targets, scores, threshold)
        results["data"]["counts"] = {
            split: {label: 100 * k + 7 for k, label in enumerate(labels, 1)}
            for split in ("train", "val", "test")
        }
        results["runs"] = [
            run("a1", "frozen to blocks.3, linear", 0.957, keep="blocks.3", parameters=180_000),
            run("b2", "truncated at blocks.4, fine-tuned", 0.978, keep="blocks.4"),
            run("c3", f"all of it {NASTY}", 0.975, seconds=341.0),
            run("d4", "from random weights", None, state="left out", reason="no time for it"),
        ]
        results["chosen"] = "b2"
        rng = np.random.default_rng(0)
        y, x = np.mgrid[-1:1:64j, -1:1:64j]

        def picture(k: int) -> np.ndarray:
            blob = np.exp(-3 * ((x - 0.3 * np.cos(k)) ** 2 + (y - 0.3 * np.sin(k)) ** 2))
            return (200 * blob + 40 * rng.random(x.shape)).astype(np.uint8)

        heat = np.exp(-6 * ((x - 0.3) ** 2 + y**2))
        explanations = [
            Explanation(
                f"test/{NASTY}" if k == 0 else f"test/image-{k}.jpeg",
                picture(k) if k % 2 else np.stack([picture(k)] * 3, -1),
                heat,
                labels[0] if k > 3 else labels[1],
                labels[1],
                0.97 - 0.05 * k,
                k <= 3,
            )
            for k in range(6)
        ]
        profile = [
            ProfilePoint(
                cut,
                16 * (j + 1),
                2 ** min(j + 1, 5),
                500 * 4**j,
                10_000_000 * (j + 1),
                span(a),
                j == 5,
            )
            for j, (cut, a) in enumerate(
                zip(CUTS, [0.78, 0.84, 0.88, 0.92, 0.95, 0.96, 0.957], strict=True)
            )
        ]
        floors = {
            split: {"dummy": {"auroc": span(0.5)}, "random forest": {"auroc": span(low)}}
            for split, low in (("validation", 0.91), ("test", 0.87))
        }
        comparison = [
            {"name": name, "cut": cut, "accuracy": span(0.8 + step * j, 0.03)}
            for name, step in (("AnB", -0.04), ("AnB+", 0.03))
            for j, cut in enumerate(["conv1", "conv2", "fc1"])
        ] + [{"name": "random initialisation", "cut": None, "accuracy": span(0.74, 0.03)}]
        return results, Evidence(
            task=task,
            labels=labels,
            targets=targets,
            scores=scores,
            threshold=threshold,
            groups=groups,
            validation_targets=targets,
            validation_scores=scores,
            profile=profile,
            explanations=explanations,
            notes=["No validation part was found: 15% of the training patients became one.", NASTY],
            fingerprint={"sizes": {"smallest": [224, 224]}, "mean": 0.4823, "note": NASTY},
            plan={"model": "timm:mobilenetv2_100", "why": "</script><b>"},
            floors=floors,
            reproduce=["layerwise fit ./chests --time 20m --out out", "# & then look"],
            samples=[(label, picture(k)) for k, label in enumerate(labels)],
            transfer_comparison=comparison,
        )

    return build


KINDS = {
    "binary": ("NORMAL", "PNEUMONIA"),
    "multiclass": ("five", "six", "seven", "eight", "<b>nine</b>"),
    "multilabel": ("Edema", "Effusion & more", "Mass", "Never seen"),
}


@pytest.fixture(scope="session")
def inspected(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Inspection]:
    """Builds an inspection of generated pictures of 12×16, of many sizes as far as headers tell."""
    cache = tmp_path_factory.mktemp("inspected")

    def build(task: str = "binary", bare: bool = False, n: int = 120) -> Inspection:
        rng, labels = np.random.default_rng(0), KINDS[task]
        if task == "multilabel":
            targets = rng.choice(np.float32([0, 0, 1, np.nan]), (n, 4))
            targets[:, 3] = 0
        else:
            targets = rng.integers(0, len(labels), n)
        ids = [NASTY] + [f"pictures/{i}.png" for i in range(1, n)]
        table = make_table(
            ids,
            patients=[f"p{i // 3}" for i in range(n)],
            dates=[f"20{i % 20:02d}-01-01" for i in range(n)],
            splits=[("train", "train", "test")[i // 3 % 3] for i in range(n)],
        )
        pixels = rng.integers(0, 256, (n, 12, 16)).astype(np.uint8)
        manifest = Manifest(f"chests {NASTY}", task, labels, table, targets, pixels, ("a note",))
        findings = [
            Finding(
                "shared patient", "leak", "1 patient is in two parts", "split --by patient", ()
            ),
            Finding(
                "repeated content", "note", f"2 copies ({NASTY * 2})", "remove", tuple(ids[:40])
            ),
        ]
        if bare:
            return Inspection(manifest, count(manifest), [])
        headers = Headers(
            rng.integers(200, 400, (n, 2)),
            np.ones(n, bool),
            np.full(n, "JPEG"),
            np.full(n, 8),
            np.full(n, 5000),
        )
        store, manifest = build_store(
            manifest, size=(12, 16), channels=1, letterbox=False, folder=cache, workers=1
        )
        rows = draw_rows(manifest, 6, 0)
        big = np.tile(pixels[0], (12, 12))
        return Inspection(
            manifest=manifest,
            counts=count(manifest),
            findings=findings,
            sizes=size_up(manifest, headers),
            brightness=measure(manifest, store),
            stored=(12, 16),
            samples={label: [(ids[r], pixels[r]) for r in rows[label]] for label in labels},
            changed=[Changed(NASTY, labels[0], big, [big, big[:, ::-1]])],
            preset="radiograph",
            shown={name: pixels[i] for i, name in enumerate(ids[:8])},
            notes=manifest.notes,
            command=["layerwise", "inspect", NASTY],
            seconds=12.3,
        )

    return build
