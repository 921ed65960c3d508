"""LogME: how well features explain labels, as the evidence of a linear model (You et al. 2021).

The model is y = Fw + noise, with w ~ N(0, 1/α) and noise ~ N(0, 1/β), y being 1 for the images of
a class and 0 for all others. Its evidence p(y | F, α, β) has a closed form (§4.1, equation 2):

    L(α, β) = n/2 log β + D/2 log α − n/2 log 2π − β/2 ‖Fm − y‖² − α/2 mᵀm − 1/2 log |A|
    A = αI + βFᵀF,  m = βA⁻¹Fᵀy

LogME is its maximum over α and β, divided by n, and averaged over the classes. As in the paper the
features are neither centred nor scaled, and there is no intercept; the evidence does not change
when all features are multiplied by one number.

The maximum is found by the paper's fixed point, α ← γ/mᵀm and β ← (n − γ)/‖Fm − y‖² with
γ = Σ βσᵢ²/(α + βσᵢ²), from one singular value decomposition for all classes, in float64. Only
t = α/β matters to m, so the iteration is one in t. It is run to its end instead of the paper's few
steps; where it creeps, the rest of the way is a search along t.

**What a value means**: nats an image. It is comparable between features of the same images and
labels, and not between data sets. It is no measure of how well fine-tuning will do: on medical
images transferability scores were found unreliable (Chaves et al. 2023, arXiv 2308.07444).
"""

from dataclasses import dataclass

import numpy as np
from scipy.linalg import svd
from scipy.optimize import minimize_scalar

from layerwise.errors import DataError
from layerwise.evaluation.metrics import Array, Floats, Task

STEPS = 200  # of the fixed point; most need ten
CLOSE = 1e-10  # a change of log t that counts as none
WIDEST = 1e15  # t lies within the squares of the singular values, widened by this


@dataclass(frozen=True)
class LogME:
    """The evidence of features for labels.

    Attributes:
        value: The mean over the labels that have one, nats an image.
        labels: (K,) of each label against the rest; NaN where all known images are of one kind.
    """

    value: float
    labels: tuple[float, ...]


def logme(features: Array, targets: Array, task: Task) -> LogME:
    """The logarithm of maximum evidence of features for labels.

    Needs memory for a few copies of the features in float64.

    Args:
        features: Of N images, (N, D); more dimensions are taken as one row an image.
        targets: Class indices, int (N,); for multi-label 0/1/NaN, float (N, K): images whose label
            is unknown are left out, label by label.
        task: "binary" and "multiclass" have every class against the rest, two for binary, as in
            the paper; "multilabel" every label.

    Raises:
        DataError: Fewer than 2 images, features that are not finite or the same for every image,
            or no label that has both kinds of images.
    """
    wide = np.asarray(features).reshape(len(features), -1).astype(np.float64)  # (N, D), a copy
    if len(wide) != len(targets) or len(wide) < 2:
        raise DataError(
            f"LogME needs features and labels of the same images, two or more; there are "
            f"{len(wide)} rows of features and {len(targets)} of labels"
        )
    if not np.isfinite(wide).all():
        bad = int((~np.isfinite(wide).all(axis=1)).sum())
        raise DataError(
            f"the features of {bad} of {len(wide)} images are not finite; take other weights, or a "
            "lower cut"
        )
    if not (wide != wide[0]).any():
        raise DataError(
            "the features are the same for every image, so they explain nothing; take another "
            "cut, or other weights, and look whether the pictures differ"
        )
    wide /= np.abs(wide).max()  # changes no evidence, and no square over- or underflows
    wanted = _wanted(targets, task)  # (N, K)
    values = np.full(wanted.shape[1], np.nan)
    masks: dict[bytes, list[int]] = {}  # labels that are known of the same images, together
    for k in range(wanted.shape[1]):
        known = ~np.isnan(wanted[:, k])
        if len(np.unique(wanted[known, k])) == 2:
            masks.setdefault(known.tobytes(), []).append(k)
    if not masks:
        raise DataError(
            "no label has images with it and images without it, so there is nothing to explain; "
            "add images of another class"
        )
    for labels in masks.values():
        known = ~np.isnan(wanted[:, labels[0]])
        values[labels] = _evidence(wide[known], wanted[known][:, labels])
    return LogME(float(np.nanmean(values)), tuple(map(float, values)))


def _wanted(targets: Array, task: Task) -> Floats:
    """(N, K) 0, 1 or NaN: each class or label against the rest."""
    if task == "multilabel":
        return np.asarray(targets, np.float64)
    classes = np.asarray(targets, np.int64)
    return np.eye(max(2, int(classes.max()) + 1))[classes]


def _evidence(features: Floats, wanted: Floats) -> Floats:
    """(K,) maximum log evidence an image of features (n, D) for each column of targets (n, K)."""
    u, sigma, _ = svd(features, full_matrices=False)
    there = sigma > sigma[0] * max(features.shape) * np.finfo(float).eps
    u, square = u[:, there], sigma[there] ** 2  # (n, r), (r,)
    inside = (u.T @ wanted) ** 2  # (r, K) what of y² lies along each direction
    outside = np.maximum((wanted**2).sum(0) - inside.sum(0), 0)  # (K,) what F can not reach
    return np.array(
        [
            _maximum(square, along, float(rest), len(features))
            for along, rest in zip(inside.T, outside, strict=True)
        ]
    )


def _maximum(square: Floats, along: Floats, rest: float, n: int) -> float:
    """The highest evidence over n of one target, over α and β.

    Args:
        square: (r,) σᵢ² of the features.
        along: (r,) (uᵢᵀy)².
        rest: ‖y‖² outside of the features' span.
        n: Images.
    """
    least, most = np.log(square.min() / WIDEST), np.log(square.max() * WIDEST)

    def evidence(log_t: float) -> float:
        """At t = α/β and the β that is best for it, β = n/(‖Fm − y‖² + t mᵀm)."""
        t = np.exp(log_t)
        error = rest + float((along * (t / (square + t))).sum())  # ‖Fm − y‖² + t mᵀm
        shrunk = float(np.log1p(square / t).sum())  # log |A| − D log α
        return float(-0.5 * (n * np.log(2 * np.pi * error / n) + n + shrunk))

    log_t = float(np.clip(0.0, least, most))  # α = β = 1, where the paper begins
    for _ in range(STEPS):
        t = np.exp(log_t)
        part = t / (square + t)
        gamma = float((1 - part).sum())
        free = n - len(square) + float(part.sum())  # n − γ, without cancelling
        weights = float((along * square / (square + t) ** 2).sum())  # mᵀm
        error = rest + float((along * part**2).sum())  # ‖Fm − y‖²
        if not (weights > 0 and error > 0 and free > 0 and gamma > 0):
            break  # at an end of the range, where the evidence no longer changes
        following = np.log(gamma) + np.log(error) - np.log(free) - np.log(weights)
        following = float(np.clip(following, least, most))
        done = abs(following - log_t) < CLOSE
        log_t = following
        if done:
            return evidence(log_t) / n
    found = minimize_scalar(
        lambda at: -evidence(at),
        bounds=(max(least, log_t - 30), min(most, log_t + 30)),
        method="bounded",
        options={"xatol": 1e-9},
    )
    return max(evidence(log_t), -float(found.fun)) / n
