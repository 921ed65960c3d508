"""Tables' files: encodings, separators, quotes, packed ones, lines, and what is refused."""

import gzip
import io
import sys

import numpy as np
import pandas as pd
import pytest

from layerwise.data.load import load
from layerwise.data.sources.frame import LONGEST, read_frame, table_stem
from layerwise.errors import DataError

TEXT = "Datei,Befund\ngrün/é.png,ja\nb.png,nein\n"


def rows(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    notes = []
    frame = read_frame(path, notes)
    return list(frame.columns), frame.to_numpy().tolist(), frame.index.tolist(), notes


@pytest.mark.parametrize(
    "encoding, said",
    [
        ("utf-8", []),
        ("utf-8-sig", []),
        ("utf-16", ["the table is read as UTF-16"]),
        ("cp1252", ["1 lines are not UTF-8 and are read as Windows-1252 (the first: line 2)"]),
    ],
)
def test_encodings(tmp_path, encoding, said):
    columns, values, lines, notes = rows(tmp_path / "t.csv", TEXT.encode(encoding))
    assert columns == ["Datei", "Befund"] and lines == [2, 3] and notes == said
    assert values == [["grün/é.png", "ja"], ["b.png", "nein"]]


def test_one_file_in_two_encodings_and_bytes_of_neither(tmp_path):
    content = "a,b\né,1\n".encode() + "ü€,2\n".encode("cp1252") + b"\x81,3\n"
    _, values, _, notes = rows(tmp_path / "t.csv", content)
    assert values == [["é", "1"], ["ü€", "2"], ["\x81", "3"]]
    assert "2 lines are not UTF-8" in notes[0] and "line 3" in notes[0]


@pytest.mark.parametrize(
    "name, text, said",
    [
        ("t.csv", "a;b\n1,5;x\n", "semicolons"),
        ("t.csv", "a\tb\n1,5\tx\n", "tabs"),
        ("t.csv", "sep=;\na;b\n1,5;x\n", "semicolons"),
        ("t.csv", '"sep=|"\r\na|b\r\n1,5|x\r\n', "bars"),
        ("t.tsv", "a\tb\n1,5\tx\n", ""),
        ("t.tsv", 'a,b\n"1,5",x\n', "commas"),
        ("t.csv", 'a,"b"\n"1,5",x\n', ""),
    ],
)
def test_separators(tmp_path, name, text, said):
    columns, values, lines, notes = rows(tmp_path / name, text)
    assert columns == ["a", "b"] and values == [["1,5", "x"]]
    assert [said in note for note in notes] == ([True] if said else [])
    assert lines == [text.count("\n")]


def test_lines_are_those_of_the_file(tmp_path):
    text = 'a,b\r\n\r\n"x\ny",1\n,\n"q ""r""\n\n",2\nz,3'
    _, values, lines, _ = rows(tmp_path / "t.csv", text)
    assert values == [["x\ny", "1"], ['q "r"\n\n', "2"], ["z", "3"]]
    assert lines == [3, 6, 9]
    numbered = text.replace("\r\n", "\n").split("\n")
    assert [numbered[line - 1][0] for line in lines] == ['"', '"', "z"]


def test_lines_in_messages_count_quoted_line_breaks(tmp_path):
    file = tmp_path / "t.csv"
    for name in ("1.png", "2.png"):
        (tmp_path / name).touch()
    file.write_text('path,note,label\n1.png,"a\nb\nc",x\n\n2.png,d,\n')
    with pytest.raises(DataError, match="no label in 1 rows .lines 6"):
        load(file)
    file.write_text('path,note,label\n1.png,"a\nb",x\n9.png,d,y\n')
    with pytest.raises(DataError, match=r"line 4: 9\.png"):
        load(file)


@pytest.mark.parametrize(
    "content, said",
    [
        ("", "it is empty"),
        ("\n\n", "it is empty"),
        ("a,b,a,b\n1,2,3,4\n", "several columns are called 'a', 'b'"),
        ("a,b\n1,2\n\n3\n4,5\n", r"1 rows do not have 2 values.*line 4 has 1"),
        ('a,b\n"1\n",2\n3,4,5\n', r"line 4 has 3.*in quotes"),
        ('a,b\n1,2\n3,"4\n5,6\n', "line 3: unexpected end of data; mend the quotes"),
        ('a,b\n1,2\n"3"x,4\n', "line 3: .*mend the quotes"),
        (b"a,b\n1,\0\n", "line 2 holds a NUL"),
        ("a,b\n1,2\n".encode("utf-16-le"), "line 1 holds a NUL character.*UTF-16 without"),
        (b"\xff\xfea", "can not be read as a table"),
        (b"\x1f\x8bxx", "can not be read as a table"),
        (gzip.compress(b"a,b\n" * 999, mtime=0)[:30], "can not be read as a table"),
    ],
)
def test_what_can_not_be_read(tmp_path, content, said):
    with pytest.raises(DataError, match=rf"(?s)t\.csv: .*{said}"):
        rows(tmp_path / "t.csv", content)


def test_trailing_separators_and_names_without_a_name(tmp_path):
    columns, values, _, _ = rows(tmp_path / "t.csv", ",a, b ,\n0,1,2,\n1,3,4,\n2,5,6\n")
    assert columns == ["(column 1)", "a", "b"]
    assert values == [["0", "1", "2"], ["1", "3", "4"], ["2", "5", "6"]]


def test_a_field_of_a_million_characters(tmp_path):
    """Read, and never repeated in a message."""
    for name in ("1.png", "2.png"):
        (tmp_path / name).touch()
    endless = "x" * 1_000_000
    _, values, _, _ = rows(tmp_path / "t.csv", f"path,label\n1.png,a\n{endless},b\n")
    assert values[1][0] == endless
    with pytest.raises(DataError, match="line 3: xxx") as error:
        load(tmp_path / "t.csv")
    assert len(str(error.value)) < 1000
    with pytest.raises(DataError, match="line 2 has more than"):
        rows(tmp_path / "t.csv", b"path\n" + b"x" * (LONGEST + 1))


def test_packed_tables_and_parquet_are_the_same(tmp_path):
    plain = rows(tmp_path / "t.csv", TEXT)
    assert rows(tmp_path / "t.csv.gz", gzip.compress(TEXT.encode())) == plain
    assert rows(tmp_path / "odd.csv", gzip.compress(TEXT.encode())) == plain
    pd.read_csv(io.StringIO(TEXT)).to_parquet(tmp_path / "t.parquet")
    frame = read_frame(tmp_path / "t.parquet")
    assert (list(frame.columns), frame.to_numpy().tolist(), frame.index.tolist()) == plain[:3]
    assert table_stem(tmp_path / "t.CSV.gz") == table_stem(tmp_path / "t.parquet") == "t"
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(DataError, match="bad.parquet: can not be read"):
        read_frame(tmp_path / "bad.parquet")


def test_values_of_parquet_are_the_text_they_mean(tmp_path):
    frame = pd.DataFrame({"path": ["a", None], "n": [1, 2], "f": [0.5, np.nan], "b": [True, False]})
    frame.to_parquet(tmp_path / "t.parquet")
    assert read_frame(tmp_path / "t.parquet").to_numpy().tolist() == [
        ["a", "1", "0.5", "True"],
        ["", "2", "", "False"],
    ]


def test_where_only_serving_is_installed_what_is_missing_is_named(tmp_path, monkeypatch):
    pd.DataFrame({"path": ["a"]}).to_parquet(tmp_path / "t.parquet")
    for name in ("pyarrow", "fastparquet", "sklearn.datasets"):
        monkeypatch.setitem(sys.modules, name, None)  # as if it were not there
    with pytest.raises(DataError, match=r"t\.parquet.*pip install pyarrow"):
        read_frame(tmp_path / "t.parquet")
    with pytest.raises(DataError, match="digits.*pip install scikit-learn"):
        load("digits")


def test_many_rows_agree_with_pandas(tmp_path):
    """More rows than one chunk, some in quotes, against another reader."""
    random = np.random.default_rng(0)
    n = 60_000
    whole = pd.DataFrame(
        {
            "path": [f"p{i // 3}/im,{i}.png" for i in range(n)],
            "label": random.choice(["a", "b", 'c"d', ""], n),
            "patient": [str(i // 3) for i in range(n)],
        }
    )
    whole.to_csv(tmp_path / "t.csv", index=False)
    frame = read_frame(tmp_path / "t.csv")
    assert frame.to_numpy().tolist() == whole.to_numpy().tolist()
    assert frame.index.tolist() == list(range(2, n + 2))


@pytest.mark.parametrize(
    "content, said",
    [
        (b"\n<!DOCTYPE html><html><body>Sign in</body></html>", "web page"),
        (b"PK\x03\x04\x14\x00\x06\x00", "spreadsheet or an archive"),
    ],
)
def test_other_things_named_csv_are_called_what_they_are(tmp_path, content, said):
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(DataError, match=f"t.csv.*{said}.*save it again as CSV"):
        read_frame(tmp_path / "t.csv")
