"""The routes on a real socket: what is answered, what is refused, what is said of it."""

import base64
import io
import json
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from layerwise.serving.bundle import Bundle
from layerwise.serving.http import service

KEY = "k" * 20


def pixels(text):
    """An image of an answer."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))


def test_predict_one_and_many(server, serving, bundle):
    values = [0, 90, 100, 255]
    answer = server.post("/v1/predict", *map(serving.png, values))
    assert answer.status_code == 200
    said = answer.json()
    assert said["model"] == {"name": "bundle", "id": Bundle.load(bundle).id}
    assert (said["labels"], said["threshold"]) == (["NORMAL", "PNEUMONIA"], 0.4)
    assert [p["name"] for p in said["predictions"]] == ["0.png", "1.png", "2.png", "3.png"]
    for value, found in zip(values, said["predictions"], strict=True):
        wanted = serving.probability(value)
        assert found["probabilities"]["PNEUMONIA"] == pytest.approx(wanted, abs=2e-6)
        assert found["probabilities"]["NORMAL"] == pytest.approx(1 - wanted, abs=2e-6)
        # 0.4 is reached at grey 114.6
        assert found["decision"] == ("PNEUMONIA" if value > 114 else "NORMAL")
    for value, found in zip(values, said["predictions"], strict=True):
        alone = server.post("/v1/predict", serving.png(value)).json()["predictions"]
        assert alone == [{**found, "name": "picture 1"}]


def test_kinds_of_pictures(server, serving):
    """All that training accepts, as it comes out there."""
    grey = np.full(serving.size, 60, np.uint8)
    red = np.zeros((*serving.size, 3), np.uint8)
    red[..., 0] = 200
    deep = io.BytesIO()
    Image.fromarray(np.full(serving.size, 65535 // 5, np.uint16)).save(deep, "PNG")
    cmyk = io.BytesIO()
    Image.new("CMYK", serving.size, (0, 0, 0, 55)).save(cmyk, "JPEG", quality=100)
    animated = io.BytesIO()
    frames = [Image.new("L", serving.size, grey) for grey in (60, 255)]
    frames[0].save(animated, "GIF", save_all=True, append_images=frames[1:])
    kinds = {
        "PNG": (serving.encode(grey), 60),
        "BMP": (serving.encode(grey, "BMP"), 60),
        "TIFF": (serving.encode(grey, "TIFF"), 60),
        "WEBP": (serving.encode(np.stack([grey] * 3, -1), "WEBP", lossless=True), 60),
        "JPEG": (serving.encode(grey, "JPEG", quality=100), 60),
        "colour": (serving.encode(red), round(200 * 0.299)),  # ITU-R 601
        # 13107 uses 14 bits
        "16 bits": (deep.getvalue(), round(13107 * 255 / (2**14 - 1))),
        "CMYK": (cmyk.getvalue(), 200),
        "animated": (animated.getvalue(), 60),
    }
    names = {name: (name, content) for name, (content, _) in kinds.items()}
    some = list(names)
    for part in (some[:5], some[5:]):
        said = server.post("/v1/predict", *(names[n] for n in part)).json()["predictions"]
        for name, found in zip(part, said, strict=True):
            wanted = serving.probability(kinds[name][1])
            assert found["probabilities"]["PNEUMONIA"] == pytest.approx(wanted, abs=0.02), name


def test_dicom_is_read_and_nobody_is_named(server, serving):
    content = serving.dicom(100)
    head = {"Content-Type": "application/dicom"}
    found = server.client.post("/v1/predict", content=content, headers=head).json()
    [said] = found["predictions"]
    assert said["probabilities"]["PNEUMONIA"] == pytest.approx(serving.probability(100), abs=0.02)
    explained = server.post("/v1/explain", ("Secret^Person.dcm", content))
    refused = server.post("/v1/predict", ("Secret^Person.dcm", serving.dicom(1, frames=3)))
    assert refused.status_code == 422
    everything = [*server.lines, server.client.get("/metrics").text, refused.text]
    everything += [server.client.get("/v1/statistics").text, str(found)]
    everything += [
        str({k: v for k, v in explained.json()["predictions"][0].items() if k != "name"})
    ]
    for word in ("Secret", "Person", "MRN12345"):
        assert not [text for text in everything if word in text]


def wide(width, height):
    """A PNG whose header claims a size; there is hardly a pixel behind it."""
    file = io.BytesIO()
    Image.new("L", (8, 8)).save(file, "PNG")
    content = bytearray(file.getvalue())
    content[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    return bytes(content)


def chunk(kind, data):
    """A part of a PNG file."""
    ends = struct.pack(">I", len(data)), struct.pack(">I", zlib.crc32(kind + data))
    return ends[0] + kind + data + ends[1]


def colour_of_16_bits(value):
    """A grey of that value; PIL can not write such files."""
    rows = b"".join(b"\0" + struct.pack(">3H", value, value, value) * 8 for _ in range(8))
    head = struct.pack(">2I5B", 8, 8, 16, 2, 0, 0, 0)
    parts = [chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


BAD = {
    "nothing": (b"", 400, "0 bytes"),
    "text": (b"hello, this is no picture at all", 415, "no JPEG"),
    "html": (b"<!doctype html><title>x</title>", 415, "DICOM"),
    "zip": (b"PK\x03\x04" + bytes(100), 415, "one of these formats"),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 415, "PNG"),
    "only a signature": (b"\x89PNG\r\n\x1a\n", 422, "replace"),
    "bomb": (wide(60_000, 60_000), 413, "1 million pixels"),
    "a little too large": (wide(1_001, 1_000), 413, "--max-pixels"),
    "claims more than there is": (wide(1_000, 1_000), 422, "replace"),
    "no pixels": ({"drop": ("PixelData", "Rows", "Columns")}, 422, "without pixels"),
    "frames": ({"frames": 2}, 422, "2 frames"),
    "pixels missing": ({"drop": ("PixelData",)}, 422, "replace"),
    "a DICOM cut off": ({"cut": 30}, 422, "replace"),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("route", ["/v1/predict", "/v1/explain"])
def test_bad_pictures(server, serving, name, route):
    content, status, words = BAD[name]
    if isinstance(content, dict):
        content = serving.dicom(1, **content)
    answer = server.post(route, content)
    assert answer.status_code == status
    assert answer.headers["Content-Type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status and words in problem["detail"]
    assert problem["detail"][0].isupper() and problem["detail"].endswith(".")
    assert "<picture>" not in problem["detail"]
    kind = problem["type"].removeprefix("/docs#")
    assert f'id="{kind}"' in server.client.get("/docs").text


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP"])
def test_truncated_pictures(server, serving, kind):
    grey = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
    content = serving.encode(grey, kind)
    assert server.post("/v1/predict", content).status_code == 200
    answer = server.post("/v1/predict", content[: len(content) // 2])
    assert answer.status_code == 422 and "replace" in answer.json()["detail"]


def test_16_bit_colour(server):
    """Of its 16 bits 8 are read: fine where they hold the picture, else refused with a remedy."""
    assert server.post("/v1/predict", colour_of_16_bits(200 << 8)).status_code == 200
    answer = server.post("/v1/predict", colour_of_16_bits(1000))
    assert answer.status_code == 422 and "save it with 8 bits" in answer.json()["detail"]


def test_among_several_each_says_what_is_wrong(server, serving):
    said = server.post("/v1/predict", serving.png(9), b"no picture", ("empty", b""))
    assert said.status_code == 200
    good, text, empty = said.json()["predictions"]
    assert good["decision"] == "NORMAL"
    assert (text["name"], text["error"]["status"]) == ("1.png", 415)
    assert (empty["name"], empty["error"]["status"]) == ("empty", 400)
    assert set(text["error"]) == {"status", "title", "detail"}
    none = server.post("/v1/predict", b"no picture", ("empty", b""))
    assert none.status_code == 422
    assert [p["error"]["status"] for p in none.json()["predictions"]] == [415, 400]


def test_requests_that_can_not_be_read(server, serving):
    for content, kind, status in (
        (serving.png(1), "text/plain", 415),
        (b"no form", "multipart/form-data; boundary=x", 400),
        (serving.png(1), "application/x-www-form-urlencoded", 415),
    ):
        answer = server.client.post("/v1/predict", content=content, headers={"Content-Type": kind})
        assert answer.status_code == status and "'files'" in answer.json()["detail"]
    many = server.post("/v1/predict", *[serving.png(1)] * 6)
    assert many.status_code == 413 and "5 files" in many.json()["detail"]
    for route, method, status in (("/v1/predict", "GET", 405), ("/x", "GET", 404)):
        answer = server.client.request(method, route)
        assert answer.status_code == status and answer.json()["status"] == status
        assert answer.headers["Content-Type"] == "application/problem+json"


def test_explain(server, serving):
    rows = np.zeros(serving.size, np.uint8)
    rows[2:4] = 255
    [found] = server.post("/v1/explain", serving.encode(rows)).json()["predictions"]
    assert (found["label"], found["decision"], found["cut"]) == ("NORMAL", "NORMAL", "features")
    np.testing.assert_array_equal(pixels(found["heat"]), 255 - rows)  # see `explaining_graph`
    np.testing.assert_array_equal(pixels(found["picture"]), rows)
    other = server.post("/v1/explain", serving.encode(rows), params={"label": "PNEUMONIA"})
    [other] = other.json()["predictions"]
    assert other["label"] == "PNEUMONIA" and other["probabilities"] == found["probabilities"]
    np.testing.assert_array_equal(pixels(other["heat"]), rows)
    wrong = server.post("/v1/explain", serving.encode(rows), params={"label": "COVID"})
    assert wrong.status_code == 422 and "NORMAL, PNEUMONIA" in wrong.json()["detail"]


def test_the_picture_that_is_sent_back_is_no_larger_than_asked(server, serving):
    large = np.random.default_rng(0).integers(0, 256, (300, 200, 3), np.uint8)
    for size, shape in ((100, (100, 67, 3)), (4096, (300, 200, 3))):
        said = server.post("/v1/explain", serving.encode(large), params={"size": size}).json()
        assert pixels(said["predictions"][0]["picture"]).shape == shape
    for size in ("15", "4097", "large"):
        wrong = server.post("/v1/explain", serving.encode(large), params={"size": size})
        assert wrong.status_code == 422 and wrong.json()["detail"].startswith("size: ")


def test_explain_as_a_picture(server, serving):
    rows = np.zeros((40, 80), np.uint8)
    rows[:, 40:] = 255
    head = {"Accept": "image/png"}
    answer = server.post(
        "/v1/explain", serving.encode(rows), params={"label": "PNEUMONIA"}, headers=head
    )
    assert answer.headers["Content-Type"] == "image/png"
    shown = np.asarray(Image.open(io.BytesIO(answer.content)))
    assert shown.shape == (40, 80, 3)
    assert (shown[:, :20] == 0).all()  # nothing where there is no heat
    assert (shown[:, 60:].std(axis=-1) > 0).all()  # colour where there is
    two = server.post("/v1/explain", serving.png(1), serving.png(2), headers=head)
    assert two.status_code == 422 and "one file" in two.json()["detail"]


def test_a_model_that_is_not_explained(tmp_path, serving):
    folder = serving.write(tmp_path / "plain", explains=False)
    with serving.running(folder) as plain:
        [found] = plain.post("/v1/explain", serving.png(200)).json()["predictions"]
        assert (found["heat"], found["cut"], found["label"]) == (None, None, "PNEUMONIA")
        assert (pixels(found["picture"]) == 200).all()
        answer = plain.post("/v1/explain", serving.png(200), headers={"Accept": "image/png"})
        assert answer.status_code == 409 and "it has no such layer" in answer.json()["detail"]


def test_model(server, serving):
    said = server.client.get("/v1/model").json()
    assert said["labels"] == list(serving.labels) and said["task"] == "binary"
    assert said["scores"]["auroc"] == {"value": 0.97, "low": 0.9, "high": 0.99}
    assert said["provenance"] == {"run": "abc", "weights": "w.safetensors"}  # no paths
    assert said["explanation"]["cut"] == "features"
    assert said["limits"] == {"bytes": 300_000, "pixels": 1_000_000, "files": 5}
    assert any("diagnosis" in sentence for sentence in said["not_for"])


def test_health_and_headers(server):
    for route in ("/healthz", "/readyz", "/", "/docs", "/openapi.json", "/v1/model", "/nothing"):
        answer = server.client.get(route)
        policy = answer.headers["Content-Security-Policy"]
        assert "frame-ancestors 'none'" in policy and "default-src 'none'" in policy
        assert "http:" not in policy and "https:" not in policy and "unsafe" not in policy
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        kept = "no-cache" if route == "/" else "no-store"
        assert answer.headers["Cache-Control"] == kept
        assert "Access-Control-Allow-Origin" not in answer.headers
        assert "server" not in answer.headers
    assert server.client.get("/healthz").json() == {"status": "ok"}
    # Nothing is loaded from elsewhere, and there is no script to load it.
    docs = server.client.get("/docs").text
    assert "//" not in docs.replace("http://127.0.0.1:8000", "") and "<script" not in docs
    assert "POST /v1/predict" in docs and "--max-pixels" not in docs


def test_other_hosts_and_other_sites(server):
    assert server.client.get("/healthz", headers={"Host": "evil.example"}).status_code == 421
    crossed = server.client.post("/v1/predict", headers={"Origin": "http://evil.example"})
    assert crossed.status_code == 403


def test_keys_open_what_is_worth_it(bundle, serving):
    with serving.running(bundle, keys=(KEY.encode(),)) as locked:
        for route in ("/v1/model", "/v1/statistics", "/metrics"):
            answer = locked.client.get(route)
            assert answer.status_code == 401 and "Bearer KEY" in answer.json()["detail"]
            assert answer.headers["WWW-Authenticate"] == 'Bearer realm="layerwise"'
            wrong = locked.client.get(route, headers={"X-API-Key": KEY + "x"})
            assert wrong.status_code == 401 and "not a key" in wrong.json()["detail"]
            assert locked.client.get(route, headers={"X-API-Key": KEY}).status_code == 200
        assert locked.post("/v1/predict", serving.png(1)).status_code == 401
        head = {"Authorization": f"Bearer {KEY}"}
        assert locked.post("/v1/predict", serving.png(1), headers=head).status_code == 200
        for route in ("/healthz", "/readyz", "/docs", "/"):
            assert locked.client.get(route).status_code == 200
        assert KEY not in "".join(locked.lines)


def test_logs_and_metrics(bundle, serving):
    with serving.running(bundle) as found:
        given = {"X-Request-ID": "0123456789abcdef"}
        answer = found.post("/v1/predict", serving.png(1), b"x", headers=given)
        assert answer.headers["X-Request-ID"] == "0123456789abcdef"
        taken = found.client.get("/Jane_Doe.png?name=Jane", headers={"X-Request-ID": "Jane Doe"})
        assert taken.headers["X-Request-ID"] != "Jane Doe"
        text = found.client.get("/metrics").text
    predicted, missing, _ = found.events("request")
    assert (predicted["route"], predicted["status"]) == ("/v1/predict", 200)
    assert (predicted["pictures"], predicted["request"]) == (2, "0123456789abcdef")
    assert predicted["bytes"] == int(answer.request.headers["Content-Length"])
    assert predicted["model"] == answer.json()["model"]["id"] and predicted["ms"] > 0
    assert (missing["route"], missing["status"]) == ("other", 404)
    assert not [line for line in found.lines if "Jane" in line]
    for line in (
        'layerwise_requests_total{route="/v1/predict",status="200"} 1.0',
        'layerwise_requests_total{route="other",status="404"} 1.0',
        'layerwise_pictures_total{result="answered"} 1.0',
        'layerwise_pictures_total{result="refused"} 1.0',
        "layerwise_batch_pictures_count 1.0",
        "layerwise_inference_seconds_count 1.0",
        "layerwise_in_hand_pictures 0.0",
        f'layerwise_model{{id="{predicted["model"]}",name="bundle"}} 1.0',
    ):
        assert line in text.splitlines()
    assert json.loads(found.lines[0])["event"] == "started"


def test_statistics_outlive_the_server(tmp_path, bundle, serving):
    for count in (2, 3):
        with serving.running(bundle, statistics=tmp_path) as found:
            found.post("/v1/predict", *[serving.png(200)] * count)
    with serving.running(bundle, statistics=tmp_path) as found:
        said = found.client.get("/v1/statistics").json()
    assert sum(said["decided"]["PNEUMONIA"]) == 5 and said["decided"]["PNEUMONIA"][1] == 5
    assert sum(said["inputs"]["brightness"]) == 5


def test_pictures_do_not_pile_up_before_they_are_counted(monkeypatch, bundle, serving):
    monkeypatch.setattr(service, "COUNT", 1000.0)
    monkeypatch.setattr(service, "MOST_UNCOUNTED", 3)
    waiting = []
    run = service.Service._run

    def watched(self, key, items):
        answer = run(self, key, items)
        waiting.append(len(self._uncounted))
        return answer

    monkeypatch.setattr(service.Service, "_run", watched)
    with serving.running(bundle) as found:
        for _ in range(7):
            found.post("/v1/predict", serving.png(200))
        assert waiting == [1, 2, 3, 0, 1, 2, 3]
        assert sum(found.client.get("/v1/statistics").json()["inputs"]["brightness"]) == 7
