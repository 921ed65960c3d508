"""The image, the compose file and the unit: what they promise is what stands in them.

No container engine is needed: the image's one step that installs is a script, and the slow test
runs it.
"""

import base64
import configparser
import io
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tomllib
import urllib.request
from pathlib import Path

import numpy as np
import onnx
import pytest
import typer
import yaml
from onnx import TensorProto, helper
from PIL import Image

from layerwise.cli.main import app
from layerwise.evaluation.operating import decide
from layerwise.serving.bundle import BundleInfo, Preprocessing, write_bundle
from layerwise.serving.statistics import reference

ROOT = Path(__file__).resolve().parents[1]
MOST = 600  # MB that an installation may take
FILES = ("Dockerfile", "compose.yaml", ".dockerignore", "scripts/install-serve", "docs/deploy.md")


def text(name):
    return (ROOT / name).read_text(encoding="utf-8")


def locked(name):
    """Package → (version, hashes) of a lock."""
    found = {}
    for block in re.split(r"\n(?=[a-z0-9])", text(name)):
        head = re.match(r"([a-z0-9.-]+)==([^ \\]+)", block)
        if head:
            hashes = set(re.findall(r"--hash=(sha256:[0-9a-f]{64})", block))
            assert hashes, head[1]
            found[head[1]] = (head[2], hashes)
    return found


def names(words):
    """Of requirements, without what stands behind the name."""
    return {re.split(r"[^a-z0-9-]", word)[0] for word in words}


def group():
    return names(tomllib.loads(text("pyproject.toml"))["dependency-groups"]["serve-only"])


def instructions():
    """(instruction, the rest) of the Dockerfile, continued lines joined."""
    lines = re.sub(r"\\\n", " ", re.sub(r"(?m)^#.*\n", "", text("Dockerfile"))).splitlines()
    return [tuple(line.split(maxsplit=1)) for line in lines if line.strip()]


def parsed(words):
    """A `layerwise …` command, parsed as it would be, and not run."""
    assert words[0] == "layerwise"
    command = typer.main.get_command(app).commands[words[1]]
    return command.make_context(words[1], list(words[2:])).params


def test_serving_has_the_versions_of_everything_else_and_no_torch():
    serving, everything = locked("requirements-serve.lock"), locked("requirements.lock")
    assert group() <= set(serving) and len(everything) > 1.5 * len(serving) > 40
    for name, (version, hashes) in serving.items():
        assert everything[name][0] == version and hashes <= everything[name][1], name
    heavy = {"torch", "torchvision", "timm", "scikit-learn", "pyarrow", "tensorboard", "optuna"}
    assert not heavy & set(serving) and not any("nvidia" in name for name in serving)


def test_the_group_is_all_that_the_extra_asks_for():
    extras = tomllib.loads(text("pyproject.toml"))["project"]["optional-dependencies"]
    assert names([*extras["serve"], *extras["registry"]]) <= group()


@pytest.mark.parametrize("name", ["requirements-serve.lock", *FILES])
def test_no_registry_of_packages_is_named(name):
    assert not re.search(
        r"(?<!emit-)index-url|find-links|pypi|https?://(?!127\.0\.0\.1)", text(name)
    )


def test_the_image_is_small_nobody_in_particular_and_checked():
    found = instructions()
    names = [name for name, _ in found]
    assert names.count("FROM") == 2  # what builds is not in what runs
    assert all(re.search(r"-slim( AS \w+)?$", rest) for name, rest in found if name == "FROM")
    last = dict(found[len(names) - names[::-1].index("FROM") :])
    user, group_id = last["USER"].split(":")
    assert int(user) > 0 and int(group_id) > 0
    assert not any(name == "RUN" for name, _ in found[names.index("USER") :])
    (run,) = [rest for name, rest in found if name == "RUN"]
    assert shlex.split(run) == ["PYTHON=python", "scripts/install-serve", "/opt/layerwise"]
    entry, command = json.loads(last["ENTRYPOINT"]), json.loads(last["CMD"])
    asked = parsed([*entry, *command])
    assert (asked["where"], asked["host"], str(asked["port"])) == (
        "/registry",
        "0.0.0.0",
        last["EXPOSE"],
    )


def test_every_file_that_the_image_copies_is_there_and_not_ignored():
    kept = {line[1:] for line in text(".dockerignore").splitlines() if line.startswith("!")}
    copied = {
        word
        for name, rest in instructions()
        if name == "COPY" and not rest.startswith("--from")
        for word in rest.split()[:-1]
    }
    assert copied == kept and all((ROOT / name).exists() for name in copied)
    # what the script takes from there
    taken = set(re.findall(r'"\$root/([\w./-]+)"', text("scripts/install-serve")))
    assert taken <= kept


def test_the_health_check_tells_a_live_server_from_a_dead_one(tmp_path):
    """The very words of the image, asked of a server of another port."""
    rest = dict(instructions())["HEALTHCHECK"]
    words = json.loads(rest[rest.index("CMD") + 3 :])
    assert words[:2] == ["python", "-c"]
    script = "\n".join(
        [
            "import http.server, subprocess, sys, threading",
            "class H(http.server.BaseHTTPRequestHandler):",
            "    def do_GET(self):",
            "        self.send_response(int(sys.argv[1]) if self.path == '/healthz' else 404)",
            "        self.end_headers()",
            "    def log_message(self, *a): pass",
            "s = http.server.HTTPServer(('127.0.0.1', 0), H)",
            "threading.Thread(target=s.serve_forever, daemon=True).start()",
            "code = sys.argv[2].replace('8000', str(s.server_port))",
            "sys.exit(subprocess.run([sys.executable, '-c', code], stderr=-3).returncode)",
        ]
    )
    # a proxy of the environment has no say in a question to oneself
    environment = os.environ | {"http_proxy": "http://127.0.0.1:9", "no_proxy": ""}
    for status, code in ((200, 0), (503, 1)):
        asked = [sys.executable, "-c", script, str(status), words[2]]
        assert subprocess.run(asked, env=environment).returncode == code


def test_compose_gives_the_container_nothing_that_it_does_not_need():
    compose = yaml.safe_load(text("compose.yaml"))
    (service,) = compose["services"].values()
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"] and service["security_opt"] == ["no-new-privileges:true"]
    assert [mount.split(":")[0] for mount in service["tmpfs"]] == ["/tmp"]
    (volume,) = service["volumes"]
    command = json.loads(dict(instructions())["CMD"])
    assert (
        volume["read_only"] is True and volume["target"] == parsed(["layerwise", *command])["where"]
    )
    assert "privileged" not in service and "environment" not in service
    # the key is a file that only it sees, and where the image looks for it
    (secret,) = service["secrets"]
    assert parsed(["layerwise", *command])["key_file"] == Path("/run/secrets") / secret
    assert set(compose["secrets"]) == {secret}
    # nothing but this machine, unless somebody says so
    (port,) = service["ports"]
    assert port == "${LISTEN:-127.0.0.1:8000}:8000"
    # longer than a request may take, so that none is cut off
    assert int(service["stop_grace_period"].removesuffix("s")) > 30


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", text("docs/deploy.md"), re.DOTALL)


def test_the_unit_starts_what_layerwise_understands_and_locks_it_in():
    (unit,) = blocks("ini")
    found = configparser.RawConfigParser(strict=False)
    found.optionxform = str
    found.read_string(unit)
    service = found["Service"]
    words = shlex.split(service["ExecStart"])
    assert parsed(["layerwise", *words[1:]])["host"] == "127.0.0.1"
    assert service["DynamicUser"] == service["NoNewPrivileges"] == "yes"
    assert service["ProtectSystem"] == "strict" and service["KillSignal"] == "SIGTERM"
    assert int(service["TimeoutStopSec"]) > 30


@pytest.mark.parametrize("page", ["docs/deploy.md", "docs/pipeline.md"])
def test_every_command_of_the_pages_is_one(page):
    known = typer.main.get_command(app).commands
    shell = "\n".join(re.findall(r"```sh\n(.*?)```", text(page), re.DOTALL)).replace("\\\n", " ")
    commands = re.findall(r"(?m)^(?:sudo )?(layerwise .*?)(?:  +#.*|&)?$", shell)
    assert len(commands) >= 2
    for command in commands:
        words = shlex.split(command)
        assert words[1] in known
        parsed(words)


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """What the image's step installs, in a place of its own."""
    place = tmp_path_factory.mktemp("image") / "opt"
    environment = os.environ | {"PYTHON": sys._base_executable, "PIP_NO_INPUT": "1"}
    have = subprocess.run(
        [sys._base_executable, "-m", "pip", "--version"], capture_output=True, text=True
    )
    if have.returncode:
        pytest.skip("needs a Python with pip: " + have.stderr.strip())
    done = subprocess.run(
        [ROOT / "scripts" / "install-serve", place], env=environment, capture_output=True, text=True
    )
    if done.returncode and re.search("connection|resolution|timed out|retries", done.stderr, re.I):
        pytest.skip("needs a package index: " + done.stderr.strip().splitlines()[-1])
    assert done.returncode == 0, done.stderr
    yield place
    shutil.rmtree(place)


def size_of(folder):
    """MB of all files, links not followed."""
    return sum(p.lstat().st_size for p in folder.rglob("*") if not p.is_dir()) / 1e6


def graph(path, nodes, inputs, outputs, constants):
    given = [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()]
    made = helper.make_graph(nodes, "mean", inputs, outputs, given)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path


def shown(file):
    """The pixels of a picture."""
    with Image.open(file) as image:
        return np.asarray(image)


GREYS = np.arange(100, 160)  # that it was made of: films of one grey each


@pytest.fixture
def bundle(tmp_path):
    """probability = sigmoid(8 · (mean grey / 255 − ½)), heat = grey / 255."""
    grey = helper.make_tensor_value_info("activation", TensorProto.FLOAT, ["n", 8, 8, 1])
    model = graph(
        tmp_path / "graph.onnx",
        [
            helper.make_node("Cast", ["pixels"], ["x"], to=TensorProto.FLOAT),
            helper.make_node("Div", ["x", "full"], ["activation"]),
            helper.make_node("ReduceMean", ["activation"], ["m4"], axes=[1, 2, 3], keepdims=1),
            helper.make_node("Flatten", ["m4"], ["mean"]),
            helper.make_node("Mul", ["mean", "slope"], ["scaled"]),
            helper.make_node("Add", ["scaled", "shift"], ["logit"]),
            helper.make_node("Sigmoid", ["logit"], ["probabilities"]),
        ],
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["n", 8, 8, 1])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 1]), grey],
        {"full": np.float32([255]), "slope": np.float32([8]), "shift": np.float32([-4])},
    )
    explaining = graph(
        tmp_path / "explaining.onnx",
        [helper.make_node("Reshape", ["activation", "shape"], ["heat"])],
        [grey, helper.make_tensor_value_info("label", TensorProto.INT64, ["n"])],
        [helper.make_tensor_value_info("heat", TensorProto.FLOAT, ["n", 8, 8])],
        {"shape": np.array([-1, 8, 8])},
    )
    films = np.broadcast_to(GREYS[:, None, None, None], (len(GREYS), 8, 8, 1)).astype(np.uint8)
    scores = 1 / (1 + np.exp(4 - 8 * GREYS[:, None] / 255)).astype(np.float32)
    labels = ("NORMAL", "PNEUMONIA")
    known = reference(
        "binary", labels, [films], [(8, 8)] * len(films), scores, decide("binary", scores, 0.5)
    )
    info = BundleInfo(
        "xrays",
        "binary",
        labels,
        Preprocessing((8, 8), 1, letterbox=False),
        0.5,
        explanation={"cut": "grey", "exact": False, "why": None},
        statistics=known.to_json(),
    )
    return write_bundle(tmp_path / "bundle", model, info, {"explain.onnx": explaining})


@pytest.mark.slow
def test_the_image_answers_without_torch_and_stays_small(installed, bundle, tmp_path, capsys):
    python, command = installed / "bin" / "python", installed / "bin" / "layerwise"
    size = size_of(installed)
    with capsys.disabled():
        print(f"\ninstalled to serve: {size:.0f} MB")
    assert size < MOST
    # neither torch nor what builds packages
    for name in ("torch", "torchvision", "timm", "setuptools", "pip"):
        tried = subprocess.run([python, "-c", f"import {name}"], capture_output=True)
        assert tried.returncode == 1, name
    Image.fromarray(np.full((8, 8), 200, np.uint8)).save(tmp_path / "film.png")
    table = tmp_path / "table.csv"
    # ill ones are brighter, as a rule
    bright = [100 + 10 * (k % 2) + k for k in range(40)]
    lines = [f"{k}.png,{('NORMAL', 'PNEUMONIA')[k % 2]},test" for k in range(40)]
    table.write_text("\n".join(["path,label,split", *lines]))
    for k, grey in enumerate(bright):
        Image.fromarray(np.full((8, 8), grey, np.uint8)).save(tmp_path / f"{k}.png")
    (tmp_path / "table.parquet").write_bytes(b"PAR1")
    key = "0123456789abcdef"
    environment = {  # nothing of this environment, as in the container
        "PATH": str(installed / "bin"),
        "HOME": "/nowhere",
        "LAYERWISE_CACHE": str(tmp_path / "cache"),
        "LAYERWISE_API_KEY": key,
    }

    def run(*words, code=0):
        """What a command says on standard output; of one that is refused, its message."""
        done = subprocess.run(
            [command, *words], env=environment, capture_output=True, text=True, cwd="/"
        )
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout if code == 0 else done.stderr

    run("verify", bundle)
    wanted = 1 / (1 + np.exp(-(8 * 200 / 255 - 4)))
    said = run("predict", bundle, tmp_path / "film.png")
    assert float(said.splitlines()[1].split(",")[2]) == pytest.approx(wanted, abs=1e-5)
    run("predict", bundle, table, "--label-column", "label", "--out", tmp_path / "said")
    said = json.loads(
        run(
            "explain", bundle, tmp_path / "film.png", "--out", tmp_path / "heat", "--heat", "--json"
        )
    )["explanations"][0]
    assert said["label"] == "PNEUMONIA"
    assert said["probability"] == pytest.approx(wanted, abs=1e-5)
    assert (shown(said["heat"]) == 200).all() and shown(said["picture"]).shape == (8, 8, 3)
    out = tmp_path / "evaluated"
    run("evaluate", bundle, table, "--draws", "100", "--out", out)
    scores = json.loads((out / "results.json").read_text())["test"]
    auroc = np.mean([[a > b for b in bright[::2]] for a in bright[1::2]])
    assert scores["auroc"]["value"] == pytest.approx(auroc)
    run("promote", bundle, "--registry", tmp_path / "registry", "--data", table)
    run("rollback", "--registry", tmp_path / "registry", "--list")
    said = json.loads(run("drift", bundle, table, "--out", tmp_path / "drift", "--json"))
    assert said["images"] == 40 and said["reference"]["images"] == len(GREYS)
    assert said["quality"]["now"]["auroc"]["value"] == pytest.approx(auroc)
    assert "<svg" in (tmp_path / "drift" / "drift.html").read_text()

    for words, lacking in (
        (["predict", bundle, "digits"], "pip install scikit-learn"),
        (["drift", bundle, tmp_path / "table.parquet"], "pip install pyarrow"),
        (["evaluate", bundle, "digits", "--out", tmp_path / "no"], "pip install scikit-learn"),
        (["fit", tmp_path, "--out", tmp_path / "no"], "needs torch, which is not"),
        (
            ["export", tmp_path, "--out", tmp_path / "no"],
            "needs torch, which is not",
        ),
    ):
        assert lacking in run(*words, code=2), words

    kept = tmp_path / "statistics"
    environment["LAYERWISE_CACHE"] = "/nowhere"  # a server of a bundle writes nothing there
    server = subprocess.Popen(
        [command, "serve", bundle, "--port", "0", "--statistics", kept],
        env=environment, stderr=subprocess.PIPE, text=True, cwd="/",
    )  # fmt: skip
    try:
        address, lines = None, []
        for line in server.stderr:
            lines.append(line)
            found = re.search(r"http://127\.0\.0\.1:\d+", line)
            if found:
                address = found[0]
                break
        assert address is not None, lines
        headers = {"X-API-Key": key, "Content-Type": "image/png"}
        picture = (tmp_path / "film.png").read_bytes()
        for way in ("predict", "explain"):
            asked = urllib.request.Request(f"{address}/v1/{way}", picture, headers)
            with urllib.request.urlopen(asked, timeout=60) as answer:
                found = json.load(answer)["predictions"][0]
            assert found["probabilities"]["PNEUMONIA"] == pytest.approx(wanted, abs=1e-5)
            assert found["decision"] == "PNEUMONIA"
        assert (shown(io.BytesIO(base64.b64decode(found["heat"]))) == 200).all()
        with urllib.request.urlopen(f"{address}/healthz", timeout=60) as answer:
            assert answer.status == 200
        page = urllib.request.Request(f"{address}/", headers={"X-API-Key": key})
        with urllib.request.urlopen(page, timeout=60) as answer:
            assert b"<html" in answer.read()
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 0
    finally:
        server.kill()
        server.communicate()
    said = json.loads(run("drift", bundle, kept, "--json"))
    assert said["images"] == 1  # who looks at an explanation has asked for the prediction before
