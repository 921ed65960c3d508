"""The 1,797 handwritten digits that ship with scikit-learn: data that are always there."""

import numpy as np

from layerwise.data.manifest import Manifest, make_table
from layerwise.data.sources.options import DataOptions, only_rows
from layerwise.errors import DataError


def read(options: DataOptions) -> Manifest:
    """Make the manifest of the digits: 8x8, classes "0" to "9", no split; ids are "digits/0017".

    They are a part of the optical digits of Alpaydin and Kaynak, UCI repository,
    https://doi.org/10.24432/C50P49.

    Raises:
        DataError: A flag is given that the digits have no use for, or scikit-learn is not there.
    """
    if options.patient_from is not None:
        raise DataError("--patient-from: the digits have no file names; leave it out")
    if options.positive is not None:
        raise DataError("--positive: the digits are ten classes; leave it out")
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:  # an installation that only serves
        raise DataError(
            "digits: they come with scikit-learn, which is not installed here; pip install "
            "scikit-learn, or name data of your own"
        ) from error

    images, targets = load_digits(return_X_y=True)
    pixels = np.rint(images.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)  # 0 … 16 → 0 … 255
    manifest = Manifest(
        name="digits",
        task="multiclass",
        labels=tuple(str(digit) for digit in range(10)),
        table=make_table([f"digits/{i:04d}" for i in range(len(pixels))]),
        targets=targets.astype(np.int64),
        pixels=pixels,
        source="digits",
    )
    if not options.only:
        return manifest
    labels = manifest.labels
    only_rows(labels, options.only, "digits")  # refuses what is not there
    if len(set(options.only)) < 2:
        raise DataError(f"--only {options.only[0]}: one class alone; name two digits or more")
    return manifest.with_labels(tuple(label for label in labels if label in options.only))
