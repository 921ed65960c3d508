"""Rows on disk: what is read is what was written, and memory stays flat."""

import pickle

import numpy as np
import pytest

from layerwise.data.storage import rows
from layerwise.errors import OutputError


def resident_file_bytes() -> int:
    with open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith("RssFile"))
    return int(line.split()[1]) * 1024


def test_rows_come_back_in_the_order_asked_for(tmp_path):
    wanted = np.random.default_rng(0).normal(size=(10, 3, 4)).astype(np.float32)
    writer = rows.RowWriter(tmp_path / "x", wanted.shape, np.float32)
    writer.write(5, wanted[5:])
    writer.write(0, wanted[:5])
    writer.close()
    found = rows.Rows(tmp_path / "x", wanted.shape, np.float32)
    order = np.array([7, 0, 7, 3])
    np.testing.assert_array_equal(found.read(order), wanted[order])
    flat = rows.Rows(tmp_path / "x", (10, 12), np.float32)
    columns = flat.read((order, slice(2, 5)))
    np.testing.assert_array_equal(columns, wanted.reshape(10, 12)[order, 2:5])


def test_resident_memory_is_given_back(tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "RESIDENT_BYTES", 8 * 2**20)
    shape = (96, 2**20)  # 96 MB
    writer = rows.RowWriter(tmp_path / "x", shape, np.uint8)
    for start in range(0, 96, 8):
        writer.write(start, np.full((8, 2**20), start, np.uint8))
    writer.close()
    found = rows.Rows(tmp_path / "x", shape, np.uint8)
    before = resident_file_bytes()
    for start in range(0, 96, 4):
        assert found.read(np.arange(start, start + 4))[0, 0] == start // 8 * 8
    assert resident_file_bytes() - before < 24 * 2**20


def test_an_output_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(OutputError, match="--out .*out: can not be written"):
        rows.check_writable(tmp_path / "out")


def test_rows_go_to_another_process_by_their_name(tmp_path):
    values = np.arange(3000, dtype=np.float32).reshape(1000, 3)
    writer = rows.RowWriter(tmp_path / "rows.bin", (1000, 3), np.float32)
    writer.write(0, values)
    writer.close()
    sent = pickle.dumps(rows.Rows(tmp_path / "rows.bin", (1000, 3), np.float32))
    assert len(sent) < 1000  # and not the 12,000 bytes of the values
    np.testing.assert_array_equal(pickle.loads(sent).read(np.array([7, 999])), values[[7, 999]])
