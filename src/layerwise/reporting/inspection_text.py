"""What the numbers of `layerwise inspect` say, in sentences made from those numbers."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from layerwise.data.audit.findings import Finding, number
from layerwise.data.brightness import Brightness
from layerwise.data.exploration import Sizes
from layerwise.data.manifest import UNASSIGNED

PARTS = {"train": "training", "val": "validation", "test": "test", UNASSIGNED: "not assigned"}
BALANCED = 1.2  # most over rarest: below it, labels count as balanced
SHIFT = 0.05  # of a label's share between two parts that is worth a sentence
DIFFERENT = 1.25  # ratio of medians that is worth a sentence
NETWORK = 224  # pixels, see `exploration.USUAL`


def listed(names: Sequence[str], most: int = 6) -> str:
    """Names as "a, b and c"; of more than `most`, the first and how many others."""
    if len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most} more"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def percent(share: float) -> str:
    """A share as a percentage: one digit below 10, and never 0 or 100 for what is only near it."""
    value = 100 * share
    if 0 < value < 0.1:
        return "under 0.1%"
    if 99.9 < value < 100:
        return "over 99.9%"
    return f"{value:.1f}%" if 0 < value < 9.95 or 99 < value < 100 else f"{value:.0f}%"


def called(label: str) -> str:
    """A label in a sentence: "class 1" where it would read as a number."""
    return f"class {label}" if label[:1].isdigit() else label


def upper(sentence: str) -> str:
    """With a capital where it begins with "class"; a label's own name stays as it is."""
    return "C" + sentence[1:] if sentence.startswith("class ") else sentence


def have(count: int, one: str) -> str:
    """A count with its noun and its verb: "1 picture has", "2 pictures have"."""
    return f"{number(count, one)} {'has' if count == 1 else 'have'}"


def what_it_is(task: str, labels: Sequence[str], counts: Mapping[str, Any]) -> str:
    """The first sentence: how many pictures, of what, of whom, in which parts."""
    kind = "labels" if task == "multilabel" else "classes"
    text = f"{number(counts['images'], 'picture')} of {len(labels)} {kind} ({listed(labels, 4)})"
    people = counts["patients"]
    if people is not None:
        text += f" from {number(people['count'], 'patient')}"
    parts = [name for name in counts["parts"] if name != UNASSIGNED]
    if parts:
        text += f", with {'a' if len(parts) == 1 else ''} {listed([PARTS[p] for p in parts])} part"
        text = text.replace("  ", " ") + ("s" if len(parts) > 1 else "")
    else:
        text += ", not split yet"
    return text + "."


def attention(findings: Sequence[Finding], looked: bool) -> str:
    """The second sentence: what must be mended, what must be weighed."""
    leaks = [f for f in findings if f.severity == "leak"]
    warnings = [f for f in findings if f.severity == "warning"]
    beyond = "" if looked else " Only the table was looked at, not one picture."
    if leaks:
        text = (
            f"Do not train on this split: {number(len(leaks), 'leak')} "
            f"({listed(list(dict.fromkeys(f.kind for f in leaks)))}) would make the scores deceive"
        )
        if warnings:
            text += f"; {number(len(warnings), 'warning')} beside"
        return text + "." + beyond
    if warnings:
        kinds = listed(list(dict.fromkeys(f.kind for f in warnings)))
        verb = "needs" if len(warnings) == 1 else "need"
        return (
            f"No leaks. {number(len(warnings), 'thing').capitalize()} {verb} your attention: "
            f"{kinds}." + beyond
        )
    return "No leaks, and nothing that needs your attention was found." + beyond


def balance(task: str, counts: Mapping[str, Any]) -> str:
    """Which label is most frequent, and which rarest."""
    labels = counts["labels"]
    order = sorted(labels, key=lambda name: -labels[name]["images"])
    most, least = order[0], order[-1]
    a, b = labels[most], labels[least]
    most, least = called(most), called(least)
    if task == "multilabel":
        return upper(
            f"{most} is the most frequent label, in {percent(a['share'])} of the pictures for "
            f"which it is known ({a['images']:,}); {least} the rarest, in {percent(b['share'])} "
            f"({b['images']:,})."
        )
    if counts["imbalance"] < BALANCED:
        ends = dict.fromkeys(f"{entry['images']:,}" for entry in (b, a))
        return f"The classes are balanced: {'–'.join(ends)} pictures each."
    return upper(
        f"{most} has {a['images']:,} pictures ({percent(a['share'])}), {least} "
        f"{b['images']:,} ({percent(b['share'])}): {counts['imbalance']:.1f} to 1."
    )


def spread(task: str, counts: Mapping[str, Any]) -> str:
    """What the counts mean for scores, and whether the parts differ."""
    if task == "multilabel":
        text = _several(counts)
    elif counts["imbalance"] < BALANCED:
        text = ""
    else:
        most = max(counts["labels"], key=lambda name: counts["labels"][name]["images"])
        share = counts["labels"][most]["share"]
        text = f"Calling every picture {called(most)} would be right in {percent(share)} of them."
    return (text + _shift(counts)).strip()


def _several(counts: Mapping[str, Any]) -> str:
    each, n = counts["labels_an_image"], max(1, counts["images"])
    text = f"{percent(each[0] / n).capitalize()} of the pictures have none of the labels"
    return text + f", {percent(sum(each[2:]) / n)} have several."


def _shift(counts: Mapping[str, Any]) -> str:
    """The label whose share differs most between two parts, where it differs."""
    shares = {
        part: {label: n / max(1, found["images"]) for label, n in found["labels"].items()}
        for part, found in counts["parts"].items()
    }
    if len(shares) < 2:
        return ""
    spans = []
    for label in counts["labels"]:
        by_part = sorted((found[label], part) for part, found in shares.items())
        spans.append((by_part[-1][0] - by_part[0][0], label, by_part[0], by_part[-1]))
    gap, label, low, high = max(spans, key=lambda span: span[0])
    if gap < SHIFT:
        return " The parts have about the same share of every label."
    return (
        f" The parts differ: {called(label)} is {percent(high[0])} of {PARTS[high[1]]} and "
        f"{percent(low[0])} of {PARTS[low[1]]}."
    )


def people(task: str, counts: Mapping[str, Any]) -> str:
    """How many pictures patients have."""
    found = counts["patients"]
    if found is None:
        return (
            "Patients are not known. Where one patient may have several pictures, name them with "
            "--patient-column or --patient-from: else pictures of one patient can stand in "
            "training and in test."
        )
    each = found["images_each"]
    if each["max"] == 1:
        text = "Every patient has one picture."
    else:
        text = (
            f"Patients have {each['min']} to {each['max']} pictures (median {each['median']:g}); "
            f"{percent(1 - found['with_images'][0] / found['count'])} have several."
        )
    if found["images_without"]:
        text += f" {have(found['images_without'], 'picture')} no patient."
    if found["several_labels"]:
        text += f" {have(found['several_labels'], 'patient')} pictures of different classes."
    return text


def dates_said(counts: Mapping[str, Any]) -> str:
    """Whether images have dates, and whether they can be compared."""
    found = counts["dates"]
    if found is None:
        return ""
    if found["kind"] is None:
        return f"There are dates, but {found['problem']}."
    missing = counts["images"] - found["images"]
    return f"{have(missing, 'picture')} no date." if missing else ""


def sizes_said(sizes: Sizes) -> str:
    """How large the pictures are, and whether that tells the labels apart."""
    facts = sizes.facts
    width, height = facts["width"], facts["height"]
    if facts["distinct"] == 1:
        text = f"Every picture is {width['median']:.0f} × {height['median']:.0f} pixels."
    else:
        text = (
            f"{facts['distinct']:,} different sizes: widths from {width['min']:,.0f} to "
            f"{width['max']:,.0f} pixels (median {width['median']:,.0f}), heights from "
            f"{height['min']:,.0f} to {height['max']:,.0f} (median {height['median']:,.0f}). "
            + _shape(facts)
        )
    small = facts["below_224"]
    if small:
        share = "All" if small == facts["images"] else percent(small / facts["images"])
        text += (
            f" {share} of them have a side below {NETWORK} pixels, which networks made for "
            f"{NETWORK} would enlarge."
            if share != "All"
            else f" Networks made for {NETWORK} pixels would enlarge them all."
        )
    return text + _by_label(facts["labels"])


def _shape(facts: Mapping[str, Any]) -> str:
    shapes = {name: facts[name] / facts["images"] for name in ("portrait", "landscape", "square")}
    main = max(shapes, key=lambda name: shapes[name])
    if shapes[main] == 1:
        return f"All are {main}."
    return f"{percent(shapes[main]).capitalize()} are {main}."


def _by_label(labels: Mapping[str, Mapping[str, float | None]]) -> str:
    """The quantity whose median differs most from label to label, where it differs."""
    widest = (1.0, "", "", "")
    for quantity in ("width", "height", "aspect"):
        known = {name: float(found[quantity] or 0) for name, found in labels.items()}
        known = {name: value for name, value in known.items() if value}
        if len(known) > 1:
            low, high = min(known, key=known.__getitem__), max(known, key=known.__getitem__)
            widest = max(widest, (known[high] / known[low], quantity, high, low))
    ratio, quantity, high, low = widest
    if ratio < DIFFERENT:
        return ""
    name = "ratio of width to height" if quantity == "aspect" else quantity
    return (
        f" Sizes differ by label: the median {name} of {called(high)} is {ratio:.2f} times "
        f"that of {called(low)}, "
        "and a network can learn that instead of the content."
    )


def files_said(sizes: Sizes, channels: int) -> str:
    """What kinds of file there are, and whether that tells the labels apart.

    Args:
        sizes: What was counted.
        channels: 1 where all pictures are grey in fact.
    """
    kinds = sizes.facts["files"]
    names = [f"{kind['channels']} {kind['format']} of {kind['bits']} bits" for kind in kinds]
    if len(kinds) == 1:
        if kinds[0]["format"] == "array":
            return ""
        grey = channels == 1 and kinds[0]["channels"] == "colour"
        return f"All files are {names[0]}" + (", but the pictures are grey." if grey else ".")
    first = kinds[0]
    text = (
        f"{len(kinds)} kinds of file; {percent(first['images'] / sizes.facts['images'])} are "
        f"{names[0]}."
    )
    totals = {
        label: max(1, sum(kind["labels"][label] for kind in kinds)) for label in first["labels"]
    }
    shares = {label: first["labels"][label] / totals[label] for label in totals}
    low, high = min(shares, key=shares.__getitem__), max(shares, key=shares.__getitem__)
    overall = first["images"] / sizes.facts["images"]
    noise = (overall * (1 - overall) * (1 / totals[low] + 1 / totals[high])) ** 0.5
    if shares[high] - shares[low] > max(2 * SHIFT, 3 * noise):
        text += (
            f" The kind goes with the label: {percent(shares[high])} of {called(high)} are such "
            f"files, "
            f"and {percent(shares[low])} of {called(low)}."
        )
    return text


def brightness_said(brightness: Brightness, labels: Sequence[str]) -> str:
    """Which label is brightest and which darkest, measured against the spread of pictures."""
    known = np.flatnonzero(np.isfinite(brightness.mean))
    dark = known[brightness.mean[known].argmin()]
    bright = known[brightness.mean[known].argmax()]
    gap = float(brightness.mean[bright] - brightness.mean[dark])
    pooled = float(np.sqrt(np.mean(brightness.deviation[[dark, bright]] ** 2)))
    apart = gap / pooled if pooled else 0.0
    if apart < 0.2:
        return (
            f"The labels are equally bright: means from {brightness.mean[dark]:.0f} to "
            f"{brightness.mean[bright]:.0f} of 255, next to a spread of ± {pooled:.0f} from "
            "picture to picture."
        )
    size = "small" if apart < 0.5 else "middling" if apart < 0.8 else "large"
    text = upper(
        f"{called(labels[bright])} is the brightest with a mean of {brightness.mean[bright]:.0f} ± "
        f"{brightness.deviation[bright]:.0f} of 255, {called(labels[dark])} the darkest with "
        f"{brightness.mean[dark]:.0f} ± {brightness.deviation[dark]:.0f}: {apart:.1f} deviations "
        f"apart, a {size} difference."
    )
    if apart >= 0.8:
        text += " A network can learn the brightness instead of the content."
    return text
