"""Losses of margins, for many problems at once: squared hinge, logistic, softmax.

A problem has K margins an image: one for the squared hinge and the logistic loss, one a class for
softmax. All arrays are (P, K, n): problems, margins of one, images. `newton.minimise` needs of a
loss its value, its slope, and how the slope bends.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]  # float64, but for what `Bend.single` gives


class Bend(Protocol):
    """The second derivative of a loss at some margins: one K by K matrix an image."""

    @property
    def diagonal(self) -> Floats:
        """(P, K, n)."""
        ...

    def times(self, change: Floats) -> Floats:
        """The slope's change (P, K, n) by a small change of the margins."""
        ...

    def take(self, problems: NDArray[np.int64]) -> "Bend":
        """That of some of the problems."""
        ...

    def single(self) -> "Bend":
        """The same in float32."""
        ...


class Loss(Protocol):
    """A weighted sum over images of a loss of their margins, for each of P problems."""

    def value(self, margins: Floats) -> Floats:
        """(P,) of margins (P, K, n)."""
        ...

    def slope(self, margins: Floats) -> Floats:
        """(P, K, n) the derivative in every margin."""
        ...

    def bend(self, margins: Floats) -> Bend:
        """The second derivative there."""
        ...

    def take(self, problems: NDArray[np.int64]) -> "Loss":
        """The loss of some of the problems."""
        ...


@dataclass(frozen=True)
class Diagonal:
    """A bend that keeps margins apart: all that a loss of one margin has."""

    diagonal: Floats

    def times(self, change: Floats) -> Floats:
        """See `Bend.times`."""
        return np.asarray(change * self.diagonal)

    def take(self, problems: NDArray[np.int64]) -> "Diagonal":
        """See `Bend.take`."""
        return Diagonal(self.diagonal[problems])

    def single(self) -> "Diagonal":
        """See `Bend.single`."""
        return Diagonal(self.diagonal.astype(np.float32))


@dataclass(frozen=True)
class SoftmaxBend:
    """diag(p) − p pᵀ, times the weight."""

    shares: Floats  # (P, K, n) probabilities
    weights: Floats  # (P, 1, n)

    @property
    def diagonal(self) -> Floats:
        """(P, K, n)."""
        return np.asarray(self.weights * self.shares * (1 - self.shares))

    def times(self, change: Floats) -> Floats:
        """See `Bend.times`."""
        p = self.shares
        return np.asarray(self.weights * p * (change - (p * change).sum(axis=1, keepdims=True)))

    def take(self, problems: NDArray[np.int64]) -> "SoftmaxBend":
        """See `Bend.take`."""
        return SoftmaxBend(self.shares[problems], self.weights[problems])

    def single(self) -> "SoftmaxBend":
        """See `Bend.single`."""
        return SoftmaxBend(self.shares.astype(np.float32), self.weights.astype(np.float32))


@dataclass(frozen=True)
class SquaredHinge:
    """max(0, 1 − y f)², y = ±1: the loss of scikit-learn's `LinearSVC` (Tang 2013, L2-SVM).

    Attributes:
        wanted: (P, 1, n) 0 or 1; y is 2·wanted − 1.
        weights: (P, 1, n) 0 or more.
    """

    wanted: Floats
    weights: Floats

    def _slack(self, margins: Floats) -> tuple[Floats, Floats]:
        y = 2 * self.wanted - 1
        return y, np.maximum(0.0, 1 - y * margins)

    def value(self, margins: Floats) -> Floats:
        """See `Loss.value`."""
        slack = self._slack(margins)[1]
        return np.asarray((self.weights * slack * slack).sum(axis=(1, 2)))

    def slope(self, margins: Floats) -> Floats:
        """See `Loss.slope`."""
        y, slack = self._slack(margins)
        return -2 * self.weights * y * slack

    def bend(self, margins: Floats) -> Diagonal:
        """See `Loss.bend`: 2 where the margin is violated (a generalised second derivative)."""
        return Diagonal(2 * self.weights * (self._slack(margins)[1] > 0))

    def take(self, problems: NDArray[np.int64]) -> "SquaredHinge":
        """See `Loss.take`."""
        return SquaredHinge(self.wanted[problems], self.weights[problems])


@dataclass(frozen=True)
class Logistic:
    """log(1 + exp(f)) − wanted·f.

    Attributes:
        wanted: (P, 1, n) 0 to 1; between them for targets that are not certain.
        weights: (P, 1, n) 0 or more.
    """

    wanted: Floats
    weights: Floats

    def value(self, margins: Floats) -> Floats:
        """See `Loss.value`."""
        each = np.logaddexp(0, margins) - self.wanted * margins
        return np.asarray((self.weights * each).sum(axis=(1, 2)))

    def slope(self, margins: Floats) -> Floats:
        """See `Loss.slope`."""
        return np.asarray(self.weights * (0.5 * (1 + np.tanh(0.5 * margins)) - self.wanted))

    def bend(self, margins: Floats) -> Diagonal:
        """See `Loss.bend`."""
        t = np.tanh(0.5 * margins)
        return Diagonal(self.weights * 0.25 * (1 - t * t))

    def take(self, problems: NDArray[np.int64]) -> "Logistic":
        """See `Loss.take`."""
        return Logistic(self.wanted[problems], self.weights[problems])


@dataclass(frozen=True)
class Softmax:
    """log Σ exp(f) − f of the class: multinomial logistic regression.

    Attributes:
        wanted: (P, K, n) 0 to 1, together 1 over the classes.
        weights: (P, 1, n) 0 or more.
    """

    wanted: Floats
    weights: Floats

    def value(self, margins: Floats) -> Floats:
        """See `Loss.value`."""
        top = margins.max(axis=1, keepdims=True)
        total = np.log(np.exp(margins - top).sum(axis=1, keepdims=True)) + top  # (P, 1, n)
        each = total - (self.wanted * margins).sum(axis=1, keepdims=True)
        return np.asarray((self.weights * each).sum(axis=(1, 2)))

    def _shares(self, margins: Floats) -> Floats:
        e = np.exp(margins - margins.max(axis=1, keepdims=True))
        return np.asarray(e / e.sum(axis=1, keepdims=True))

    def slope(self, margins: Floats) -> Floats:
        """See `Loss.slope`."""
        return np.asarray(self.weights * (self._shares(margins) - self.wanted))

    def bend(self, margins: Floats) -> SoftmaxBend:
        """See `Loss.bend`."""
        return SoftmaxBend(self._shares(margins), self.weights)

    def take(self, problems: NDArray[np.int64]) -> "Softmax":
        """See `Loss.take`."""
        return Softmax(self.wanted[problems], self.weights[problems])
