"""Whose picture a DICOM file is, and when it was taken."""

from dataclasses import dataclass
from datetime import date
from pathlib import Path

from layerwise.data.pictures.dicom import HEAD, is_dicom, texts
from layerwise.errors import DataError

DATES = ("StudyDate", "AcquisitionDate", "ContentDate")


@dataclass(frozen=True)
class Identity:
    """Header fields that splits need; "" where absent.

    They identify people, and stay in memory: see `layerwise.data.sources.dicom`.
    """

    patient: str  # PatientID
    study: str  # StudyInstanceUID
    instance: str  # SOPInstanceUID
    modality: str  # CR, DX, …
    date: str  # ISO; of the study, else of the acquisition, else of the content


def identity(path: str | Path) -> Identity | None:
    """Whose picture a file is; None where it is no DICOM file, or can not be read."""
    fields = ("PatientID", "StudyInstanceUID", "SOPInstanceUID", "Modality")
    try:
        with open(path, "rb") as file:
            if not is_dicom(file.read(HEAD)):
                return None
        found = texts(path, [*fields, *DATES])
    except (OSError, ValueError, DataError):  # ValueError: a path that can not be one
        return None
    days = [_iso(found[name]) for name in DATES]
    patient, study, instance, modality = (found[name] for name in fields)
    return Identity(patient, study, instance, modality, next(filter(None, days), ""))


def _iso(text: str) -> str:
    """A date of DICOM (20040826, formerly 2004.08.26) as 2004-08-26; "" where it is none."""
    digits = text.replace(".", "")
    try:
        return date(int(digits[:4]), int(digits[4:6]), int(digits[6:8])).isoformat()
    except ValueError:
        return ""
