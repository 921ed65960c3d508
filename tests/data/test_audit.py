"""The audit as a whole, and the gate that it is to `fit`."""

import numpy as np
import pytest

from layerwise.data.audit import audit, check
from layerwise.data.manifest import Manifest, make_table
from layerwise.errors import LeakError

PARTS = ["train", "train", "val", "val", "test", "test", ""]


def made(patients=None, targets=(0, 1, 0, 1, 0, 1, 0)):
    table = make_table([f"{i}.png" for i in range(7)], patients=patients, splits=PARTS)
    return Manifest(
        name="made", task="binary", labels=("a", "b"), table=table, targets=np.array(targets)
    )


def test_refused_with_exit_code_3_unless_allowed():
    leaking = made(["p", "q", "q", "", "r", "p", ""])
    found = audit(leaking)
    with pytest.raises(LeakError, match=r"in both train and val(.|\n)*--allow-leaks") as caught:
        check(leaking, found)
    assert caught.value.exit_code == 3
    notes = check(leaking, found, allow_leaks=True)
    assert len([note for note in notes if "allowed by --allow-leaks" in note]) == 2
