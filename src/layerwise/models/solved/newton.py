"""Many regularised linear problems on the same features, solved together by truncated Newton.

Each problem minimises ½ Σ ridge·v² + C·loss(v·row₁, …, v·rowₙ). The products with the features,
which cost the most, are made at one go for all problems that are not finished: one matrix product
instead of many products of a matrix and a vector. The Newton system is solved by conjugate
gradients, no more exactly than it helps (Dembo & Steihaug 1983), in float32; values and gradients
are float64. A problem whose system would take them longer than a factorisation gets that instead:
with a large C few images still violate their margin, and what they say is soon factorised (Chapelle
2007, "Training a support vector machine in the primal"). Every step goes to the exact minimum along
its line, without which the squared hinge need not end (Keerthi & DeCoste 2005).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from layerwise.errors import TrainingError
from layerwise.models.solved.margin_losses import Bend, Loss

Floats = NDArray[np.floating]
Singles = NDArray[np.float32]

TOLERANCE = 1e-9  # how far the objective may be above its minimum, relative
ENOUGH = 1e-4  # what is still an answer where rounding lets it come no closer
STEPS = 100  # Newton steps; five to ten are usual
INNER = 1000  # conjugate gradients in one, where a factorisation would be larger still
INEXACT = 0.05  # of a Newton step: how much of the gradient may remain
LINE = 50  # trials along a line; three to six are usual


@dataclass(frozen=True)
class Design:
    """Features as `minimise` wants them: the same numbers twice, since float32 costs half.

    Attributes:
        exact: (n, r) float64.
        fast: The same in float32.
        ridge: (r,) how much each squared coefficient counts in the objective: 1, or 0 for an
            intercept that is not restrained.
        squares: (r,) sums of the squared columns.
    """

    exact: Floats
    fast: Singles
    ridge: Floats
    squares: Floats

    @staticmethod
    def of(exact: Floats, ridge: Floats) -> "Design":
        """With the rest worked out."""
        squares = np.einsum("ij,ij->j", exact, exact)
        return Design(exact, exact.astype(np.float32), ridge, squares)


@dataclass(frozen=True)
class Solution:
    """Where P problems ended.

    Attributes:
        coefficients: (P, K, r).
        margins: (P, K, n) of all rows, also of those that weigh nothing.
        objective: (P,).
    """

    coefficients: Floats
    margins: Floats
    objective: Floats


def minimise(
    design: Design, loss: Loss, penalty: float, start: Floats, *, tolerance: float = TOLERANCE
) -> Solution:
    """Minimise ½ Σ ridge·v² + C·loss for every problem of a loss.

    A problem is finished when it is certain to be near enough: the objective curves at least as
    the ridge does, so its minimum is at most ½‖gradient‖² below (for the squared hinge this is the
    very duality gap). For an intercept without ridge its own curvature stands in.

    Args:
        design: The features (n, r).
        loss: Of P problems with K margins an image each.
        penalty: C.
        start: (P, K, r) coefficients to begin at.
        tolerance: How far above its minimum an objective may end, relative to itself.

    Raises:
        TrainingError: A problem did not come near enough.
    """
    v, live = start.copy(), np.arange(len(start))
    f = _margins(v, design.exact)
    objective = np.zeros(len(v))
    gap = np.zeros(len(v))
    stiff = np.zeros(len(v), np.bool_)
    for _ in range(STEPS):
        x, m, mine = v[live], f[live], loss.take(live)
        ridges = (design.ridge * x * x).sum(axis=(1, 2))
        objective[live] = 0.5 * ridges + penalty * mine.value(m)
        gradient = design.ridge * x + penalty * (mine.slope(m) @ design.exact)
        bend = mine.bend(m)
        scale = _scale(design, bend, penalty)  # (P, K, r)
        certain = np.where(design.ridge > 0, design.ridge, scale)
        gap[live] = 0.5 * (gradient * gradient / certain).sum(axis=(1, 2))
        todo = np.flatnonzero(gap[live] > tolerance * objective[live])
        live = live[todo]
        if not len(live):
            break
        x, m, mine = x[todo], m[todo], mine.take(todo)
        bend, gradient, scale = bend.take(todo), gradient[todo], scale[todo]
        step, stiff[live] = _direction(design, bend, penalty, gradient, scale, stiff[live])
        change = _margins(step, design.exact)
        t = _along(design, mine, penalty, (x, m), (step, change))[:, None, None]
        v[live], f[live] = x + t * step, m + t * change
    if (gap > ENOUGH * objective).any():
        raise TrainingError(
            f"a linear classifier with C = {penalty:g} was not found in {STEPS} steps; leave the "
            "largest values of C out, or standardise the activations"
        )
    return Solution(v, f, objective)


def _margins(v: NDArray[np.floating], features: NDArray[np.floating]) -> Floats:
    """(P, K, n) of coefficients (P, K, r) on features (n, r)."""
    flat = v.reshape(-1, v.shape[2]) @ features.T
    return np.asarray(flat.reshape(*v.shape[:2], -1))


def _scale(design: Design, bend: Bend, penalty: float) -> Floats:
    """(P, K, r) about the diagonal of the second derivative, which preconditions it.

    Were the columns orthogonal and the images that count drawn at random, it would be all of it.
    """
    share = bend.diagonal.mean(axis=2, keepdims=True)
    return np.asarray(design.ridge + np.maximum(penalty * share * design.squares, 1e-12))


def _direction(
    design: Design,
    bend: Bend,
    penalty: float,
    gradient: Floats,
    scale: Floats,
    stiff: NDArray[np.bool_],
) -> tuple[Floats, NDArray[np.bool_]]:
    """The Newton step (P, K, r), and for which problems (P,) it was factorised."""
    size = np.sqrt((gradient * gradient / scale).sum(axis=(1, 2), keepdims=True))
    unit = -gradient / size  # well within float32
    if gradient.shape[1] > 1:
        limit = np.full(len(unit), float(INNER))
    else:
        limit = np.where(stiff, 0, _worth(design, bend))
    step, stiff = _conjugate(design, bend.single(), penalty, unit, scale, limit)
    if gradient.shape[1] == 1:
        for p in np.flatnonzero(stiff):
            step[p, 0] = _factorised(design, penalty * bend.diagonal[p, 0], unit[p, 0])
    return step * size, stiff


def _worth(design: Design, bend: Bend) -> Floats:
    """(P,) how many conjugate gradients cost as much as a factorisation."""
    n, r = design.exact.shape
    active = (bend.diagonal > 0).sum(axis=(1, 2))
    small = np.minimum(active, r) if design.ridge.all() else np.full(len(active), r)
    return np.asarray(small * small * (np.maximum(active, r) + small / 3) / (4.0 * n * r))


def _factorised(design: Design, bend: Floats, rest: Floats) -> Floats:
    """(r,) x of (ridge + Rᵀ·bend·R) x = rest, by Cholesky in the smaller of two forms."""
    active = np.flatnonzero(bend > 0)
    rows = design.exact[active]  # (s, r)
    if len(active) < rows.shape[1] and design.ridge.all():  # the other way round (Woodbury)
        inner = rows @ rows.T
        inner[np.diag_indices_from(inner)] += 1 / bend[active]
        factor = cho_factor(inner, overwrite_a=True, check_finite=False)
        return np.asarray(rest - rows.T @ cho_solve(factor, rows @ rest))
    rows *= np.sqrt(bend[active])[:, None]
    whole = rows.T @ rows
    # The smallest addition: an intercept without ridge may have nothing to hold on to.
    whole[np.diag_indices_from(whole)] += np.maximum(design.ridge, 1e-12)
    return np.asarray(cho_solve(cho_factor(whole, overwrite_a=True, check_finite=False), rest))


def _conjugate(
    design: Design, bend: Bend, penalty: float, rest: Floats, scale: Floats, limit: Floats
) -> tuple[Floats, NDArray[np.bool_]]:
    """Preconditioned conjugate gradients in float32: (P, K, r), and which (P,) reached a limit."""
    out = np.zeros_like(rest)
    over = np.zeros(len(rest), np.bool_)
    live = np.arange(len(rest))
    inverse, ridge = (1 / scale).astype(np.float32), design.ridge.astype(np.float32)
    rest = rest.astype(np.float32)
    step: Floats = np.zeros_like(rest)
    p: Floats = inverse * rest
    norm = (rest * p).sum(axis=(1, 2))
    for made in range(INNER + 1):
        ready = norm <= INEXACT**2
        over[live] = ~ready & (made >= limit[live])
        busy = np.flatnonzero(~ready & ~over[live])
        if len(busy) < len(live):
            out[live] = step
            live, bend = live[busy], bend.take(busy)
            rest, step, p, inverse, norm = (a[busy] for a in (rest, step, p, inverse, norm))
        if not len(live):
            break
        moved = bend.times(_margins(p, design.fast))
        turned = ridge * p + np.float32(penalty) * (moved @ design.fast)
        a = (norm / (p * turned).sum(axis=(1, 2)))[:, None, None]
        step, rest = step + a * p, rest - a * turned
        z = inverse * rest
        before, norm = norm, (rest * z).sum(axis=(1, 2))
        p = z + (norm / before)[:, None, None] * p
    out[live] = step
    return out, over


def _along(
    design: Design,
    loss: Loss,
    penalty: float,
    place: tuple[Floats, Floats],
    step: tuple[Floats, Floats],
) -> Floats:
    """(P,) how far along the step the minimum lies: Newton in one dimension, within a bracket.

    Args:
        design: As of `minimise`, like the loss and penalty.
        loss: Of P problems.
        penalty: C.
        place: Coefficients (P, K, r) and their margins (P, K, n).
        step: How both change.
    """
    linear = (design.ridge * place[0] * step[0]).sum(axis=(1, 2))
    square = (design.ridge * step[0] * step[0]).sum(axis=(1, 2))
    change = step[1]
    low, high, t = np.zeros(len(linear)), np.full(len(linear), np.inf), np.ones(len(linear))
    for _ in range(LINE):
        at = place[1] + t[:, None, None] * change
        slope = linear + t * square + penalty * (loss.slope(at) * change).sum(axis=(1, 2))
        curve = square + penalty * (loss.bend(at).times(change) * change).sum(axis=(1, 2))
        low, high = np.where(slope <= 0, t, low), np.where(slope > 0, t, high)
        better = t - slope / np.maximum(curve, np.finfo(np.float64).tiny)
        beyond = (better <= low) | (better >= high)
        halfway = np.where(np.isinf(high), 2 * t, (low + high) / 2)
        better = np.where(beyond & (slope != 0), halfway, better)
        near = np.abs(better - t) <= 1e-8 * t
        t = better
        if near.all():
            break
    return t
