"""NIH ChestX-ray14: its table turned into one that any table's reader understands.

Wang et al. 2017 (https://doi.org/10.1109/CVPR.2017.369), extended to 14 labels: 112,120 frontal
radiographs of 30,805 patients of the NIH Clinical Center, 1992 to 2015, labelled from the reports
by rules. `Data_Entry_2017.csv` (or `…_v2020.csv`) has one row an image; "Finding Labels" lists its
labels, joined by |, or says No Finding. Images lie in images_001/images to images_012/images. The
official test part (test_list.txt, 25,596 images) shares no patient with train_val_list.txt
(86,524 images).
"""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from layerwise.data.sources.options import DataOptions, only_rows, some
from layerwise.errors import DataError

LABELS = (
    "Atelectasis",
    "Cardiomegaly",
    "Effusion",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pneumonia",
    "Pneumothorax",
    "Consolidation",
    "Edema",
    "Emphysema",
    "Fibrosis",
    "Pleural_Thickening",
    "Hernia",
)
NOTHING = "No Finding"
_INDEX, _FINDINGS, _FOLLOW_UP = "Image Index", "Finding Labels", "Follow-up #"
_LISTS = {"train_val_list.txt": "train", "test_list.txt": "test"}
_SPLIT = "official part"


def recognised(columns: list[str]) -> bool:
    """Whether a table is NIH's: its first columns are Image Index and Finding Labels.

    A table that has them further back is somebody else's, made from this one.
    """
    return [name for name in columns if not name.startswith("(column")][:2] == [_INDEX, _FINDINGS]


def translate(
    path: Path, frame: pd.DataFrame, options: DataOptions, notes: list[str]
) -> tuple[pd.DataFrame, DataOptions]:
    """Make NIH's table a plain one, with a column of 0 and 1 for each of the 14 labels.

    Labels that no image has (in a part of the set) are left out. Where train_val_list.txt and
    test_list.txt lie beside the table, they are the split.

    Args:
        path: The table.
        frame: What was read from it.
        options: `only` chooses labels; where columns of labels are named, nothing is translated.
        notes: What was decided is added here.

    Returns:
        The table, and the options to read it with.

    Raises:
        DataError: A label is unknown, or an image stands in neither or both of the lists.
    """
    if options.label_column:
        return frame, options
    codes, lists = pd.factorize(frame[_FINDINGS].to_numpy(dtype=object))
    sets = [{word.strip() for word in str(text).split("|")} for text in lists]
    odd = np.array([not row <= {*LABELS, NOTHING} for row in sets], np.bool_)[codes]
    if odd.any():
        bad = [f"line {line}: {text}" for line, text in frame[_FINDINGS][odd].head(100).items()]
        raise DataError(
            f"{path}: {_FINDINGS} holds other labels than NIH's 14 in {odd.sum()} rows "
            f"({some(bad)}); correct them, or name the column with --label-column"
        )
    found = {label for row in sets for label in row}
    labels = tuple(label for label in LABELS if label in found)
    only_rows(labels, options.only, str(path))  # refuses what is not there
    labels = tuple(label for label in labels if not options.only or label in options.only)
    marks = {
        label: np.array(["1" if label in row else "0" for row in sets], dtype=object)[codes]
        for label in labels
    }
    taken = frame.drop(columns=[name for name in frame.columns if name in marks]).assign(**marks)
    said = f"NIH ChestX-ray14, labels {some(labels)}; No Finding means none of them"
    absent = [label for label in LABELS if label not in found]
    notes.append(said + (f"; no image has {some(absent)}" if absent else ""))
    changes: dict[str, Any] = {"label_column": labels, "multi_label": False, "only": ()}
    if options.path_column is None:
        changes["path_column"] = _INDEX
    if options.study_column is None and _FOLLOW_UP in frame:
        changes["study_column"] = _FOLLOW_UP
    if options.split_column is None:
        parts = _official(path, frame)
        if parts is not None:
            taken, changes["split_column"] = taken.assign(**{_SPLIT: parts}), _SPLIT
            notes.append(f"NIH: the split is the official one of {' and '.join(_LISTS)}")
    return taken, dataclasses.replace(options, **changes)


def _official(path: Path, frame: pd.DataFrame) -> list[str] | None:
    """The part of every image by the lists beside the table; None without both lists."""
    files = {path.with_name(name): part for name, part in _LISTS.items()}
    if not all(file.is_file() for file in files):
        return None
    part_of: dict[str, str] = {}
    for file, part in files.items():
        try:
            names = file.read_text(encoding="utf-8").split()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(
                f"{file}: can not be read ({error}); download it again, or remove it"
            ) from error
        both = [name for name in names if part_of.get(name, part) != part]
        if both:
            raise DataError(
                f"{file}: {len(both)} images stand in both lists ({some(both)}); download the "
                "lists again, or remove them"
            )
        part_of.update(dict.fromkeys(names, part))
    lost = [name for name in frame[_INDEX] if name.strip() not in part_of]
    if lost:
        raise DataError(
            f"{path}: {len(lost)} images stand in none of {' and '.join(_LISTS)} ({some(lost)}); "
            "download the lists again, or remove them"
        )
    return [part_of[name.strip()] for name in frame[_INDEX]]
