"""Public sets: the real clients, whose code runs against a server on this machine."""

import base64
import errno
import hashlib
import http.server
import io
import json
import os
import subprocess
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest

from layerwise.data.get import guard, kaggle, medmnist, record
from layerwise.data.get.catalogue import BY_HAND, MEDMNIST, SETS, SIZES, find
from layerwise.data.get.download import get
from layerwise.data.load import load
from layerwise.errors import DataError, OutputError

# kagglehub leaves the streams of its answers to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


class Server(http.server.ThreadingHTTPServer):
    """A server of files, whose answers a test chooses; it counts what it was asked."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.headers: dict[str, dict[str, str]] = {}
        self.answers: dict[str, tuple[int, dict]] = {}  # status and JSON of a call
        self.redirects: dict[str, str] = {}
        self.cut: dict[str, list] = {}  # of each GET: bytes after which the connection breaks
        self.asked: list[tuple[str, str, dict]] = []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"

    def count(self, path):
        return sum(path == asked for method, asked, _ in self.asked if method != "HEAD")


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.do_GET()

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.do_GET()

    def do_GET(self):
        server, path = self.server, self.path.partition("?")[0]
        server.asked.append((self.command, path, dict(self.headers)))
        if path in server.redirects:
            self.send_response(302)
            self.send_header("Location", server.redirects[path])
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        status, answer = server.answers.get(path, (200, None))
        if path not in server.files:
            status = status if answer is not None else 404
            self.send(status, json.dumps(answer or {}).encode(), {"Content-Type": JSON})
            return
        body, first = server.files[path], 0
        asked = self.headers.get("Range", "")
        if asked:
            first = int(asked.removeprefix("bytes=").rstrip("-"))
        self.send(206 if asked else 200, body[first:], server.headers.get(path, {}))

    def send(self, status, body, headers):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        cuts = self.server.cut.get(self.path.partition("?")[0])
        cut = cuts.pop(0) if cuts else None
        self.wfile.write(body[:cut])
        if cut is not None:
            self.wfile.flush()
            self.close_connection = True


JSON = "application/json"


@pytest.fixture
def server():
    opened = Server()
    thread = threading.Thread(target=opened.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield opened
    opened.shutdown()
    thread.join()
    opened.server_close()


@pytest.fixture(autouse=True)
def no_user(tmp_path, monkeypatch):
    """No key, cache, proxy or home of the person who runs the tests."""
    for name in [*os.environ]:
        if name.startswith("KAGGLE") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(home / ".kaggle"))


@pytest.fixture
def fetch(tmp_path):
    """`get` into a folder of this test; what it says is in `fetch.said`."""

    def run(name, size=None):
        return get(name, tmp_path / "out", size, run.said.append, lambda _: lambda *__: None)

    run.said = []
    return run


def digest_of(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


# The catalogue.


def test_the_medmnist_sets_are_as_the_package_says():
    info = medmnist._info(find("breastmnist")).INFO
    ours = {name for name, one in SETS.items() if one.client == MEDMNIST}
    assert ours == {name for name in info if not name.endswith("3d")}
    for name in ours:
        assert SETS[name].images == sum(info[name]["n_samples"].values())
        assert SETS[name].licence == info[name]["license"]
        assert {f"MD5{'' if size == 28 else f'_{size}'}" for size in SIZES} <= set(info[name])
        assert SETS[name].page in info[name]["url"]


def test_addresses_come_without_importing_torch():
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from layerwise.data.get import medmnist\n"
        "from layerwise.data.get.catalogue import find\n"
        "print(medmnist.origin(find('chestmnist'), 64).md5)\n"
    )
    done = subprocess.run([os.sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "9de6cd0b934ebb5b7426cfba5efbae16", done.stderr


@pytest.mark.parametrize("name", SETS)
def test_every_set_says_where_it_is_and_what_it_asks(name):
    one = SETS[name]
    assert one.page.startswith("https://") and one.licence and one.cite and one.images > 0
    assert (one.client == BY_HAND) == (one.handle == "")
    assert one.client == MEDMNIST or one.data


def test_names_that_are_none():
    assert find(" PneumoniaMNIST ").name == "pneumoniamnist"
    for wrong, right in (("pneumonia-mnist", "pneumoniamnist"), ("nhi", "nih")):
        with pytest.raises(DataError, match=f"did you mean {right}"):
            find(wrong)
    with pytest.raises(DataError, match="volumes"):
        find("OrganMNIST3D")


# MedMNIST.


def archive(seed=0):
    """A small .npz of MedMNIST's form."""
    generator, opened, arrays = np.random.default_rng(seed), io.BytesIO(), {}
    for part, n in (("train", 12), ("val", 4), ("test", 6)):
        arrays[f"{part}_images"] = generator.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        arrays[f"{part}_labels"] = (np.arange(n) % 2).astype(np.uint8)[:, None]
    np.savez_compressed(opened, **arrays)
    return opened.getvalue()


@pytest.fixture
def published(server, monkeypatch):
    """BreastMNIST published on the server: its bytes; the package's own table points there."""
    import medmnist as package

    monkeypatch.setattr(medmnist, "_info", lambda chosen: package)

    def publish(body=None, size=28, md5=None):
        body = archive(size) if body is None else body
        flag = "" if size == 28 else f"_{size}"
        server.files[f"/breastmnist{flag}.npz"] = body
        about = package.INFO["breastmnist"]
        address = f"{server.url}/breastmnist{flag}.npz?download=1"
        monkeypatch.setitem(about, f"url{flag}", address)
        monkeypatch.setitem(about, f"MD5{flag}", md5 or hashlib.md5(body).hexdigest())
        return body

    return publish


def test_medmnist_arrives_whole_with_names_and_digests(fetch, published, server, tmp_path):
    body = published()
    got = fetch("breastmnist")
    assert got.fetched and got.data == tmp_path / "out" / "breastmnist" / "breastmnist.npz"
    assert got.data.read_bytes() == body
    assert json.loads((got.folder / "classes.json").read_text()) == ["malignant", "normal, benign"]
    said = json.loads((got.folder / "DOWNLOAD.json").read_text())
    assert said["licence"] == "CC BY 4.0" and said["client"] == "medmnist 3.0.2"
    assert said["files"] == 2
    sums = (got.folder / "SHA256SUMS").read_text().splitlines()
    assert sums == [
        f"{digest_of(got.folder / name)}  {name}" for name in ("breastmnist.npz", "classes.json")
    ]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["breastmnist"]
    manifest = load(got.data)
    assert set(manifest.labels) == {"malignant", "normal, benign"} and len(manifest) == 22
    assert any("MD5" in line and "CC BY 4.0" in line for line in fetch.said)


def test_medmnist_is_not_downloaded_twice_and_sizes_stand_side_by_side(fetch, published, server):
    published()
    published(size=64)
    fetch("breastmnist")
    got = fetch("breastmnist")
    assert not got.fetched and server.count("/breastmnist.npz") == 2  # the redirect check, the file
    before = (got.folder / "SHA256SUMS").read_text()
    assert fetch("breastmnist", 64).fetched
    after = (got.folder / "SHA256SUMS").read_text().splitlines()
    assert set(before.splitlines()) < set(after) and len(after) == 3
    assert json.loads((got.folder / "DOWNLOAD.json").read_text())["files"] == 3
    done = subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=got.folder)
    assert done.returncode == 0


def test_a_medmnist_file_that_was_changed_is_noticed(fetch, published):
    body = published()
    got = fetch("breastmnist")
    got.data.write_bytes(body[:-1] + bytes([body[-1] ^ 1]))
    with pytest.raises(DataError, match="has changed since it was fetched"):
        fetch("breastmnist")
    got.data.unlink()
    assert fetch("breastmnist").fetched  # one that is gone is fetched again


def test_a_medmnist_file_put_there_by_hand_is_checked(fetch, published, server, tmp_path):
    body = published()
    place = tmp_path / "out" / "breastmnist" / "breastmnist.npz"
    place.parent.mkdir(parents=True)
    place.write_bytes(body[:100])
    with pytest.raises(DataError, match="is not the published file"):
        fetch("breastmnist")
    place.write_bytes(body)
    assert not fetch("breastmnist").fetched and server.asked == []
    assert "breastmnist.npz" in (place.parent / "SHA256SUMS").read_text()


def test_a_medmnist_file_with_another_digest_is_refused(fetch, published, tmp_path):
    published(md5="0" * 32)
    with pytest.raises(DataError, match="MD5 differs"):
        fetch("breastmnist")
    assert [*(tmp_path / "out").iterdir()] == []


def test_a_medmnist_file_cut_off_is_no_file(fetch, published, server, tmp_path):
    body = published()
    server.cut["/breastmnist.npz"] = [None, len(body) // 2]  # after the check for redirects
    with pytest.raises(DataError, match="MD5 differs"):
        fetch("breastmnist")
    assert [*(tmp_path / "out").iterdir()] == []
    assert fetch("breastmnist").fetched


@pytest.mark.parametrize("status", [404, 429, 503])
def test_a_medmnist_server_that_answers_no(fetch, published, server, status):
    published()
    del server.files["/breastmnist.npz"]
    server.answers["/breastmnist.npz"] = (status, {"message": "no"})
    with pytest.raises(DataError, match=f"zenodo.org answers {status}"):
        fetch("breastmnist")


def test_no_network_names_the_file_to_open_and_where_to_put_it(fetch, published, server, tmp_path):
    import medmnist as package

    published()
    package.INFO["breastmnist"]["url"] = "http://127.0.0.1:9/breastmnist.npz"  # nobody listens
    with pytest.raises(DataError) as caught:
        fetch("breastmnist")
    said = str(caught.value)
    assert "can not be reached or broke off (" in said and "Connection refused" in said
    assert "http://127.0.0.1:9/breastmnist.npz" in said
    assert str(tmp_path / "out" / "breastmnist" / "breastmnist.npz") in said


def test_what_lies_behind_the_error_of_medmnist(fetch, published, monkeypatch, tmp_path):
    """The package turns everything, Ctrl-C too, into one RuntimeError."""
    import torchvision.datasets.utils as utils

    published()

    def fails(error):
        def instead(url, filename):
            Path(filename).write_bytes(b"half")
            raise error

        monkeypatch.setattr(utils, "_urlretrieve", instead)

    fails(OSError(errno.ENOSPC, "No space left on device"))
    with pytest.raises(OutputError, match="disk is full"):
        fetch("breastmnist")
    fails(TimeoutError("timed out"))
    with pytest.raises(DataError, match=r"can not be reached or broke off \(timed out\)"):
        fetch("breastmnist")
    fails(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        fetch("breastmnist")
    assert [*(tmp_path / "out").iterdir()] == []


# Kaggle.

GET = "/v1/datasets.DatasetApiService/GetDataset"
DOWNLOAD = "/v1/datasets.DatasetApiService/DownloadDataset"
COMPETE = "/v1/competitions.CompetitionApiService/DownloadDataFiles"
STORE = "/storage/archive.zip"
XRAYS = {
    "chest_xray/train/NORMAL/IM-0001-0001.jpeg": b"one" * 50_000,
    "chest_xray/train/PNEUMONIA/person1_virus_1.jpeg": b"two",
    "chest_xray/test/NORMAL/a name with ümlaut.jpeg": b"three",
}


RSNA = {
    "stage_2_train_images/a.dcm": b"DICM",
    "stage_2_detailed_class_info.csv": b"patientId,class\nb,Normal\n" + 2 * b"a,Lung Opacity\n",
}


def packed(files):
    opened = io.BytesIO()
    with zipfile.ZipFile(opened, "w") as archive:
        for name, body in files.items():
            archive.writestr(name, body)
    return opened.getvalue()


@pytest.fixture
def on_kaggle(server, monkeypatch):
    """The Guangzhou set on a Kaggle of this machine; everything of kagglehub runs but the host."""
    from kagglehub import clients
    from kagglesdk import kaggle_env

    monkeypatch.setitem(kaggle_env._env_to_endpoint, kaggle_env.KaggleEnv.PROD, server.url)
    monkeypatch.setattr(clients, "get_user_agent", lambda: "kagglehub")  # a second to find out

    def publish(files=XRAYS, md5=None):
        body = files if isinstance(files, bytes) else packed(files)
        sent = base64.b64encode(hashlib.md5(body).digest()).decode() if md5 is None else md5
        server.answers[GET] = (200, {"currentVersionNumber": 2})
        server.redirects[DOWNLOAD] = server.redirects[COMPETE] = server.url + STORE
        server.files[STORE] = body
        hashes = {"x-goog-hash": f"crc32c=n03x6A==,md5={sent}"} if sent else {}
        server.headers[STORE] = {"Accept-Ranges": "bytes", "Content-Type": "app/zip", **hashes}
        return body

    return publish


def test_kaggle_arrives_whole_with_digests(fetch, on_kaggle, server, tmp_path, capfd):
    on_kaggle()
    got = fetch("guangzhou")
    folder = tmp_path / "out" / "guangzhou"
    assert got.fetched and (got.folder, got.data) == (folder, folder / "chest_xray")
    assert {name: (folder / name).read_bytes() for name in XRAYS} == XRAYS
    said = json.loads((folder / "DOWNLOAD.json").read_text())
    assert (said["version"], said["files"]) == ("2", 3)
    assert said["bytes"] == sum(map(len, XRAYS.values()))
    done = subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=folder)
    assert done.returncode == 0
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["guangzhou"]
    assert "Authorization" not in server.asked[0][2]  # no key: a public set needs none
    printed = capfd.readouterr()
    assert printed.out == printed.err == ""


def test_kaggle_is_not_downloaded_twice_and_changes_are_noticed(fetch, on_kaggle, server):
    on_kaggle()
    folder = fetch("guangzhou").folder
    asked = len(server.asked)
    assert not fetch("guangzhou").fetched and len(server.asked) == asked
    changed, gone, _ = XRAYS
    (folder / changed).write_bytes(b"other")
    with pytest.raises(DataError, match=r"IM-0001-0001.jpeg: has changed"):
        fetch("guangzhou")
    (folder / changed).write_bytes(XRAYS[changed])
    (folder / gone).unlink()
    with pytest.raises(DataError, match=r"person1_virus_1.jpeg: is missing"):
        fetch("guangzhou")
    (folder / gone).write_bytes(XRAYS[gone])
    (folder / "SHA256SUMS").write_text("")
    with pytest.raises(DataError, match=r"does not go with DOWNLOAD.json"):
        fetch("guangzhou")


def test_kaggle_goes_on_where_it_was_cut_off(fetch, on_kaggle, server):
    mib = 2**20
    on_kaggle({**XRAYS, "chest_xray/big.jpeg": bytes(3 * mib)})
    server.cut[STORE] = [5 * mib // 2]
    with pytest.raises(DataError, match=r"kaggle.com can not be reached or broke off"):
        fetch("guangzhou")
    assert (fetch("guangzhou").data / "big.jpeg").read_bytes() == bytes(3 * mib)
    ranges = [headers.get("Range") for _, path, headers in server.asked if path == STORE]
    assert ranges == [None, None, f"bytes={2 * mib}-"]  # it is written by whole MiB


def test_kaggle_sends_the_users_key(fetch, on_kaggle, server, monkeypatch):
    on_kaggle(RSNA)
    with pytest.raises(DataError, match=r"rsna: needs a Kaggle key.*KAGGLE_API_TOKEN.*/rules"):
        fetch("rsna")
    assert server.asked == []
    monkeypatch.setenv("KAGGLE_USERNAME", "somebody")
    monkeypatch.setenv("KAGGLE_KEY", "secret")
    assert fetch("rsna").fetched
    sent = {path: headers.get("Authorization") for _, path, headers in server.asked}
    assert sent[COMPETE] == "Basic " + base64.b64encode(b"somebody:secret").decode()


@pytest.mark.parametrize(
    ("status", "key", "words"),
    [
        (401, False, "Kaggle asks for a key (401); make a token at"),
        (403, True, "Kaggle refuses the key that is given (403); make a token at"),
        (404, False, "Kaggle no longer has paultimothymooney/chest-xray-pneumonia (404)"),
        (429, False, "Kaggle answers 429 (Too Many Requests); run the same command again later"),
        (503, False, "Kaggle answers 503 (Service Unavailable)"),
    ],
)
def test_kaggle_answers_no(fetch, on_kaggle, server, monkeypatch, tmp_path, status, key, words):
    on_kaggle()
    server.answers[GET] = (status, {"code": status, "message": "no"})
    if key:
        monkeypatch.setenv("KAGGLE_API_TOKEN", "stale")
    with pytest.raises(DataError) as caught:
        fetch("guangzhou")
    assert words in str(caught.value)
    assert [*(tmp_path / "out").iterdir()] == []


def test_a_damaged_kaggle_json(fetch, on_kaggle, tmp_path):
    on_kaggle()
    place = tmp_path / "home" / ".kaggle" / "kaggle.json"
    place.parent.mkdir()
    for text in ("{", '{"username": "me"}'):
        place.write_text(text)
        with pytest.raises(DataError, match=r"kaggle.json.*make a token at"):
            fetch("guangzhou")


def test_kaggle_with_another_digest_or_no_archive(fetch, on_kaggle, tmp_path):
    on_kaggle(md5=base64.b64encode(b"0" * 16).decode())
    with pytest.raises(DataError, match="what arrived from kaggle.com is damaged"):
        fetch("guangzhou")
    on_kaggle(b"<html>sorry</html>", md5="")
    with pytest.raises(DataError, match="what arrived from kaggle.com is damaged"):
        fetch("guangzhou")
    assert [*(tmp_path / "out").iterdir()] == []
    on_kaggle()
    assert fetch("guangzhou").fetched  # nothing damaged is left behind


def test_a_row_for_each_box_becomes_a_row_for_each_image(fetch, on_kaggle, monkeypatch):
    on_kaggle(RSNA)
    monkeypatch.setenv("KAGGLE_API_TOKEN", "token")
    folder = fetch("rsna").folder
    assert (folder / "labels.csv").read_text() == "patientId,class\na,Lung Opacity\nb,Normal\n"
    assert "labels.csv" in (folder / "SHA256SUMS").read_text()


def test_kaggle_without_what_the_set_should_hold(fetch, on_kaggle):
    on_kaggle({"other/a.jpeg": b"x"})
    with pytest.raises(DataError, match="holds no chest_xray"):
        fetch("guangzhou")


def test_kaggle_without_a_network(fetch, on_kaggle, monkeypatch, tmp_path):
    from kagglesdk import kaggle_env

    on_kaggle()
    nobody = "http://127.0.0.1:9"
    monkeypatch.setitem(kaggle_env._env_to_endpoint, kaggle_env.KaggleEnv.PROD, nobody)
    with pytest.raises(DataError) as caught:
        fetch("guangzhou")
    said = str(caught.value)
    assert "kaggle.com can not be reached or broke off (" in said and "Connection refused" in said
    assert SETS["guangzhou"].page in said
    assert str(tmp_path / "out" / "guangzhou" / "chest_xray") in said


def test_kaggle_that_never_answers_ends(fetch, on_kaggle, server, monkeypatch):
    """kagglehub sets no limit for its calls; ours holds, and only while it runs."""
    import requests

    on_kaggle()
    held = threading.Event()
    monkeypatch.setattr(Handler, "do_POST", lambda self: held.wait(30))
    monkeypatch.setattr(kaggle, "READ", 0.2)
    send = requests.Session.send
    try:
        with pytest.raises(DataError, match=r"can not be reached or broke off \(Read timed out"):
            fetch("guangzhou")
    finally:
        held.set()
    assert requests.Session.send is send


def test_kaggle_with_a_full_disk_keeps_what_has_arrived(fetch, on_kaggle, server, monkeypatch):
    from kagglehub import http_resolver

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    on_kaggle()
    unpack = http_resolver._extract_archive
    monkeypatch.setattr(http_resolver, "_extract_archive", full)
    with pytest.raises(OutputError, match="disk is full; what has arrived is kept"):
        fetch("guangzhou")
    monkeypatch.setattr(http_resolver, "_extract_archive", unpack)
    assert fetch("guangzhou").fetched
    whole = [path for _, path, headers in server.asked if path == STORE and "Range" not in headers]
    assert len(whole) == 2  # the second is asked for and closed: all of it is there already


def test_an_archive_can_not_write_outside(fetch, on_kaggle, tmp_path):
    on_kaggle({**XRAYS, "../../../../../../escaped.txt": b"x", "/absolute.txt": b"x"})
    folder = fetch("guangzhou").folder
    assert not any(p.name == "escaped.txt" for p in tmp_path.rglob("*") if folder not in p.parents)
    assert not Path("/absolute.txt").exists()


# Both.


def test_sets_fetched_by_hand(fetch, tmp_path):
    with pytest.raises(DataError, match=r"stanfordmlgroup.*CheXpert-v1.0-small"):
        fetch("chexpert")
    place = tmp_path / "out" / "chexpert" / "CheXpert-v1.0-small" / "train.csv"
    place.parent.mkdir(parents=True)
    place.write_text("Path\n")
    assert fetch("chexpert").data == place
    place.write_text("Path\nother\n")
    with pytest.raises(DataError, match="has changed"):
        fetch("chexpert")


@pytest.mark.parametrize(("name", "package"), [("nih", "kagglehub"), ("octmnist", "medmnist")])
def test_a_client_that_is_not_installed(fetch, monkeypatch, name, package):
    monkeypatch.setitem(os.sys.modules, package, None)
    with pytest.raises(DataError, match=rf'{package}, .*pip install "layerwise\[get\]"'):
        fetch(name)


def test_one_process_at_a_time(tmp_path):
    folder = tmp_path / "out" / "set"
    with (
        guard.unfinished(folder),
        pytest.raises(OutputError, match="another `layerwise get`"),
        guard.unfinished(folder),
    ):
        pass
    assert [*folder.parent.iterdir()] == []


def test_names_that_sha256sum_escapes(tmp_path):
    names = ["a\\b", "new\nline", "\\n", "plain", "zwei  Leerzeichen"]
    for name in names:
        (tmp_path / name).write_text(name)
    record.write(tmp_path, names, {}, lambda *_: None)
    assert record.names_in(tmp_path) == set(names)
    record.verify(tmp_path, names, lambda *_: None)
    done = subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=tmp_path)
    assert done.returncode == 0
