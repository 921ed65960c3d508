"""Layerwise: which layers of a pretrained network to keep, freeze, fine-tune or cut off.

The package imports nothing heavy; each name is loaded from its module when first asked for.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOME = {
    "LayerwiseClassifier": "layerwise.estimator.classifier",
    "Transfer": "layerwise.training.transfer",
    "cut_points": "layerwise.models.cuts",
    "truncate": "layerwise.models.cuts",
    "split": "layerwise.models.cuts",
    "LayerwiseError": "layerwise.errors",
    "Recipe": "layerwise.training.recipe",
}

__all__ = [
    "LayerwiseClassifier",
    "LayerwiseError",
    "Recipe",
    "Transfer",
    "__version__",
    "cut_points",
    "split",
    "truncate",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - the attributes are of several types
    """Load a public name from its module on first use."""
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'layerwise' has no attribute {name!r}")
