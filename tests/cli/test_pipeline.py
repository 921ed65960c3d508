"""`layerwise pipeline` as a user meets it; only the slow test really trains."""

import csv
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import tomllib
import urllib.request
from pathlib import Path

import numpy as np
import onnx
import pytest
import typer
import yaml
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from layerwise.cli import pipeline_steps
from layerwise.cli.main import app, main
from layerwise.cli.output import Output
from layerwise.cli.pipeline_steps import words_for
from layerwise.errors import LayerwiseError
from layerwise.serving.bundle import BundleInfo, Preprocessing, write_bundle
from layerwise.serving.pipeline.recipe import recipe_of
from layerwise.serving.pipeline.workflow import workflow_for

STEPS = ["audit", "split", "fit", "verify", "evaluate", "promote", "deploy"]


def halves(left, right):
    """probability = sigmoid(left · left half + right · right half): means of grey / 255 − ½."""
    weights = np.zeros((16, 16, 1), np.float32)
    weights[:, :8], weights[:, 8:] = left / 128 / 255, right / 128 / 255
    given = {"weights": weights.reshape(256, 1), "shift": np.float32([-(left + right) / 2])}
    nodes = [
        helper.make_node("Cast", ["pixels"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["product"]),
        helper.make_node("Add", ["product", "shift"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["probabilities"]),
    ]
    pixels = helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["n", 16, 16, 1])
    out = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 1])
    constants = [numpy_helper.from_array(value, name) for name, value in given.items()]
    made = helper.make_graph(nodes, "halves", [pixels], [out], constants)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


class Place:
    """A folder with data, a recipe, and a fit that learns what it is told to have learnt."""

    def __init__(self, root: Path) -> None:
        self.root, self.data, self.out = root, root / "films", root / "out"
        self.learns = (0.0, 40.0)  # the right half, which tells the class
        self.called: list[list[str]] = []
        for number in range(120):
            self.film(number)
        self.recipe = root / "recipe.toml"
        self.write()

    def film(self, number: int) -> None:
        label = ("well", "ill")[number % 2]
        pixels = np.random.default_rng(number).integers(60, 180, (16, 16))
        pixels[:, 8:] += 5 * (number % 2)  # ill: the right half is brighter
        path = self.data / label / f"p{number // 2}_{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(path)

    def write(self, fit="time = '8s'", promote="margin = 0.02", deploy="", data="") -> None:
        registry = self.root / "registry"
        said = self.root / "said"
        command = [sys.executable, "-c", f"open({str(said)!r}, 'a').write('{{id}}\\n')"]
        self.recipe.write_text(
            f"out = {json.dumps(str(self.out))}\n"
            f'[data]\ndata = {json.dumps(str(self.data))}\npositive = "ill"\n'
            f"patient_from = '(p\\d+)_'\n{data}\n[fit]\n{fit}\n"
            f"[promote]\nregistry = {json.dumps(str(registry))}\ndraws = 200\n{promote}\n"
            f"[deploy]\ncommand = {json.dumps(command)}\n{deploy}\n"
        )

    def call(self, name, words, output):
        """What `call` does, but that `fit` does not train."""
        self.called.append([name, *words])
        if name != "fit":
            return self.real(name, words, output)
        folder = Path(words[words.index("--out") + 1])
        onnx.save(halves(*self.learns), self.root / "graph.onnx")
        info = BundleInfo(
            "films", "binary", ("well", "ill"), Preprocessing((16, 16), 1, letterbox=False), 0.5
        )
        write_bundle(folder / "bundle", self.root / "graph.onnx", info)
        auroc = {"value": 0.9, "low": 0.8, "high": 1.0}
        runs = [{"id": "r", "name": "frozen to conv2, linear"}]
        return {"runs": runs, "chosen": "r", "test": {"auroc": auroc}}

    def go(self, capsys, *words, code=0):
        """The summary of one more run."""
        self.called = []
        capsys.readouterr()
        assert main(["pipeline", str(self.recipe), "--json", "--quiet", *words]) == code
        return json.loads(capsys.readouterr().out)

    def champion(self):
        return json.loads((self.root / "registry" / "registry.json").read_text())["champion"]

    def deployed(self):
        said = self.root / "said"
        return said.read_text().split() if said.exists() else []


@pytest.fixture
def place(tmp_path, monkeypatch):
    def empty(_figure, out, **_options):  # nobody looks at the figures, which take most of the time
        out.write('<svg viewBox="0 0 1 1"></svg>')

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", empty)
    made = Place(tmp_path)
    made.real = pipeline_steps.call
    monkeypatch.setattr(pipeline_steps, "call", made.call)
    return made


def ran(summary):
    return [step["name"] for step in summary["steps"] if step["run"]]


def parts(place):
    with (place.out / "parts.csv").open(newline="") as file:
        return {row["id"]: row["split"] for row in csv.DictReader(file)}


def test_from_data_to_a_server_and_nothing_twice(place, capsys):
    dry = place.go(capsys, "--dry-run")
    assert [step["run"] for step in dry["steps"]] == [True, *[None] * 6] and not place.out.exists()
    first = place.go(capsys)
    assert ran(first) == STEPS and not first["nothing_to_do"]
    assert place.champion() == first["bundle"] and place.deployed() == [first["bundle"]]
    steps = {step["name"]: step for step in first["steps"]}
    assert steps["audit"]["results"]["findings"]["leak"] == 0
    assert sum(steps["split"]["results"]["images"].values()) == 120
    assert steps["promote"]["results"]["promoted"] is True
    # scored on the test part of the split: by hand, from the very pictures
    test = [name for name, part in parts(place).items() if part == "test"]
    means = {n: np.asarray(Image.open(place.data / n))[:, 8:].mean() for n in test}
    ill = [m for n, m in means.items() if n.startswith("ill")]
    well = [m for n, m in means.items() if n.startswith("well")]
    auroc = np.mean([[(a > b) + (a == b) / 2 for b in well] for a in ill])
    assert steps["evaluate"]["results"]["test"]["auroc"]["value"] == pytest.approx(auroc)

    again = place.go(capsys)
    assert ran(again) == [] and again["nothing_to_do"] and place.called == []
    assert again["bundle"] == first["bundle"] and place.deployed() == [first["bundle"]]
    assert main(["pipeline", str(place.recipe)]) == 0
    said = capsys.readouterr().out
    assert f"AUROC {auroc:.3f}" in said and f"made {first['bundle']} the champion\n" in said
    assert "the command has run" in said and "nothing to do" in said
    dry = place.go(capsys, "--dry-run", "--from", "evaluate")
    assert [step["run"] for step in dry["steps"]] == [False] * 4 + [True, None, None]
    assert place.called == []

    # new data: those that were there keep their parts, and the champion is the same bundle
    before = parts(place)
    for number in range(120, 128):
        place.film(number)
    grown = place.go(capsys)
    assert ran(grown) == ["audit", "split", "fit", "evaluate", "promote"]
    now = parts(place)
    assert len(now) == 128 and {name: now[name] for name in before} == before
    assert grown["steps"][5]["results"]["already"] is True

    # what is learnt now is worse: refused with its reasons, the second time without looking
    place.learns = (40.0, 0.0)
    place.write(fit="time = '9s'")
    worse = place.go(capsys)
    assert ran(worse) == ["fit", "verify", "evaluate", "promote"]
    assert worse["steps"][5]["state"] == "refused" and worse["steps"][5]["results"]["reasons"]
    assert place.champion() == first["bundle"] != worse["bundle"]
    assert ran(place.go(capsys)) == [] and place.deployed() == [first["bundle"]]
    place.write(fit="time = '9s'", promote="margin = 0.02\nrequire = true")
    assert ran(place.go(capsys, code=4)) == ["promote"]

    # with another recipe, and the registry gone to another bundle meanwhile
    place.learns = (-4.0, 50.0)
    place.write(fit="time = '9s'\nseed = 1", promote="margin = 0.5")
    better = place.go(capsys)
    assert "deploy" in ran(better) and place.deployed() == [first["bundle"], better["bundle"]]
    assert main(["rollback", "--registry", str(place.root / "registry"), "--quiet"]) == 0
    assert main(["pipeline", str(place.recipe)]) == 0
    told = f"the champion of {place.root / 'registry'} is {first['bundle']} by now"
    assert told in capsys.readouterr().err
    assert ran(place.go(capsys)) == []  # a person took it back: it is not put there again
    place.write(fit="time = '9s'\nseed = 1", promote="margin = 0.5", deploy="timeout = 50")
    assert main(["pipeline", str(place.recipe), "--quiet"]) == 2
    assert "replaced or rolled back since" in capsys.readouterr().err


def test_leaking_data_are_refused_before_anything_else(place, capsys):
    pixels = (place.data / "ill" / "p0_1.png").read_bytes()
    for part, number in (("train", 0), ("test", 1)):
        for label in ("well", "ill"):
            for k in range(4):
                path = place.data / part / label / f"p{number}{k}_{label}{k}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                seed = 100 * number + 10 * k + len(label)
                noise = np.random.default_rng(seed).integers(0, 255, (16, 16))
                Image.fromarray(noise.astype(np.uint8)).save(path)
    for part in ("train", "test"):
        (place.data / part / "ill" / "p9_same.png").write_bytes(pixels)
    refused = place.go(capsys, code=3)
    assert ran(refused) == ["audit"] and refused["steps"][0]["state"] == "refused"
    assert refused["steps"][0]["results"]["findings"]["leak"] >= 1
    assert place.go(capsys, code=3)["nothing_to_do"]  # known: it is not looked at again
    assert [words[0] for words in place.called] == []
    place.write(data="allow_leaks = true")
    allowed = place.go(capsys)
    assert ran(allowed) == STEPS


def test_columns_of_subgroups_reach_the_steps_that_ask_for_them(place, capsys):
    table = place.data / "table.csv"
    lines = [f"{p.parent.name}/{p.name},{p.parent.name}" for p in place.data.glob("*/*.png")]
    rows = [f"{line},{'fm'[k % 2]}" for k, line in enumerate(sorted(lines))]
    table.write_text("\n".join(["path,label,sex", *rows]))
    place.data = table
    place.write(promote="subgroup = ['sex']\n[evaluate]\nsubgroup = ['sex']")
    first = place.go(capsys)
    assert ran(first) == STEPS
    results = json.loads(Path(first["steps"][4]["results"]["results"]).read_text())
    assert {g["value"] for g in results["subgroups"] if g["column"] == "sex"} == {"f", "m"}
    # other columns are other data for what asks for them, and for nothing that trains
    table.write_text(table.read_text().replace(",m\n", ",f\n", 1))
    assert ran(place.go(capsys)) == ["audit", "split", "evaluate", "promote"]


BAD = {
    "no file": (None, "no such file"),
    "no TOML": ("[data", "is not TOML"),
    "unknown table": ("[data]\ndata = 'digits'\n[publish]\n", "unknown setting 'publish'"),
    "no data": ("[fit]\ntime = '1m'\n", r"\[data\] says no data"),
    "unknown flag": ("[data]\ndata = 'digits'\n[fit]\nepoch = 3\n", r"\[fit\]: unknown setting"),
    "of another table": (
        "[data]\ndata = 'digits'\n[fit]\npatient_from = 'x'\n",
        r"\[fit\]: unknown setting 'patient_from'",
    ),
    "wrong type": ("[data]\ndata = 'digits'\n[fit]\nseed = 'one'\n", "must be a whole number"),
    "no list": ("[data]\ndata = 'digits'\nonly = '3'\n", "write a list"),
    "no table": ("fit = 3\n[data]\ndata = 'digits'\n", r"write a table, \[fit\]"),
    "no registry": ("[data]\ndata = 'digits'\n[promote]\n", "says no registry"),
    "its own dry run": (
        "[data]\ndata = 'digits'\n[promote]\nregistry = 'r'\ndry_run = true\n",
        "unknown setting 'dry_run'",
    ),
    "deploy alone": ("[data]\ndata = 'digits'\n[deploy]\n", r"goes with \[promote\]"),
    "no web address": (
        "[data]\ndata = 'digits'\n[promote]\nregistry = 'r'\n[deploy]\nurl = 'file:///etc/hosts'\n",
        "write it like http://",
    ),
    "a command as text": (
        "[data]\ndata = 'digits'\n[promote]\nregistry = 'r'\n[deploy]\ncommand = 'reload now'\n",
        "must be a list",
    ),
    "no out": ("[data]\ndata = 'digits'\n", "say where the work is done"),
    "less than none": ("keep = -1\n[data]\ndata = 'digits'\n", "keep is -1"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_wrong_recipe_is_refused_before_anything_is_done(what, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content, message = BAD[what]
    if content is not None:
        Path("recipe.toml").write_text(content)
    assert main(["pipeline", "recipe.toml"]) == 2
    said = capsys.readouterr().err
    assert "recipe.toml" in said and re.search(message, said)
    assert sorted(p.name for p in tmp_path.iterdir()) == (["recipe.toml"] if content else [])


def test_tables_become_the_words_of_their_command():
    table = {
        "data": "films",
        "label_column": ["a", "b"],
        "images": False,
        "seed": 3,
        "letterbox": True,
        "skip_unreadable": False,
        "patient_from": "-x",
    }
    words = ["films", "--label-column=a", "--label-column=b", "--no-images", "--seed=3"]
    assert words_for("inspect", table, "") == [*words, "--letterbox", "--patient-from=-x"]
    with pytest.raises(LayerwiseError, match="unknown setting 'out'"):  # the pipeline's own
        words_for("inspect", {"out": "x"}, "r.toml: [data]")


def test_the_page_has_a_recipe_that_is_read_and_every_flag_and_step(tmp_path):
    page = (Path(__file__).parents[2] / "docs" / "pipeline.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    recipe = recipe_of(tomllib.loads(block), "the page")
    steps = pipeline_steps.Steps(recipe, "the page", tmp_path, tmp_path, Output()).all()
    assert [step.name for step in steps] == STEPS
    assert all(f"\n| `{name}` |" in page for name in STEPS)
    command = typer.main.get_command(app).commands["pipeline"]
    flags = {word for p in command.params for word in p.opts if word.startswith("--")}
    assert {flag for flag in flags - {"--help"} if f"`{flag}" not in page} == set()


def layerwise_commands(text):
    """Every `layerwise …` command of a shell script, as words; its variables are filled."""
    text = text.replace("\\\n", " ").replace('"$RECIPE"', "r.toml").replace('"$OUT"', "out")
    text = text.replace('"$FROM"', "fit")
    return [shlex.split(c) for c in re.findall(r"layerwise (?:pipeline|--)[^;\n]*", text)]


def test_the_workflow_is_what_github_and_layerwise_read(tmp_path):
    recipe, out = Path('recipes/it\'s "ours".toml'), Path("/srv/pipe line")
    workflow = yaml.safe_load(workflow_for(recipe, out))
    triggers = workflow[True]  # YAML 1.1 reads the key `on` so
    assert set(triggers) == {"schedule", "push", "workflow_dispatch"}
    assert recipe.as_posix() in triggers["push"]["paths"]
    assert re.fullmatch(r"[\d*/,-]+( [\d*/,-]+){4}", triggers["schedule"][0]["cron"])
    assert triggers["workflow_dispatch"]["inputs"]["from"]["options"][1:] == STEPS
    assert workflow["env"] == {"RECIPE": recipe.as_posix(), "OUT": out.as_posix()}
    assert workflow["permissions"] == {"contents": "read"}
    assert workflow["concurrency"]["cancel-in-progress"] is False
    (job,) = workflow["jobs"].values()
    scripts = [step["run"] for step in job["steps"] if "run" in step]
    # what a person types in is no part of a script, where it would be run
    assert not any("${{" in script for script in scripts)
    commands = [command for script in scripts for command in layerwise_commands(script)]
    assert len(commands) == 3
    parser = typer.main.get_command(app).commands["pipeline"]
    for words in commands:
        context = parser.make_context("pipeline", words[2:])
        assert context.params["recipe"] == Path("r.toml") and context.params["out"] == Path("out")
    # run by bash as GitHub does it, with a `layerwise` that says what it was asked
    said = tmp_path / "layerwise"
    said.write_text("#!/bin/sh\nprintf '%s\\n' \"$@\"\n")
    said.chmod(0o755)
    given = {"PATH": f"{tmp_path}:{os.environ['PATH']}", **workflow["env"]}
    words = ["pipeline", workflow["env"]["RECIPE"], "--out", workflow["env"]["OUT"]]
    dry, real = scripts
    for script, choice, more in (
        (dry, "", ["--dry-run"]),
        (real, "", []),  # by time or by a push
        (real, triggers["workflow_dispatch"]["inputs"]["from"]["default"], []),
        (real, "evaluate", ["--from", "evaluate"]),
        (real, "x; rm -r y", ["--from", "x; rm -r y"]),
    ):
        done = subprocess.run(
            ["bash", "-eo", "pipefail", "-c", script],
            env=given | {"FROM": choice},
            capture_output=True,
            text=True,
        )
        assert (done.returncode, done.stdout.splitlines()) == (0, [*words, *more]), done.stderr


def test_the_workflow_is_written_once(place, capsys):
    file = place.root / ".github" / "workflows" / "layerwise.yml"
    said = place.go(capsys, "--write-workflow", str(file))
    assert said["workflow"] == str(file) and not place.out.exists()
    assert yaml.safe_load(file.read_text())["env"]["RECIPE"] == str(place.recipe)
    assert main(["pipeline", str(place.recipe), "--write-workflow", str(file)]) == 2
    assert "is there already" in capsys.readouterr().err


@pytest.mark.slow
def test_killed_while_it_trains_it_goes_on_and_ends_as_if_it_had_not(tmp_path):
    """Everything real, in processes of its own, one of which is killed hard."""
    place = Place(tmp_path)
    place.write(fit="model = 'lenet5'\nweights = 'none'\nimage_size = 32\nthreads = 1\ntime = '8s'")
    command = [sys.executable, "-m", "layerwise", "pipeline", str(place.recipe), "--quiet"]
    environment = os.environ | {"LAYERWISE_CACHE": str(tmp_path / "cache")}
    first = subprocess.Popen(command, env=environment)
    deadline = time.monotonic() + 200
    while not list(place.out.glob("fit-*/runs/*")):  # it trains
        assert first.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    first.send_signal(signal.SIGKILL)
    first.wait()
    state = json.loads((place.out / "pipeline.json").read_text())["steps"]
    assert [record["state"] for record in state.values()] == ["done", "done", "running"]
    second = subprocess.run([*command, "--json"], env=environment, stdout=subprocess.PIPE)
    assert second.returncode == 0
    summary = json.loads(second.stdout)
    assert ran(summary) == STEPS[2:] and summary["steps"][2]["folder"] == state["fit"]["folder"]
    assert place.champion() == summary["bundle"] and place.deployed() == [summary["bundle"]]
    third = subprocess.run([*command, "--json"], env=environment, stdout=subprocess.PIPE)
    assert json.loads(third.stdout)["nothing_to_do"]


@pytest.mark.slow
def test_a_running_server_takes_the_new_bundle_by_itself(place, capsys):
    first = place.go(capsys)
    words = ["serve", str(place.root / "registry"), "--port", "0", "--poll", "0.2"]
    command = [sys.executable, "-m", "layerwise", *words]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        found = (re.search(r"http://127\.0\.0\.1:\d+", line) for line in server.stderr)
        address = next(match[0] for match in found if match)
        place.learns = (-4.0, 50.0)
        place.write(fit="seed = 1", promote="margin = 0.5", deploy=f"url = '{address}'")
        second = place.go(capsys)
        deployed = second["steps"][6]["results"]
        assert deployed["champion"] == second["bundle"] != first["bundle"]
        assert deployed["shown_after_seconds"] is not None
        with urllib.request.urlopen(f"{address}/v1/model", timeout=60) as answer:
            assert json.load(answer)["id"] == second["bundle"]
    finally:
        server.kill()
        server.communicate()
