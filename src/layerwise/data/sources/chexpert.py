"""CheXpert: its table turned into one that any table's reader understands.

CheXpert (Irvin et al. 2019, https://doi.org/10.1609/aaai.v33i01.3301590): 224,316 chest
radiographs of 65,240 patients of Stanford Hospital, 2002 to 2017. `train.csv` has 223,414 images of
64,540 patients, labelled from the reports by rules; `valid.csv` 234 images of 200 patients,
labelled by three radiologists. For each of 14 observations a cell says

    1     mentioned as present, at least once and without doubt
    0     mentioned as absent
    -1    mentioned with doubt, or in a report that can be read either way
    blank not mentioned

No Finding is 1 where none of the other twelve pathologies is present or in doubt; Support Devices
may be there all the same. Enlarged Cardiomediastinum stands above Cardiomegaly, and Lung Opacity
above Edema, Consolidation, Pneumonia, Lung Lesion and Atelectasis (Fig. 1 of the paper).
"""

import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from layerwise.data.sources.frame import read_frame, table_stem
from layerwise.data.sources.options import DataOptions, some
from layerwise.errors import DataError

LABELS = (
    "No Finding",
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
)
LABEL_SETS = {
    "chexpert": LABELS,
    "peng": LABELS[:13],  # Peng et al. 2021, §2.3: a device is no pathology
    # The five of CheXpert's own competition (Irvin et al. 2019, §4)
    "competition": ("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Pleural Effusion"),
}
UNCERTAIN = {"zeros": "0", "ones": "1", "ignore": ""}  # Irvin et al. 2019, §3.1
_SAID = {"0": "absent", "1": "present", "": "unknown"}
_PATIENT, _STUDY, _SPLIT = "patient in Path", "study in Path", "official part"
_VALUES = {"": "0", "0": "0", "0.0": "0", "1": "1", "1.0": "1", "-1": "?", "-1.0": "?"}
_PLACE = re.compile(r"(patient\d+)/(study\d+)/")


def recognised(columns: list[str]) -> bool:
    """Whether a table has CheXpert's columns: Path and the 14 labels."""
    return {"Path", *LABELS} <= set(columns)


def translate(
    path: Path, frame: pd.DataFrame, options: DataOptions, notes: list[str]
) -> tuple[pd.DataFrame, DataOptions]:
    """Make CheXpert's table a plain one: labels of 0, 1 or nothing, patient and study as columns.

    Not mentioned counts as absent, as in Peng et al. 2021 and most work since. With
    `options.uncertain` "zeros" (Peng's U-Zeros) doubt counts as absent, with "ones" as present,
    with "ignore" as unknown: that label of that image is left out of the loss and every metric.
    Where `train.csv` lies beside `valid.csv`, the latter is the given validation part (which is
    used if it is large enough for the labels that are learnt, see `layerwise.data.splits.assign`).

    Args:
        path: The table.
        frame: What was read from it.
        options: `label_set` or `label_column` choose labels; `uncertain`; other flags stay.
        notes: What was decided is added here.

    Returns:
        The table, and the options to read it with.

    Raises:
        DataError: A flag has no such value, or a cell holds something else; its line is named.
    """
    labels = _labels(options)
    changes: dict[str, Any] = {"label_set": None, "uncertain": "zeros"}
    frame = _with_valid(path, frame, options, changes, notes)
    if labels:
        if options.multi_label:
            raise DataError("--multi-label: CheXpert has a column a label; leave it out")
        doubt = UNCERTAIN[options.uncertain]
        frame = frame.assign(**{name: _marks(path, frame[name], doubt) for name in labels})
        changes["label_column"] = labels
        notes.append(
            f"CheXpert, labels {some(labels)}: not mentioned counts as absent, doubt (-1) as "
            f"{_SAID[doubt]} (--uncertain)"
        )
    places = [_PLACE.search(name) for name in frame["Path"]]
    if options.path_column is None:
        changes["path_column"] = "Path"
    if options.patient_column is None and options.patient_from is None and all(places):
        patients = [place[1] for place in places if place]
        studies = [f"{place[1]}/{place[2]}" for place in places if place]
        frame = frame.assign(**{_PATIENT: patients, _STUDY: studies})
        changes |= {"patient_column": _PATIENT, "study_column": options.study_column or _STUDY}
        notes.append("CheXpert: patient and study are taken from the path")
    return frame, dataclasses.replace(options, **changes)


def _labels(options: DataOptions) -> tuple[str, ...]:
    """The labels that are learnt; none where the user names columns that are no such labels."""
    if options.label_set is not None and options.label_column:
        raise DataError("--label-set and --label-column were both given; keep one")
    if options.label_column:
        return options.label_column if set(options.label_column) <= set(LABELS) else ()
    name = options.label_set or "chexpert"
    if name not in LABEL_SETS:
        raise DataError(f"--label-set {name} is unknown; it is one of {', '.join(LABEL_SETS)}")
    return LABEL_SETS[name]


def _marks(path: Path, column: "pd.Series[str]", doubt: str) -> NDArray[np.object_]:
    """Cells as "0", "1" or "" (unknown)."""
    codes, texts = pd.factorize(column.to_numpy(dtype=object))
    marks = [_VALUES.get(str(text).strip()) for text in texts]
    if None in marks:
        odd = np.array([mark is None for mark in marks])[codes]
        bad = [f"line {line}: {value}" for line, value in column[odd].head(100).items()]
        raise DataError(
            f"{path}: label column {column.name!r} holds something else than 1, 0, -1 or nothing "
            f"in {odd.sum()} rows ({some(bad)}); correct them or download the table again"
        )
    return np.array([doubt if mark == "?" else mark for mark in marks], dtype=object)[codes]


def _with_valid(
    path: Path,
    frame: pd.DataFrame,
    options: DataOptions,
    changes: dict[str, Any],
    notes: list[str],
) -> pd.DataFrame:
    """Both tables of the official split, where train.csv is read and valid.csv lies beside it."""
    beside = path.with_name(path.name.replace("train", "valid", 1))
    if table_stem(path) != "train" or options.split_column is not None or "split" in frame:
        return frame
    if not (beside.is_file() and beside.with_name("valid").is_dir()):
        return frame
    valid = read_frame(beside)
    if list(valid.columns) != list(frame.columns):
        return frame
    valid.index = pd.Index([f"{line} of {beside.name}" for line in valid.index], dtype=object)
    both = pd.concat([frame.assign(**{_SPLIT: "train"}), valid.assign(**{_SPLIT: "val"})])
    changes["split_column"] = _SPLIT
    notes.append(
        f"CheXpert: {beside.name} beside the table is the given validation part "
        f"({len(valid)} images)"
    )
    return both
