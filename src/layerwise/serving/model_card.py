"""`README.md` of a bundle: the model card, for people.

Its parts are those that Mitchell et al. ("Model Cards for Model Reporting", 2019) ask for, as far
as a bundle knows them. It is made of `bundle.json` alone: the two can not disagree, and no number
in it was typed by hand.
"""

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from layerwise import __version__
from layerwise.serving.card import BundleInfo

METRICS = {
    "auroc": "AUROC",
    "auprc": "AUPRC",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "f1": "F1",
    "precision": "precision",
    "recall": "recall (sensitivity)",
    "specificity": "specificity",
    "brier": "Brier score (lower is better)",
}
FEW = 30
"""Test images of a label below which its scores say little."""
WIDE = 0.1
"""Of an interval of the AUROC: beyond it the card says so."""


def intended_use(info: BundleInfo) -> list[str]:
    """What the model is for, a sentence each."""
    data = info.provenance.get("data")
    like = f"pictures like those of {data}" if isinstance(data, str) else "pictures like its data's"
    if info.task == "multilabel":
        what = f"whether each of {_listed(info.labels)} is to be seen in a picture"
    else:
        what = f"how probable {_listed(info.labels)} are for a picture"
    return [
        f"It says {what}; it was made for {like}.",
        "To sort pictures, or to point a person to some of them first; the person decides.",
        "For research, and for comparing with other models on the same data.",
    ]


def not_for(info: BundleInfo) -> list[str]:
    """What the model is not for, a sentence each."""
    said = [
        "Not for diagnosis or treatment, and not for any other decision about a person without a "
        "qualified person who looks at the picture: it is no medical device, and no authority "
        "has cleared it.",
        "Not for pictures of another kind than it learnt from (another device, view, age group, "
        "hospital) before it was measured on them: `layerwise evaluate`.",
        "Not for anything that its labels do not name: it always answers with one of them"
        + (", or with none." if info.task == "multilabel" else "."),
    ]
    for licence in _licences(info):
        if re.search(r"(^|[^a-z])nc([^a-z]|$)|non-?commercial", licence.lower()):
            said.append(f"Not for commercial use: the licence of its weights is {licence}.")
    return said


def limits(info: BundleInfo) -> list[str]:
    """What is known to limit it, a sentence each."""
    origin, said = info.provenance, []
    counts = _counts(info).get("test", {})
    auroc = _metric(info.scores.get("auroc"))
    if not info.scores:
        said.append("No test scores are known: measure it with `layerwise evaluate` first.")
    else:
        said.append(
            "The scores are those of one test part of the same data as it learnt from. Elsewhere "
            "they are different, and mostly lower."
        )
    if auroc and auroc[2] - auroc[1] > WIDE:
        said.append(
            f"The test part is small: its AUROC may as well be {auroc[1]:.2f} as {auroc[2]:.2f}."
        )
    few = [f"{label} ({count})" for label, count in counts.items() if count < FEW]
    if few:
        said.append(f"Fewer than {FEW} test images: {_listed(few)}. Scores of these say little.")
    if counts and origin.get("patients") is None:
        said.append(
            "Which images are of one patient is not known: the intervals take every image for "
            "another patient, and may be too narrow."
        )
    if info.explanation is not None and info.explanation.get("cut") is None:
        said.append(f"It can not show where it looked: {info.explanation.get('why')}")
    if info.explanation is not None and info.explanation.get("way") is not None:
        said.append(
            f"What it shows of where it looked is {info.explanation['way']}. Which of the "
            "networks decided is not seen from it."
        )
    said.append("A probability near the threshold is an open question, whatever the decision says.")
    return said


def model_card(info: BundleInfo) -> str:
    """The card as Markdown; the same info gives the same text."""
    parts = [
        (f"# {_plain(info.name)}", [_what_it_is(info)]),
        ("## Intended use", _points(intended_use(info))),
        ("## Not for", _points(not_for(info))),
        ("## Data", list(_data(info))),
        ("## Scores on the test part", list(_scores(info))),
        ("## Decision", [_decision(info)]),
        ("## Limits", _points(limits(info))),
        ("## Run it", list(_commands(info))),
        ("## Licence", list(_licence(info))),
        ("## Origin", list(_origin(info))),
    ]
    if info.quantised is not None:
        parts.insert(5, ("## 8-bit integers", list(_quantised(info.quantised))))
    return "\n\n".join("\n".join((title, "", *lines)) for title, lines in parts) + "\n"


def _what_it_is(info: BundleInfo) -> str:
    how = info.preprocessing
    kind = {
        "binary": "tells two labels apart",
        "multiclass": "chooses one of several labels",
        "multilabel": "says of several labels whether each holds",
    }[info.task]
    colour = "grey" if how.channels == 1 else "colour"
    fitted = "keeping its proportions" if how.letterbox else "stretched"
    return _plain(
        f"A network that {kind}: {_listed(info.labels)}. It takes a {colour} picture, {fitted} to "
        f"{how.size[1]}×{how.size[0]} pixels, from JPEG, PNG (8 or 16 bits) or DICOM. Written by "
        f"Layerwise {__version__}."
    )


def _data(info: BundleInfo) -> Iterator[str]:
    counts, origin = _counts(info), info.provenance
    yield f"{_plain(origin.get('data', 'not known'))}" + (
        f", {origin['patients']:,} patients" if isinstance(origin.get("patients"), int) else ""
    )
    if counts:
        names = list(dict.fromkeys(label for each in counts.values() for label in each))
        yield ""
        yield from _table(
            ["part", *names],
            [[part, *(f"{each.get(n, 0):,}" for n in names)] for part, each in counts.items()],
        )
    if isinstance(origin.get("data_fingerprint"), str):
        yield ""
        yield f"Fingerprint: `{_code(origin['data_fingerprint'])}`"


def _scores(info: BundleInfo) -> Iterator[str]:
    rows = [
        [title, *_shown(_metric(info.scores.get(name)))]
        for name, title in METRICS.items()
        if _metric(info.scores.get(name))
    ]
    if not rows:
        yield "None were measured."
        return
    yield from _table(["", "value", "95% interval"], rows)
    per_label = info.scores.get("per_label")
    if isinstance(per_label, dict) and len(per_label) > 1:
        yield ""
        found = [
            [label, *_shown(_metric(each.get("auroc")))]
            for label, each in per_label.items()
            if isinstance(each, dict)
        ]
        yield from _table(["AUROC of", "value", "95% interval"], found)
    yield ""
    yield (
        "Intervals are bootstrapped, by patient where patients are known. The test part was looked "
        "at once, after everything had been chosen."
    )


def _decision(info: BundleInfo) -> str:
    if info.task == "multiclass":
        return "It decides for the most probable label."
    chosen = "chosen on the validation part, never on the test part"
    if info.task == "binary":
        limit = 0.5 if info.threshold is None else info.threshold
        how = f", {chosen}" if info.threshold is not None else ""
        return f"From a probability of {limit:.4g} on it decides for {_plain(info.labels[1])}{how}."
    if info.threshold is None:
        return "From a probability of 0.5 on it decides for a label."
    limits = info.threshold if not isinstance(info.threshold, (int, float)) else [info.threshold]
    each = [f"{_plain(k)} {v:.4g}" for k, v in zip(info.labels, limits, strict=True)]
    return f"It decides for a label from these probabilities on, {chosen}: {', '.join(each)}."


def _commands(info: BundleInfo) -> Iterator[str]:
    yield "```"
    yield "layerwise verify BUNDLE            # every file is what it was when it was written"
    yield "layerwise predict BUNDLE IMAGES    # needs no PyTorch"
    if info.explanation is not None and info.explanation.get("cut") is not None:
        yield "layerwise explain BUNDLE IMAGES    # where it looked"
    yield "layerwise serve BUNDLE             # a page and an HTTP service"
    yield "```"


def _licence(info: BundleInfo) -> Iterator[str]:
    sources = _sources(info)
    for source in sources:
        name, said_by = source.get("licence"), source.get("licence_source")
        whose = f" of {_plain(source['weights'])}" if isinstance(source.get("weights"), str) else ""
        by = f" ({_plain(said_by)})" if isinstance(said_by, str) else ""
        yield f"- Pretrained weights{whose}: {_plain(name or 'unknown')}{by}."
    yield (
        "- The data's licence is not known to this file: who passes the bundle on looks it up "
        "where the data came from."
    )


def _origin(info: BundleInfo) -> Iterator[str]:
    for source in _sources(info):
        transfer = source.get("transfer")
        words = (
            ", ".join(f"{_plain(k)} {_plain(v)}" for k, v in transfer.items())
            if isinstance(transfer, dict)
            else "not known"
        )
        share = source.get("weight")
        yield (
            f"- Run `{_code(source.get('run', 'not known'))}`: {_plain(source.get('model', ''))}, "
            f"{words}" + (f"; counts {share:.3f}" if isinstance(share, float) else "")
        )
        if isinstance(source.get("weights_digest"), str):
            yield f"  - weights it started from: `{_code(source['weights_digest'])}`"
    versions = info.provenance.get("versions")
    if isinstance(versions, dict):
        yield "- " + ", ".join(f"{_plain(k)} {_plain(v)}" for k, v in versions.items())


def _quantised(about: Mapping[str, Any]) -> Iterator[str]:
    """What 8-bit integers cost, from the keys that `layerwise quantise` writes."""
    difference, agreement = _metric(about.get("auroc_difference")), about.get("agreement")
    rounded = about.get("rounded")
    what = f" ({_plain(rounded)})" if isinstance(rounded, str) else ""
    yield f"The graph computes with 8-bit integers{what}. Measured against the one before:"
    yield ""
    rows = []
    if difference:
        rows.append(["AUROC on validation, difference", *_shown(difference, "+.4f")])
    if isinstance(agreement, float):
        rows.append(["same decision on validation", f"{agreement:.2%}", ""])
    speed = _metric(about.get("speedup"))
    if speed:
        rows.append(["times as fast, one picture", *_shown(speed, ".2f")])
    size = about.get("bytes")
    if isinstance(size, dict):
        rows.append(["size in bytes", f"{size.get('after')} after {size.get('before')}", ""])
    yield from _table(["", "value", "95% interval"], rows)


def _sources(info: BundleInfo) -> list[dict[str, Any]]:
    """The run of the bundle, or the several of an ensemble."""
    members = info.provenance.get("members")
    if isinstance(members, list):
        return [member for member in members if isinstance(member, dict)]
    return [info.provenance]


def _licences(info: BundleInfo) -> list[str]:
    """Every licence that the bundle names, once."""
    found = [source.get("licence") for source in _sources(info)]
    return list(dict.fromkeys(name for name in found if isinstance(name, str)))


def _counts(info: BundleInfo) -> dict[str, dict[str, int]]:
    """Images by part and label, where the bundle says them."""
    counts = info.provenance.get("counts")
    if not isinstance(counts, dict):
        return {}
    return {
        part: {label: n for label, n in each.items() if type(n) is int}
        for part, each in counts.items()
        if isinstance(each, dict)
    }


def _metric(entry: object) -> tuple[float, float, float] | None:
    """(value, low, high), NaN for a bound that is not known; None without a value."""
    if not isinstance(entry, dict):
        return None
    value, low, high = (
        float(n) if isinstance(n := entry.get(key), (int, float)) else math.nan
        for key in ("value", "low", "high")
    )
    return None if math.isnan(value) else (value, low, high)


def _shown(metric: tuple[float, float, float] | None, form: str = ".3f") -> tuple[str, str]:
    """A metric's two cells of a table."""
    if metric is None:
        return "–", ""
    value, low, high = metric
    span = "" if math.isnan(low) or math.isnan(high) else f"{low:{form}} to {high:{form}}"
    return f"{value:{form}}", span


def _table(head: list[str], rows: list[list[str]]) -> Iterator[str]:
    for row in (head, ["---"] * len(head), *rows):
        yield "| " + " | ".join(cell if cell == "---" else _plain(cell) for cell in row) + " |"


def _points(sentences: list[str]) -> list[str]:
    return [f"- {_plain(sentence, keep='`')}" for sentence in sentences]


def _listed(names: Any) -> str:  # noqa: ANN401 - any sequence of texts
    """Names in a sentence; of many the first ones."""
    some = [str(name) for name in names]
    if len(some) > 12:
        return ", ".join(some[:10]) + f" and {len(some) - 10} more"
    return " and ".join([*([", ".join(some[:-1])] if some[1:] else []), *some[-1:]])


def _plain(text: object, keep: str = "") -> str:
    """A text from elsewhere (a folder's name) as text in Markdown: one line, no markup, no HTML."""
    line = " ".join(str(text).split())
    special = "".join(c for c in r"\`*_[]<>|#~" if c not in keep)
    return re.sub(f"([{re.escape(special)}])", r"\\\1", line)


def _code(text: object) -> str:
    """The same between backticks."""
    return " ".join(str(text).replace("`", "'").split())
