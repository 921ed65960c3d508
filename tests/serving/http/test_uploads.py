"""Bodies in whatever pieces they arrive, and where reading them ends."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layerwise.serving.http.admission import Admission
from layerwise.serving.http.problems import Problem
from layerwise.serving.http.settings import Settings
from layerwise.serving.http.uploads import Upload, body, read_uploads

FORM = "multipart/form-data; boundary=XX"


def form(*files, field="files", end=b"--XX--\r\n"):
    """As RFC 7578 has it."""
    parts = b""
    for name, content in files:
        head = f'Content-Disposition: form-data; name="{field}"'
        head += "" if name is None else f'; filename="{name}"'
        head += "\r\nContent-Type: application/octet-stream"
        parts += b"--XX\r\n" + head.encode() + b"\r\n\r\n" + content + b"\r\n"
    return parts + end


def read(content, kind=FORM, length=None, pieces=None, **limits):
    limits = Settings(**{"max_bytes": 100_000, "max_files": 9, **limits})
    admission = Admission(limits)

    async def arriving():
        for piece in [content] if pieces is None else pieces:
            yield piece

    async def work():
        with admission.place() as place:
            return await read_uploads(arriving(), kind, length, limits, place), place.held

    found, held = asyncio.run(work())
    if pieces is None:
        assert held == len(content)
    return found


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.text("abcä. 漢", min_size=1, max_size=9),
            st.binary(max_size=60)
            | st.sampled_from([b"\r\n--X", b"\r\n--XXX"[:6], b"--XX", b"\r"]),
        ),
        min_size=1,
        max_size=4,
    ),
    st.lists(st.integers(1, 40), min_size=1, max_size=5),
)
def test_files_come_out_as_they_went_in_however_the_body_is_cut(files, steps):
    if any(b"\r\n--XX" in content for _, content in files):
        return  # no client chooses a boundary that is in a file
    whole = form(*files)
    pieces, at, turn = [], 0, 0
    while at < len(whole):
        pieces.append(whole[at : at + steps[turn % len(steps)]])
        at, turn = at + steps[turn % len(steps)], turn + 1
    assert read(whole, pieces=pieces) == [Upload(name, content) for name, content in files]


def test_a_raw_body_is_one_file():
    for kind in ("image/png", "image/x-whatever", "application/dicom", "application/octet-stream"):
        assert read(b"abc", kind) == [Upload("picture 1", b"abc")]
    assert read(b"abc", "image/png; charset=binary") == [Upload("picture 1", b"abc")]
    assert read(b"abc", "") == [Upload("picture 1", b"abc")]  # RFC 9110, 8.3


def test_a_field_without_a_file_name_is_a_file_too_and_others_are_passed_over():
    unnamed = form((None, b"abc"))
    other = form((None, b"token"), field="csrf", end=b"")
    assert read(other + unnamed) == [Upload("picture 1", b"abc")]


@pytest.mark.parametrize(
    ("content", "kind", "status", "word"),
    [
        (b"x", "text/html", 415, "field 'files'"),
        (b"x=1", "application/x-www-form-urlencoded", 415, "application/dicom"),
        (b"x", "multipart/mixed; boundary=XX", 415, "multipart/form-data"),
        (b"x", "multipart/form-data", 400, "boundary"),
        (b"x", FORM.replace("XX", "X" * 300), 400, "RFC 7578"),
        (b"no form at all", FORM, 400, "RFC 7578"),
        (form(("a", b"abc"), end=b""), FORM, 400, "cut off"),
        (form(("a", b"abc"))[:-9], FORM, 400, "cut off"),
        (form(), FORM, 400, "no file"),
        (b"", FORM, 400, "cut off"),
        (form(("a", b"abc"), field="file"), FORM, 400, "'files'"),
        (form(*[("a", b"")] * 10), FORM, 413, "9 files"),
        (form(("n" * 9000, b"")), FORM, 400, "RFC 7578"),
        (form(*[(None, b"")] * 99, field="csrf"), FORM, 413, "too many fields"),
    ],
)
def test_what_is_refused(content, kind, status, word):
    with pytest.raises(Problem) as refused:
        read(content, kind)
    assert refused.value.status == status and word in refused.value.detail


@pytest.mark.parametrize("kind", ["image/png", FORM])
def test_reading_ends_at_the_limit(kind):
    """A gigabyte is refused after the first pieces, and before that if its length is told."""
    given = []

    def endless():
        yield form(("a", b""), end=b"")[:-2] if kind == FORM else b""
        for number in range(1_000_000):
            given.append(number)
            yield bytes(1000)

    with pytest.raises(Problem) as refused:
        read(b"", kind, pieces=endless(), max_bytes=10_000)
    assert refused.value.status == 413 and len(given) <= 11
    assert "0.01 megabytes" in refused.value.detail
    given.clear()
    with pytest.raises(Problem) as refused:
        read(b"", kind, length="1000000000", pieces=endless(), max_bytes=10_000)
    assert refused.value.status == 413 and not given


def test_a_client_that_leaves():
    messages = [
        {"type": "http.request", "body": b"a", "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def work():
        async def receive():
            return messages.pop(0)

        return [piece async for piece in body(receive)]

    with pytest.raises(Problem) as gone:
        asyncio.run(work())
    assert gone.value.status == 400
