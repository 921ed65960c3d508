"""`layerwise get` as a user meets it: the list, the errors, what it says to type next."""

import json
import os
import subprocess
import sys

import pytest
import typer

from layerwise.cli.get import _next
from layerwise.cli.main import app, main
from layerwise.data.get.catalogue import SETS
from layerwise.data.get.download import Got


def test_the_list(capsys):
    assert main(["get"]) == 0
    printed = capsys.readouterr().out
    assert {line.split()[0] for line in printed.splitlines()[1:19]} == set(SETS)
    assert main(["get", "--list", "--json"]) == 0
    sets = json.loads(capsys.readouterr().out)["sets"]
    assert {one["name"]: one["page"] for one in sets} == {k: v.page for k, v in SETS.items()}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["guangzou"], "did you mean guangzhou?"),
        (["nih", "--size", "64"], "--size goes with the MedMNIST sets"),
        (["octmnist", "--size", "32"], "MedMNIST has 28, 64, 128, 224"),
        (["chexpert"], "has to be fetched by hand"),
    ],
)
def test_a_wrong_word_is_one_message(capsys, tmp_path, words, said):
    assert main(["get", *words, "--out", str(tmp_path)]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and said in printed.err and printed.err.count("\n") == 1


def test_an_output_folder_that_is_a_file(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    assert main(["get", "nih", "--out", str(tmp_path / "file" / "x")]) == 2
    assert "name another folder" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["breastmnist", "guangzhou"])
def test_offline_it_ends_at_once_with_one_message(tmp_path, name):
    """A proxy where nobody listens: no network, whatever machine this is."""
    kept = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
    proxies = {f"{kind}_proxy": "http://127.0.0.1:9" for kind in ("http", "https")}
    done = subprocess.run(
        [sys.executable, "-m", "layerwise", "get", name, "--out", str(tmp_path / "out")],
        capture_output=True,
        text=True,
        env={**kept, **proxies, "HOME": str(tmp_path)},
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (2, "")
    said, refused = done.stderr.splitlines()
    assert said.startswith("downloading https://")
    assert refused.startswith(f"layerwise: {name}: ") and "can not be reached" in refused
    assert [*(tmp_path / "out").iterdir()] == []


def test_the_result_in_json(capsys, tmp_path):
    """Told of a set that is there; checking it needs no right to write."""
    table = tmp_path / "covid-chestxray" / "metadata.csv"
    table.parent.mkdir()
    table.write_text("filename\n")
    assert main(["get", "covid-chestxray", "--out", str(tmp_path), "--json", "--quiet"]) == 0
    printed = capsys.readouterr()
    result = json.loads(printed.out)
    assert printed.err == ""
    assert (result["data"], result["fetched"]) == (str(table), False)
    table.parent.chmod(0o555)
    tmp_path.chmod(0o555)
    try:
        assert main(["get", "covid-chestxray", "--out", str(tmp_path), "--quiet"]) == 0
    finally:
        tmp_path.chmod(0o755)
        table.parent.chmod(0o755)
    assert [words[:2] for words in result["next"]] == [
        ["layerwise", "inspect"],
        ["layerwise", "fit"],
    ]


@pytest.mark.parametrize("name", SETS)
def test_what_it_says_to_type_next_can_be_typed(name, tmp_path):
    one = SETS[name]
    got = Got(one, tmp_path / name, tmp_path / name / (one.data or (f"{name}.npz",))[0], True)
    commands = typer.main.get_command(app).commands
    for _, verb, *words in _next(got):
        read = commands[verb].make_context(verb, words)
        assert read.params["data"] == str(got.data)
        assert not any("{" in word for word in words)
