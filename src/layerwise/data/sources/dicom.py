"""What DICOM headers add to a manifest: patient, study and date; under pseudonyms unless asked.

PatientID, StudyInstanceUID and dates identify people, and a manifest is written to disk. So they
stay in memory, and the manifest gets numbers and days counted from the first one instead. These
can not be turned back without the files, and are enough to split by patient and by date.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import date

from layerwise.data.manifest import Manifest
from layerwise.data.pictures.identity import Identity
from layerwise.data.sources.options import DataOptions
from layerwise.data.storage.workers import map_chunks, worker_count

RADIOGRAPHS = ("CR", "DX", "DR", "RG", "OT", "SC", "")  # of which nothing is said
OTHERS = (  # what may be quoted; anything else may be a name that strayed into the field
    "BMD CT DOC ECG ES GM IO IVOCT IVUS MG MR NM OP OPT PT PX RF RTIMAGE SEG SM SR TG US XA XC"
).split()
RASTER = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif")


def complete(manifest: Manifest, options: DataOptions) -> Manifest:
    """Fill in patient, study and date from the headers of those files that are DICOM.

    A column that the source, a flag or the file names gave is left as it is. A picture without
    PatientID gets the patient of its study; where all files name the same patient, that is taken
    for a placeholder, and each study for a patient. Patients and studies become patient-0001 and
    study-0001, numbered in the order of the sorted ids; dates become day-00012, days since the
    earliest date of the data set, which sort as text. With `options.keep_identifiers` they are
    PatientID, StudyInstanceUID and ISO dates as they stand.

    Args:
        manifest: Of any source. Files whose names end like those of pictures (.png, …) are not
            opened.
        options: Only `keep_identifiers` is used.

    Returns:
        The manifest with more in its columns and notes (counts only); itself, where no file is
        DICOM.
    """
    found = _identities(manifest)
    if not found:
        return manifest
    ids = manifest.table["id"].tolist()
    order = sorted(found, key=lambda row: ids[row])
    notes = [*_modalities(found)]
    columns: dict[str, dict[int, str]] = {}
    if not manifest.patients_known:
        columns["patient"] = _patients(found, notes)
    if not (manifest.table["study"] != "").any():
        columns["study"] = {row: one.study for row, one in found.items()}
    if not (manifest.table["date"] != "").any():
        columns["date"] = {row: one.date for row, one in found.items()}
    for name, values in columns.items():
        known = [row for row in order if values[row]]
        distinct = {values[row] for row in known}
        if not options.keep_identifiers:
            values = _days(values, known) if name == "date" else _numbered(name, values, known)
        filled = manifest.table[name].tolist()
        for row in known:
            filled[row] = values[row]
        manifest = manifest.replace(table=manifest.table.assign(**{name: filled}))
        if known:
            kept = options.keep_identifiers
            notes.append(_said(name, len(known), len(found), len(distinct), kept))
    return manifest.replace(notes=(*manifest.notes, *notes))


def sop_index(paths: Iterable[str]) -> dict[str, str]:
    """SOPInstanceUID → file, for tables that name pictures by it. To be kept in memory only.

    Args:
        paths: Files; what is not DICOM is left out.
    """
    every = list(paths)
    found = _read(every, range(len(every)))
    return {one.instance: every[row] for row, one in found.items() if one.instance}


def _identities(manifest: Manifest) -> dict[int, Identity]:
    """What the header of each DICOM file says, by row."""
    paths = manifest.table["path"].tolist()
    rows = [i for i, path in enumerate(paths) if path and not path.lower().endswith(RASTER)]
    return _read(paths, rows)


def _read(paths: Sequence[str], rows: Sequence[int]) -> dict[int, Identity]:
    """The identity in each of these files that is DICOM, by worker processes where many."""
    found = {}
    workers = worker_count(None, len(rows) // 4)  # a header is a quarter of a picture's work
    for part, answers in map_chunks(paths, {"what": "dicom"}, workers, rows):
        for row, entry in zip(part, answers, strict=True):
            if entry is not None:
                found[row] = Identity(**entry)
    return found


def _patients(found: dict[int, Identity], notes: list[str]) -> dict[int, str]:
    """The patient of each row: PatientID, else that of its study's other pictures, else the study.

    Pictures of one study are of one person, so this never tears a person apart.
    """
    named = {one.patient for one in found.values() if one.patient}
    placeholder = len(named) == 1 and len(found) > 1
    by_study: dict[str, str] = {}
    if placeholder:
        notes.append(
            "all DICOM files name the same PatientID; it is taken for a placeholder, and each "
            "study counts as a patient (--patient-column or --patient-from says it better)"
        )
    else:
        by_study = {one.study: one.patient for one in found.values() if one.study and one.patient}
    return {
        row: (not placeholder and one.patient)
        or by_study.get(one.study, f"study {one.study}" if one.study else "")
        for row, one in found.items()
    }


def _numbered(name: str, values: dict[int, str], known: list[int]) -> dict[int, str]:
    """patient-0001, … in the order in which they first occur."""
    numbers: dict[str, int] = {}
    for row in known:
        numbers.setdefault(values[row], len(numbers) + 1)
    width = max(4, len(str(len(numbers))))
    return {row: f"{name}-{numbers[values[row]]:0{width}}" for row in known}


def _days(values: dict[int, str], known: list[int]) -> dict[int, str]:
    """day-00012: days since the earliest date; they sort as text."""
    ordinal = {row: date.fromisoformat(values[row]).toordinal() for row in known}
    first = min(ordinal.values(), default=0)
    return {row: f"day-{day - first:05}" for row, day in ordinal.items()}


def _said(name: str, known: int, total: int, distinct: int, kept: bool) -> str:
    """The note on one column."""
    plural = {"patient": "patients", "study": "studies", "date": "dates"}[name]
    text = (
        f"{plural} of {known} of {total} DICOM files are from their headers: {distinct} different"
    )
    if kept:
        return f"{text}, as they stand there (--keep-identifiers)"
    how = "days since the first" if name == "date" else "numbers instead of names"
    return f"{text}; shown as {how}"


def _modalities(found: dict[int, Identity]) -> list[str]:
    """A note on pictures that are no radiographs."""
    counts = Counter(one.modality for one in found.values() if one.modality not in RADIOGRAPHS)
    parts = [f"{counts[name]} {name}" for name in OTHERS if counts[name]]
    unknown = sum(n for name, n in counts.items() if name not in OTHERS)
    parts += [f"{unknown} of another modality"] if unknown else []
    if not parts:
        return []
    return [f"not all DICOM files are radiographs (CR, DX) or captures: {', '.join(parts)}"]
