"""What a bundle says of where it comes from: run, network, weights and their licence, data."""

from importlib.metadata import PackageNotFoundError, version
from typing import Any

from layerwise import __version__
from layerwise.models.licence import licence_of
from layerwise.studies.workspace import Workspace
from layerwise.training.transfer import Transfer

PACKAGES = ("torch", "torchvision", "timm", "onnx", "onnxruntime", "numpy")


def origin_of(work: Workspace, run: str, transfer: Transfer) -> dict[str, Any]:
    """The run and what it started from, JSON-able; no path of this machine.

    Args:
        work: What the run was made in.
        run: Its id.
        transfer: What it kept, copied and froze.
    """
    copies = transfer.source not in ("none", "untrained") and transfer.copy != "none"
    licence = licence_of(work.weights_name if copies else "none", work.weights_file)
    return {
        "run": run,
        **work.identity,
        "transfer": transfer.to_dict(),
        "weights": work.weights_name,
        "weights_digest": work.weights_digest,
        "licence": licence.name,
        "licence_source": licence.source,
        "seed": work.seed,
    }


def data_of(work: Workspace) -> dict[str, Any]:
    """What it learnt from, JSON-able: name, fingerprint, images by part and label, patients."""
    manifest = work.manifest
    patients = set(manifest.table["patient"]) - {""}
    return {
        "data": manifest.name,
        "data_fingerprint": work.data_key,
        "counts": manifest.counts(),
        "patients": len(patients) or None,
    }


def versions() -> dict[str, str]:
    """The versions of what computed a bundle."""
    found = {"layerwise": __version__}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # torch comes under other names too
            continue
    return found
