"""What a study of baselines found, in sentences that are derived from its numbers."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from layerwise.reporting.differences import difference_words
from layerwise.reporting.text import NAMES, limits, number, signed
from layerwise.studies.baselines.lineup import BASE, Form
from layerwise.studies.baselines.scores import METRICS, Difference, Scores

NAMED = 4  # names in a sentence; of more, they are counted
SHORT = {**NAMES, "recall": "recall", "accuracy": "accuracy", "precision": "precision"}


def answer(scores: Scores) -> list[str]:
    """What a network has to beat, whether augmentation helps, and what transfer brings."""
    said = [best_words(scores), tie_words(scores), *change_words(scores)]
    said += [transfer_words(scores), *no_better(scores), dummy_words(scores)]
    return [sentence for sentence in said if sentence]


def best_words(scores: Scores) -> str:
    """The best baseline, with every score."""
    best = scores.best
    each = ", ".join(f"{SHORT[m]} {_with(best.test[m])}" for m in METRICS)
    return (
        f"What a network has to beat is {best.name}, the best baseline on validation; on the test "
        f"part: {each}."
    )


def tie_words(scores: Scores) -> str:
    """Which other baselines are not measurably worse by AUROC, or are better on the test part."""
    there = [d for d in scores.behind if d.metric == "auroc" and not _is_transfer(scores, d)]
    tied = [d.cell for d in there if _defined(d) and not d.beyond_noise]
    ahead = [d.cell for d in there if d.beyond_noise and d.interval["value"] > 0]
    said = []
    if tied:
        verb = "is" if len(tied) == 1 else "are"
        said.append(f"{_some(tied, 'other models')} {verb} within noise of it by AUROC")
    elif there:
        said.append("every other baseline differs from it by AUROC beyond noise")
    if ahead:
        verb = "is" if len(ahead) == 1 else "are"
        said.append(
            f"{_some(ahead, 'models')} {verb} even higher there beyond noise, which the "
            "validation part did not show"
        )
    text = "; ".join(said)
    return f"{text[0].upper()}{text[1:]}." if text else ""


def change_words(scores: Scores) -> list[str]:
    """What augmentation and balancing change, by AUROC and by F1."""
    if not scores.changes:
        return []
    out = []
    models = list(dict.fromkeys(one.model for one in scores.changes))
    for metric in ("auroc", "f1"):
        here = [one for one in scores.changes if one.metric == metric and _defined(one)]
        up = [one for one in here if one.beyond_noise and one.interval["value"] > 0]
        down = [one for one in here if one.beyond_noise and one.interval["value"] < 0]
        parts = []
        for some, way in ((up, "raise"), (down, "lower")):
            if some:
                most = max(some, key=lambda one: abs(one.interval["value"]))
                whom = _some([one.model for one in some], "models", of=len(models))
                size = f"{most.model} {_size(most)}"
                parts.append(f"{way} {SHORT[metric]} beyond noise for {whom} (most: {size})")
        if not parts:
            out.append(
                f"Augmentation and balancing change {SHORT[metric]} of no model beyond noise."
                if here
                else ""
            )
            continue
        rest = len(here) - len(up) - len(down)
        verb = "is" if rest == 1 else "are"
        tail = f"; {rest} of {len(here)} {verb} within noise" if rest else ""
        out.append(f"Augmentation and balancing {' and '.join(parts)}{tail}.")
    return [sentence for sentence in out if sentence]


def transfer_words(scores: Scores) -> str:
    """How a pretrained network compares with the best baseline."""
    cells = [cell for cell in scores.cells if cell.made.entrant.kind == "transfer"]
    if not cells or scores.best in cells:
        return ""
    best = max(cells, key=lambda cell: _or(cell.validation["value"]))
    gap = next(d.interval for d in scores.behind if d.cell == best.name and d.metric == "auroc")
    return difference_words(
        f"Transfer ({best.name})", f"the best baseline, {scores.best.name},", gap, "AUROC"
    )


def no_better(scores: Scores) -> list[str]:
    """Models that have learnt nothing that can be measured."""
    out = []
    for cell in scores.cells:
        found = cell.test["auroc"]
        if cell.made.entrant.key == "dummy" or not math.isfinite(_or(found["low"])):
            continue
        if found["low"] <= 0.5:
            out.append(
                f"{cell.name} has learnt nothing that these images show: its AUROC is "
                f"{_with(found)}, and a coin's is 0.5."
            )
    return out


def dummy_words(scores: Scores) -> str:
    """What accuracy and F1 are worth, by what they are without looking."""
    cell = next((c for c in scores.cells if c.made.entrant.key == "dummy"), None)
    if cell is None:
        return ""
    right, f1 = cell.test["accuracy"]["value"], cell.test["f1"]["value"]
    return (
        f"The dummy, which always says what is most frequent in training, is right for "
        f"{number(right, percent=True)} of the test images (F1 {number(f1)}, AUROC 0.5): accuracy "
        "is to be read against that."
    )


def form_words(forms: Sequence[Form], describe: Callable[[Form], str]) -> list[str]:
    """What the two forms are.

    Args:
        forms: Of the study.
        describe: What its balancing does, with its numbers.
    """
    out = []
    for form in forms:
        if form.name == BASE:
            out.append("Base: the pictures as they are, and every picture counts the same.")
            continue
        flip = ", half of them upside down too" if form.vertical_flip else ""
        views = (
            "no picture is changed"
            if form.augment == "none"
            else f"pictures are changed as by the preset {form.augment}{flip}"
        )
        out.append(f"Augmented: {views}. {describe(form)}")
    if len(forms) > 1:
        out.append(
            "Forest and SVM look at small grey pictures once, and learn from the augmented ones "
            "beside the originals; the dummy looks at none, and has one form."
        )
    return out


def _is_transfer(scores: Scores, difference: Difference) -> bool:
    return any(
        cell.name == difference.cell and cell.made.entrant.kind == "transfer"
        for cell in scores.cells
    )


def _defined(difference: Difference) -> bool:
    return math.isfinite(_or(difference.interval["value"]))


def _some(names: Sequence[str], what: str, of: int = 0) -> str:
    """Names in words: few by name, many by number."""
    if of and len(names) == of > 1:
        return f"all {of} {what}"
    if len(names) > NAMED:
        return f"{len(names)} {what}"
    return names[0] if len(names) == 1 else f"{'; '.join(names[:-1])} and {names[-1]}"


def _size(one: Difference) -> str:
    span = limits(one.interval).replace("–", " to ")
    return f"{signed(one.interval['value'])}, 95% {span}"


def _with(interval: Mapping[str, Any]) -> str:
    span = limits(interval)
    value = number(interval["value"])
    return f"{value} ({span})" if span else value


def _or(value: float | None) -> float:
    """The value, NaN where there is none."""
    return math.nan if value is None else float(value)
