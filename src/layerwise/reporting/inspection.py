"""What `layerwise inspect` writes: `inspect.json` and one offline page, `inspect.html`."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

from layerwise import __version__
from layerwise.config import write_json
from layerwise.data.audit.findings import Finding
from layerwise.data.brightness import Brightness
from layerwise.data.exploration import Sizes
from layerwise.data.manifest import Manifest
from layerwise.reporting import inspection_figures as figures
from layerwise.reporting import inspection_text as said
from layerwise.reporting import text
from layerwise.reporting.page import is_small, picture_address, render_page, write_page

Picture = NDArray[np.uint8]  # (H, W), (H, W, 1) or (H, W, 3)

SEVERITIES = {"leak": 3, "warning": 2, "note": 1}
NAMED = 30  # images of a finding that the page names; inspect.json has them all
SAMPLE = 200  # pixels of the longer side of an example
LISTED = re.compile(r"(.{10,}?) \((.{60,})\)", re.DOTALL)  # a message that ends in examples
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z-]*|layerwise [a-z]+(?: --[a-z][a-z-]*)?")
MANY = 30  # labels: a longer table is folded


@dataclass(frozen=True)
class Changed:
    """One training picture as it is, and as training would see it in several epochs."""

    id: str
    label: str
    original: Picture
    views: Sequence[Picture]


@dataclass(frozen=True)
class Inspection:
    """Everything that was found out about a data set.

    Attributes:
        manifest: The data, without what could not be read.
        counts: What `exploration.count` returned.
        findings: What `audit` returned.
        sizes: What `exploration.size_up` returned; None where no header was read.
        brightness: What `brightness.measure` returned; None where no picture was decoded.
        stored: (height, width) the pictures were looked at in, or None.
        samples: By label, (id, picture as it is) drawn at random.
        changed: Augmented examples.
        preset: What they were augmented with.
        shown: Pictures of images that findings name, by id.
        notes: Whatever was guessed, changed or left out.
        command: The words of the command.
        seed: Of the samples and the augmentation.
        seconds: How long it took.
    """

    manifest: Manifest
    counts: Mapping[str, Any]
    findings: Sequence[Finding]
    sizes: Sizes | None = None
    brightness: Brightness | None = None
    stored: tuple[int, int] | None = None
    samples: Mapping[str, Sequence[tuple[str, Picture]]] = field(default_factory=dict)
    changed: Sequence[Changed] = ()
    preset: str = "none"
    shown: Mapping[str, Picture] = field(default_factory=dict)
    notes: Sequence[str] = ()
    command: Sequence[str] = ()
    seed: int = 0
    seconds: float = 0.0


def write_inspection(folder: Path, found: Inspection) -> dict[str, Any]:
    """Write `inspect.json` and `inspect.html`, each whole or not at all; returns the former.

    Raises:
        OutputError: They can not be written.
    """
    summary = to_json(found)
    write_json(folder / "inspect.json", summary)
    write_page(folder / "inspect.html", render(found))
    return summary


def to_json(found: Inspection) -> dict[str, Any]:
    """What `inspect.json` holds; every key is explained in docs/inspect.md."""
    light = found.brightness
    return {
        "layerwise": __version__,
        "command": " ".join(found.command),
        "seed": found.seed,
        "seconds": round(found.seconds, 2),
        "data": {
            "name": found.manifest.name,
            "task": found.manifest.task,
            "labels": list(found.manifest.labels),
        },
        "counts": dict(found.counts),
        "sizes": None if found.sizes is None else found.sizes.facts,
        "brightness": None
        if light is None or found.stored is None
        else {
            "height": found.stored[0],
            "width": found.stored[1],
            "labels": {label: _light(light, k) for k, label in enumerate(found.manifest.labels)},
        },
        "findings": [
            {
                "kind": f.kind,
                "severity": f.severity,
                "message": f.message,
                "remedy": f.remedy,
                "images": list(f.images),
            }
            for f in found.findings
        ],
        "notes": list(found.notes),
    }


def _light(light: Brightness, k: int) -> dict[str, Any] | None:
    """A label's brightness, or None where it has no picture."""
    if not math.isfinite(light.mean[k]):
        return None
    return {
        "mean": float(light.mean[k]),
        "deviation": float(light.deviation[k]),
        "contrast": float(light.contrast[k]),
        "black": float(light.black[k]),
        "white": float(light.white[k]),
        "histogram": light.histogram[k].tolist(),
        "spread": light.spread[k].tolist(),
    }


def render(found: Inspection) -> str:
    """The page as text."""
    manifest, counts = found.manifest, found.counts
    task, labels = manifest.task, manifest.labels
    sizes, light = found.sizes, found.brightness
    return render_page(
        "inspection.html",
        ("report.css", "inspection.css"),
        name=manifest.name,
        task=task,
        labels=labels,
        answer=_answer(found),
        tiles=_tiles(found),
        findings=[_finding(f, found.shown) for f in found.findings],
        looked=found.stored is not None,
        balance=said.spread(task, counts),
        dates=with_flags(said.dates_said(counts)),
        people=with_flags(said.people(task, counts)),
        parts=_parts(counts),
        rows=_label_rows(found),
        folded=len(labels) > MANY,
        sizes=sizes and sizes.facts,
        sizes_said=sizes and said.sizes_said(sizes),
        files_said=sizes and said.files_said(sizes, _channels(light)),
        light_said=light is not None and said.brightness_said(light, labels),
        draw={name: Markup(svg) for name, svg in _figures(found).items()},
        means=_means(light, labels),
        samples={
            label: [_shown(name, picture) for name, picture in pictures]
            for label, pictures in found.samples.items()
        },
        changed=[
            {
                "id": each.id,
                "label": each.label,
                "original": _address(each.original),
                "views": [_address(view) for view in each.views],
                "small": is_small(each.original),
            }
            for each in found.changed
        ],
        preset=found.preset,
        stored=found.stored,
        notes=[with_flags(note) for note in found.notes],
        seed=found.seed,
        seconds=text.duration(found.seconds),
        command=" ".join(found.command),
    )


def _answer(found: Inspection) -> list[str]:
    """The summary: what it is, what needs attention, and the first things to do."""
    manifest = found.manifest
    lines = [
        said.what_it_is(manifest.task, manifest.labels, found.counts),
        said.attention(found.findings, found.stored is not None),
        said.balance(manifest.task, found.counts),
    ]
    return lines


def _channels(light: Brightness | None) -> int:
    """How many channels the pictures were decoded to; 3 where they were not."""
    return 3 if light is None else light.picture.shape[3]


def _tiles(found: Inspection) -> list[dict[str, str]]:
    """The numbers at the top: a name, a value and what it means."""
    counts, people = found.counts, found.counts["patients"]
    kinds = [str(f.severity) for f in found.findings]
    kind = "labels" if found.manifest.task == "multilabel" else "classes"
    tiles = [
        _tile("Pictures", f"{counts['images']:,}", f"of {len(counts['labels'])} {kind}"),
        _tile(
            "Patients",
            "—" if people is None else f"{people['count']:,}",
            "not known" if people is None else f"at most {people['images_each']['max']:,} pictures",
        ),
        _tile("Imbalance", _to_one(counts["imbalance"]), "most frequent label to the rarest"),
    ]
    if found.sizes is not None:
        width, height = (found.sizes.facts[side]["median"] for side in ("width", "height"))
        distinct = found.sizes.facts["distinct"]
        meaning = "every picture" if distinct == 1 else f"medians; {distinct:,} different sizes"
        tiles.append(_tile("Width × height", f"{width:,.0f} × {height:,.0f}", meaning))
    if found.brightness is not None:
        known = found.brightness.mean[np.isfinite(found.brightness.mean)]
        span = " – ".join(dict.fromkeys(f"{end:.0f}" for end in (known.min(), known.max())))
        tiles.append(_tile("Mean brightness", span, "darkest and brightest label, of 255"))
    each = ", ".join(f"{kinds.count(s)} {s}{'s' * (kinds.count(s) != 1)}" for s in SEVERITIES)
    tiles.append(_tile("Findings", str(len(kinds)), each))
    return tiles


def _tile(name: str, value: str, meaning: str) -> dict[str, str]:
    return {"name": name, "value": value, "meaning": meaning}


def _to_one(ratio: float) -> str:
    return f"{ratio:,.1f} : 1" if ratio < 100 else f"{ratio:,.0f} : 1"


def _finding(finding: Finding, shown: Mapping[str, Picture]) -> dict[str, Any]:
    """A row of the table; a long list of examples at the end of a message is folded away."""
    long = LISTED.fullmatch(finding.message) if finding.images else None
    return {
        "severity": finding.severity,
        "rank": SEVERITIES[finding.severity],
        "kind": finding.kind,
        "message": with_flags(long[1] if long else finding.message),
        "examples": long[2] if long else "",
        "remedy": with_flags(finding.remedy),
        "count": len(finding.images),
        "names": finding.images[:NAMED],
        "pictures": [_shown(name, shown[name]) for name in finding.images if name in shown],
    }


def _parts(counts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row a part, as in Table 3.1 of Buluttekin 2020."""
    return [
        {
            "name": said.PARTS[part],
            "images": found["images"],
            "patients": found["patients"],
            "imbalance": _to_one(found["imbalance"]),
            "dates": " to ".join(dict.fromkeys(found["dates"])) if found["dates"] else "",
            "labels": [
                (n, said.percent(n / max(1, found["images"]))) for n in found["labels"].values()
            ],
        }
        for part, found in counts["parts"].items()
    ]


def _label_rows(found: Inspection) -> list[dict[str, Any]]:
    """One row a label: pictures in every part, patients, sizes, brightness."""
    most = max(1, *(entry["images"] for entry in found.counts["labels"].values()))
    rows = []
    for k, (label, entry) in enumerate(found.counts["labels"].items()):
        size = found.sizes.facts["labels"][label] if found.sizes is not None else {}
        light = found.brightness.mean[k] if found.brightness is not None else math.nan
        rows.append(
            {
                "label": label,
                **entry,
                "share": said.percent(entry["share"]),
                "bar": round(100 * entry["images"] / most, 1),
                "parts": [part["labels"][label] for part in found.counts["parts"].values()],
                "width": size.get("width"),
                "height": size.get("height"),
                "light": f"{light:.0f}" if math.isfinite(light) else "",
            }
        )
    return rows


def _figures(found: Inspection) -> dict[str, str]:
    """The figures there is something to draw for."""
    labels, drawn = found.manifest.labels, {}
    if found.sizes is not None and found.sizes.facts["distinct"] > 1:
        drawn["density"] = figures.density(found.sizes, labels)
    if found.brightness is not None:
        drawn["histograms"] = figures.histograms(found.brightness, labels)
    if found.manifest.task == "multilabel" and len(labels) > 1:
        drawn["together"] = figures.together(found.counts["together"], labels)
    return drawn


def _means(light: Brightness | None, labels: Sequence[str]) -> list[dict[str, Any]]:
    """The mean picture of each label."""
    if light is None:
        return []
    return [
        _shown(label, np.rint(light.picture[k]).astype(np.uint8))
        for k, label in enumerate(labels[: figures.PANELS])
        if math.isfinite(light.mean[k])
    ]


def with_flags(sentence: str) -> Markup:
    """A sentence with its flags and commands set as code, so that none is broken across lines."""
    return Markup(FLAG.sub(r"<code>\g<0></code>", str(escape(sentence))))


def _shown(name: str, picture: Picture) -> dict[str, Any]:
    return {"name": name, "address": _address(picture), "small": is_small(picture)}


def _address(picture: Picture) -> Markup:
    """Small pictures to the pixel, others as JPEG: a page with 100 examples stays small."""
    return picture_address(picture, SAMPLE, None if is_small(picture) else 85)
