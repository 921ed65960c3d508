"""DICOM files for tests, made on the spot; each carries names that must never come out."""

import io
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

PLANTED = {
    "PatientName": "PLANTEDNAME^ANNA",
    "PatientID": "PLANTEDID77",
    "PatientBirthDate": "19331122",
    "InstitutionName": "PLANTED HOSPITAL",
    "StudyInstanceUID": "1.2.826.0.1.777.1",
    "SOPInstanceUID": "1.2.826.0.1.777.2",
    "StudyDate": "20110907",
    "AccessionNumber": "PLANTEDACC5",
}
SECRETS = ("PLANTED", "ANNA", "19331122", "1933-11-22", "1.777.", "20110907", "2011-09-07")
SYNTAXES = {
    "explicit": "1.2.840.10008.1.2.1",
    "implicit": "1.2.840.10008.1.2",
    "big": "1.2.840.10008.1.2.2",
    "deflated": "1.2.840.10008.1.2.1.99",
    "rle": "1.2.840.10008.1.2.5",
    "jpeg": "1.2.840.10008.1.2.4.50",
    "extended": "1.2.840.10008.1.2.4.51",
    "lossless": "1.2.840.10008.1.2.4.70",
    "j2k": "1.2.840.10008.1.2.4.90",
    "htj2k": "1.2.840.10008.1.2.4.201",
    "mpeg": "1.2.840.10008.1.2.4.100",
}


def make_dicom(*args: Any, **elements: Any) -> bytes:  # noqa: ANN401
    """As `_make`, whatever pydicom thinks of the values."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _make(*args, **elements)


def _make(
    pixels: np.ndarray | bytes | None,
    syntax: str = "explicit",
    preamble: bool = True,
    **elements: Any,  # noqa: ANN401
) -> bytes:
    """The bytes of a DICOM file.

    Args:
        pixels: (H, W) or (H, W, 3) as stored; bytes are a compressed frame (give Rows, Columns);
            None leaves them out.
        syntax: A key of SYNTAXES, or a UID.
        preamble: Whether it begins with 128 bytes, DICM and group 2.
        **elements: By keyword; a tuple is (VR, value); None removes one.
    """
    import pydicom
    from pydicom.encaps import encapsulate

    data = pydicom.Dataset()
    uid = pydicom.uid.UID(SYNTAXES.get(syntax, syntax))
    array = pixels if isinstance(pixels, np.ndarray) else np.zeros((8, 8), np.uint8)
    bits = 8 * array.dtype.itemsize
    usual = {
        **PLANTED,
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.1",
        "Modality": "CR",
        "SamplesPerPixel": 3 if array.ndim == 3 else 1,
        "PhotometricInterpretation": "RGB" if array.ndim == 3 else "MONOCHROME2",
        "Rows": array.shape[0],
        "Columns": array.shape[1],
        "BitsAllocated": bits,
        "BitsStored": bits,
        "PixelRepresentation": int(array.dtype.kind == "i"),
        **({"PlanarConfiguration": 0} if array.ndim == 3 else {}),
    }
    usual |= elements
    stored = usual["BitsStored"]
    usual.setdefault("HighBit", (stored if isinstance(stored, int) and stored else 1) - 1)
    for name, value in usual.items():
        if isinstance(value, tuple):
            data.add_new(pydicom.datadict.tag_for_keyword(name), *value)
        elif value is not None:
            setattr(data, name, value)
    if isinstance(pixels, bytes):
        data.PixelData = encapsulate([pixels])
        data["PixelData"].is_undefined_length = True
        data["PixelData"].VR = "OB"
    elif pixels is not None:
        content = array.astype(array.dtype.newbyteorder(">" if syntax == "big" else "<"))
        raw = content.tobytes()
        data.PixelData = raw + b"\0" * (len(raw) % 2)
        data["PixelData"].VR = "OB" if bits == 8 else "OW"
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.MediaStorageSOPClassUID = usual["SOPClassUID"]
    data.file_meta.MediaStorageSOPInstanceUID = PLANTED["SOPInstanceUID"]
    data.file_meta.TransferSyntaxUID = uid
    file = io.BytesIO()
    if syntax == "rle" and isinstance(pixels, np.ndarray):
        data.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        data.compress(uid, encoding_plugin="pydicom", generate_instance_uid=False)
    if preamble:
        how = {} if syntax in SYNTAXES else {"implicit_vr": False, "little_endian": True}
        pydicom.dcmwrite(file, data, enforce_file_format=True, **how)
    else:
        del data.file_meta
        pydicom.dcmwrite(file, data, implicit_vr=syntax == "implicit", little_endian=True)
    return file.getvalue()


@pytest.fixture(scope="session")
def dicom_bytes() -> Callable[..., bytes]:
    """`make_dicom`."""
    return make_dicom


@pytest.fixture(scope="session")
def leaks() -> Callable[[str], list[str]]:
    """Which of the planted names a text holds."""
    return lambda text: [secret for secret in SECRETS if secret in text]
