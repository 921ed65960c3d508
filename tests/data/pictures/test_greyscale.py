"""The grey values of DICOM, held against pydicom's own functions where these are right."""

import numpy as np
import pytest

from layerwise.data.pictures.greyscale import Greyscale, Rescale, Table, Window, shown


def dataset(**elements):
    pydicom = pytest.importorskip("pydicom")
    data = pydicom.Dataset()
    base = {"PhotometricInterpretation": "MONOCHROME2", "BitsStored": 12, "PixelRepresentation": 0}
    for name, value in (base | elements).items():
        setattr(data, name, value)
    return data


def table_item(entries, first, bits):
    import pydicom

    item = pydicom.Dataset()
    item.add_new(0x00283002, "SS" if first < 0 else "US", [len(entries), first, bits])
    item.add_new(0x00283006, "US", list(map(int, entries)))
    return item


def to_eight(values, low, high):
    return np.floor(np.clip((values - low) / (high - low), 0, 1) * 255 + 0.5).astype(np.uint8)


EVERY = np.arange(4096, dtype=np.uint16).reshape(64, 64)
SIGNED = np.arange(-2048, 2048, dtype=np.int16).reshape(64, 64)


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize("center, width", [(2000, 1000), (40.5, 1), (4000, 4096), (-50, 333.3)])
def test_windows_are_those_of_pydicom(function, center, width):
    from pydicom.pixels import apply_windowing

    data = dataset(WindowCenter=center, WindowWidth=width, VOILUTFunction=function)
    expected = to_eight(apply_windowing(EVERY, data), 0, 4095)
    got = shown(EVERY, Greyscale(12, voi=Window(center, width, function)))
    assert (got == expected).all()


def test_a_window_after_rescaling_signed_values():
    from pydicom.pixels import apply_modality_lut, apply_windowing

    data = dataset(
        PixelRepresentation=1, RescaleSlope=1.5, RescaleIntercept=-100, WindowCenter=40,
        WindowWidth=350,
    )  # fmt: skip
    values = apply_windowing(apply_modality_lut(SIGNED, data), data)
    expected = to_eight(values, -2048 * 1.5 - 100, 2047 * 1.5 - 100)
    got = shown(SIGNED, Greyscale(12, True, Rescale(1.5, -100), Window(40, 350)))
    assert (got == expected).all()


def test_a_negative_slope_turns_the_values_over_once():
    """The window's output grows with its input (C.11.2.1.2); pydicom turns it over again."""
    got = shown(EVERY, Greyscale(12, modality=Rescale(-1, 4095), voi=Window(2048, 4096)))
    flipped = shown(4095 - EVERY, Greyscale(12, voi=Window(2048, 4096)))
    assert (got == flipped).all() and got[0, 0] == 255 and got[-1, -1] == 0


@pytest.mark.parametrize("first", [0, 100, -2048])
def test_modality_tables_are_those_of_pydicom(first):
    from pydicom.pixels import apply_modality_lut

    stored = SIGNED if first < 0 else EVERY
    entries = np.random.default_rng(0).integers(0, 65536, 1000)
    entries[0] = 65535
    data = dataset(ModalityLUTSequence=[table_item(entries, first, 16)])
    values = apply_modality_lut(stored.astype(np.int32), data).astype(float)
    expected = to_eight(values, values.min(), values.max())
    got = shown(stored, Greyscale(12, first < 0, Table(first, entries, 16)))
    assert (got == expected).all()


def test_voi_tables_are_those_of_pydicom():
    from pydicom.pixels import apply_voi

    entries = np.random.default_rng(0).integers(0, 1024, 3000)
    data = dataset(VOILUTSequence=[table_item(entries, 500, 10)])
    expected = to_eight(apply_voi(EVERY, data).astype(float), 0, 1023)
    assert (shown(EVERY, Greyscale(12, voi=Table(500, entries, 10))) == expected).all()


def test_a_voi_table_of_eight_bits_over_more_than_256_values():
    entries = np.arange(4096) // 16
    assert (shown(EVERY, Greyscale(12, voi=Table(0, entries, 8))) == EVERY // 16).all()


def test_a_voi_table_takes_rescaled_values_to_the_nearest():
    how = Greyscale(8, modality=Rescale(0.5, 0.2), voi=Table(0, np.array([0, 100, 255]), 8))
    stored = np.array([[0, 1, 2, 3, 4, 200]], np.uint8)  # 0.2 0.7 1.2 1.7 2.2 → 0 1 1 2 2
    assert shown(stored, how).tolist() == [[0, 100, 100, 255, 255, 255]]


def test_up_to_eight_bits_are_taken_as_they_are():
    eight = np.arange(40, 90, dtype=np.uint8)[None]
    assert (shown(eight, Greyscale(8)) == eight).all()
    six = np.array([[0, 10, 63]], np.uint8)
    assert shown(six, Greyscale(6)).tolist() == [[0, round(10 * 255 / 63), 255]]
    signed = np.array([[-128, 0, 127]], np.int8)
    assert shown(signed, Greyscale(8, True)).tolist() == [[0, 128, 255]]
    assert shown(np.array([[0, 1]], np.uint8), Greyscale(1)).tolist() == [[0, 255]]
    assert (shown(eight, Greyscale(8, modality=Rescale(-2, 7))) == 255 - eight).all()


def test_deeper_ones_go_from_the_least_to_the_greatest_value():
    stored = np.array([[803, 26512, 13000]], np.uint16)
    middle = round((13000 - 803) / (26512 - 803) * 255)
    assert shown(stored, Greyscale(15)).tolist() == [[0, 255, middle]]
    padded = np.array([[65535, 60000, 803, 26512, 13000]], np.uint16)
    got = shown(padded, Greyscale(16, padding=(60000, 65535)))
    assert got.tolist() == [[255, 255, 0, 255, middle]]
    assert shown(np.full((2, 2), 700, np.uint16), Greyscale(12)).tolist() == [[0, 0], [0, 0]]
    only = np.full((2, 2), 9, np.uint16)
    assert shown(only, Greyscale(12, padding=(9, 9))).tolist() == [[0, 0], [0, 0]]


def test_values_of_32_bits_and_the_whole_signed_range():
    wide = np.array([[-(2**31), 0, 2**31 - 1]], np.int32)
    assert shown(wide, Greyscale(32, True)).tolist() == [[0, 128, 255]]
    whole = np.array([[-32768, -1, 0, 32767]], np.int16)
    assert shown(whole, Greyscale(16, True)).tolist() == [[0, 127, 128, 255]]


def test_inverted_is_255_minus():
    how = Window(2000, 1000)
    plain, turned = Greyscale(12, voi=how), Greyscale(12, voi=how, inverted=True)
    assert (shown(EVERY, plain) == 255 - shown(EVERY, turned)).all()


@pytest.mark.parametrize(
    "how",
    [
        Greyscale(12, modality=Rescale(1e308, 1e308)),
        Greyscale(12, modality=Rescale(float("nan"), 0)),
        Greyscale(12, modality=Rescale(0, 5)),
        Greyscale(12, voi=Window(1e300, 1e-300, "SIGMOID")),
        Greyscale(12, voi=Table(0, np.zeros(4, np.int64), 8)),
        Greyscale(8, modality=Rescale(float("inf"), 0)),
    ],
)
def test_absurd_numbers_give_a_picture_all_the_same(how):
    assert shown(EVERY, how).shape == (64, 64)


def test_a_window_without_width_is_none():
    valid = [Window(0, 1), Window(0, 0.5, "SIGMOID"), Window(0, 0.1, "LINEAR_EXACT")]
    odd = [Window(0, 0), Window(0, 0, "SIGMOID"), Window(float("nan"), 5), Window(0, 9, "WAVY")]
    assert all(w.valid for w in valid) and not any(w.valid for w in odd)
