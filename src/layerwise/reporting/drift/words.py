"""What a comparison with the training statistics found, in sentences derived from its numbers."""

from collections.abc import Mapping, Sequence
from typing import Any

from layerwise.reporting.text import defined, judge, number, with_interval

TITLES = {
    "brightness": "Mean brightness",
    "contrast": "Contrast",
    "black": "Share of black",
    "white": "Share of white",
    "detail": "Sharpness",
    "colour": "Colour",
    "bars": "Area in bars",
    "likeness": "Likeness to training",
    "aspect": "Width / height",
    "side": "Longer side, pixels",
    "blank": "Blank pictures",
    "barred": "Pictures with bars",
    "negative": "Like a negative",
    "enlarged": "Too few pixels",
}
BRIEF = {"psi": "PSI", "js": "Jensen–Shannon", "ks": "Kolmogorov–Smirnov"}
MEASURES = {
    "psi": "population stability index",
    "js": "Jensen–Shannon distance",
    "ks": "Kolmogorov–Smirnov distance",
}
ORDER = ("drifted", "within noise", "none", "not known")
DIGITS = {"brightness": 1, "contrast": 1, "side": 0}
SAID = 5  # quantities that are said; all are in the table
CHECKS = {
    "negative": "pictures that look like negatives (check MONOCHROME1, or whoever inverts them)",
    "window": "other grey levels, as another window, exposure or kind of file gives "
    "(compare the window settings of the senders)",
    "bars": "bars along the borders (crop them, or send the pictures as they were taken)",
    "resolution": "too few pixels, or smoothed ones (send originals, no thumbnails or screenshots)",
    "blank": "pictures that show nothing (look for what empties them on their way)",
    "colour": "colours that are not as in training (look for screenshots and overlays)",
}
SHORT = {
    "negative": "negatives",
    "window": "other grey levels",
    "bars": "bars",
    "resolution": "too few pixels",
    "blank": "blank pictures",
    "colour": "other colours",
}
UNSEEN = (
    "Burnt-in text, markers, a mirrored side, another body part that looks alike and a wrong "
    "patient can not be seen in these statistics: they are counts of a few numbers a picture."
)
WITHOUT_LABELS = (
    "Whether the decisions are right can not be known from this: no labels are compared. Scores "
    "may stay the same while decisions get worse, and move while they stay good. Have some recent "
    "pictures labelled and run layerwise evaluate."
)


def title(row: Mapping[str, Any]) -> str:
    """What a quantity is called."""
    if row["kind"] in ("input", "sign"):
        return TITLES[row["name"]]
    return f"{'Probability of' if row['kind'] == 'score' else 'Decided'} {row['name']}"


def answer(results: Mapping[str, Any]) -> list[str]:
    """Whether something has drifted and by how much, what may be broken, and what is not known."""
    said = [advice(results)]
    measure = results["limits"]["measure"]
    far = sorted(_of(results, "drifted"), key=lambda row: rank(row, measure))
    said += [moved(row, measure) for row in far[:SAID]]
    if len(far) > SAID:
        said.append(f"Less far: {', '.join(title(row) for row in far[SAID:])}.")
    return [*said, broken(results["checks"]), *decisions(results), quality(results["quality"])]


def advice(results: Mapping[str, Any]) -> str:
    """What to do."""
    drifted, unsure = _of(results, "drifted"), _of(results, "within noise")
    judged = [row for row in results["quantities"] if row["verdict"] != "not known"]
    images = _images(results["images"])
    if drifted:
        some = [row for row in drifted if row["kind"] in ("input", "sign")]
        first = "the pictures" if some else "the scores"
        return (
            f"Drift: {len(drifted)} of {len(judged)} quantities of {images} differ from training "
            f"by more than chance and by more than matters. Look at {first} before trusting the "
            "model further."
        )
    if unsure:
        names = ", ".join(title(row) for row in unsure[:4])
        more = f" and {len(unsure) - 4} more" if len(unsure) > 4 else ""
        return (
            f"No drift is seen in {images}, but they are too few to exclude one that matters for "
            f"{len(unsure)} of {len(judged)} quantities ({names}{more}). Compare again with more."
        )
    return (
        f"No drift: each of {len(judged)} quantities of {images} is as in training, up to what "
        "matters, and there are enough pictures to tell."
    )


def rank(row: Mapping[str, Any], measure: str = "psi") -> tuple[int, float]:
    """By what quantities are put in order: drifted ones first, the farthest first."""
    far = row[measure]["value"] if measure in row else abs(row["difference"]["value"])
    return ORDER.index(row["verdict"]), -far


def moved(row: Mapping[str, Any], measure: str) -> str:
    """How far a quantity has drifted."""
    before, after = row["before"], row["after"]
    if "difference" in row:
        gap = row["difference"]
        span = f"{_points(gap['low'])} to {_points(gap['high'])}"
        return (
            f"{title(row)}: {_percent(after['value'])} of {_images(row['images'])} instead of "
            f"{_percent(before['value'])} of {row['reference_images']:,}, "
            f"{_points(gap['value'])} points (95% {span})."
        )
    ways = (("median", "value"), ("highest tenth from", "high"), ("lowest tenth up to", "low"))
    pairs = [(word, value(row, after[k]), value(row, before[k])) for word, k in ways]
    word, now, then = next((pair for pair in pairs if pair[1] != pair[2]), pairs[0])
    far = row[measure]
    return (
        f"{title(row)}: {word} {now} instead of {then}; {BRIEF[measure]} {number(far['value'])}, "
        f"by chance {number(far['expected'])}."
    )


def broken(checks: Mapping[str, bool | None]) -> str:
    """What may be wrong with the pictures."""
    yes = [CHECKS[name] for name, found in checks.items() if found]
    unknown = [SHORT[name] for name, found in checks.items() if found is None]
    no = [SHORT[name] for name, found in checks.items() if found is False]
    said = []
    if yes:
        said.append(f"What may be broken: {'; '.join(yes)}.")
    if no:
        said.append(f"No sign of {_or(no)}.")
    if unknown:
        said.append(f"Not to be told here: {', '.join(unknown)}.")
    return " ".join(said)


def decisions(results: Mapping[str, Any]) -> list[str]:
    """The shares decided positive, and what they mean for the true shares."""
    rows = [row for row in results["quantities"] if row["kind"] == "decided"]
    said = []
    for row in rows[:3] if len(rows) <= 3 else ():
        if row["verdict"] in ("none", "within noise"):
            gap = row["difference"]
            span = f"{_points(gap['low'])} to {_points(gap['high'])}"
            word = "as in validation" if row["verdict"] == "none" else "within noise"
            said.append(
                f"{title(row)}: {_percent(row['after']['value'])}, in validation "
                f"{_percent(row['before']['value'])}; {word} ({_points(gap['value'])} points, "
                f"95% {span})."
            )
    known = results["prevalence"]
    if known and results["quality"] is None:
        said.append(
            f"If the model finds {_percent(known['sensitivity'])} and leaves alone "
            f"{_percent(known['specificity'])} as on its test part, then "
            f"{_percent(known['value'])} of these pictures are truly {known['label']} (95% "
            f"{_percent(known['low'])} to {_percent(known['high'])} by their number alone); if it "
            "does not, this is not so."
        )
    return said


def quality(found: Mapping[str, Any] | None) -> str:
    """How good the decisions are where labels are known, and that it is not known where not."""
    if found is None:
        return WITHOUT_LABELS
    now, test = found["now"]["auroc"], (found["test"] or {}).get("auroc") or {}
    if not defined(now) or not defined(test):
        return (
            "These pictures have labels, but not every label has images with and without it, here "
            "or in the bundle's test part: how good the decisions are was not compared."
        )
    return (
        f"These pictures have labels: the AUROC on them is {with_interval(now)}, on the bundle's "
        f"test part it was {with_interval(test)}: {judge(now, test)}. Run layerwise evaluate for "
        "more."
    )


def notes(results: Mapping[str, Any]) -> list[str]:
    """How it was judged, and what can not be seen."""
    limits, measure = results["limits"], results["limits"]["measure"]
    reference = results["reference"]
    said = [
        f"Inputs are compared with {_images(reference['images'])} of the training part, scores "
        f"and decisions with the {_images(reference['answers'])} of the validation part, both as "
        "counts in the bundle. A part with other shares of the labels looks like drift too. "
        "Medians are read off the bins, the longer side's to about 5%.",
        f"A quantity has drifted if chance explains it in less than {_percent(limits['alpha'])} "
        "(permutation test; Fisher's exact test for shares; Holm's correction for all quantities) "
        f"and if its {MEASURES[measure]}, less what chance gives on average, is "
        f"{limits['threshold']:g} or more; a share of decisions by {100 * limits['share']:g} "
        f"points, a sign of broken pictures by {100 * limits['sign']:g}. “None” means that a "
        "drift of that size would have shown, “within noise” that there are too few pictures.",
        "Each picture counts as independent of the others. Several of one patient are more alike: "
        "then give their number with --per-patient."
        if limits["clump"] <= 1
        else f"{limits['clump']:g} pictures count as one (--per-patient).",
        UNSEEN,
    ]
    missing = [title(row) for row in results["quantities"] if row["verdict"] == "not known"]
    if missing:
        said.append(f"Not known, on one side or both: {', '.join(missing)}.")
    if results["checks"]["negative"] is None:
        said.append(
            "Negatives can not be told where training pictures have too little in common, were "
            "too few, or now are."
        )
    return [*said, *results["notes"]]


def value(row: Mapping[str, Any], number_: float | None) -> str:
    """A quantity's value as it is usually written."""
    if number_ is None:
        return "—"
    if row["kind"] in ("sign", "decided") or row["name"] in ("black", "white", "colour", "bars"):
        return _percent(number_)
    if row["kind"] == "input":
        return f"{number_:,.{DIGITS.get(row['name'], 2)}f}".replace("-", "−")
    return number(number_)


def _of(results: Mapping[str, Any], verdict: str) -> list[Mapping[str, Any]]:
    return [row for row in results["quantities"] if row["verdict"] == verdict]


def _images(count: int) -> str:
    return f"{count:,} picture{'' if count == 1 else 's'}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"


def _points(share: float) -> str:
    return f"{100 * share:+.1f}".replace("-", "−")


def _or(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
