"""The flags of studies: recipes in TOML, what goes before what, and how wrong ones are refused."""

import io
import re
import tomllib
from collections import Counter
from pathlib import Path
from typing import Annotated

import pytest
import typer

from layerwise.cli import flags, live, study_flags
from layerwise.cli import main as program
from layerwise.cli.live import Lines, LiveTable, roughly, state, study_board, table
from layerwise.cli.main import main
from layerwise.cli.output import Bar, Output
from layerwise.cli.study import study as studies
from layerwise.cli.study_flags import request_of, training_recipe, worker_count
from layerwise.config import from_mapping
from layerwise.studies.board import Board
from layerwise.training.recipe import Recipe


@pytest.fixture
def study(monkeypatch):
    """A command with the flags of a study that keeps what it was given."""
    got = {}

    def go(
        context: typer.Context,
        data: Annotated[str, typer.Argument()],
        out: flags.Out,
        recipe: study_flags.Recipe = None,
        model: flags.Model = "lenet5",
        model_arg: flags.ModelArg = [],  # noqa: B006
        weights: flags.Weights = "none",
        budget: Annotated[str, typer.Option("--time")] = "10m",
        share: Annotated[float, typer.Option()] = 1.0,
        both: Annotated[bool, typer.Option("--both-directions/--one-direction")] = True,
        workers: study_flags.Workers = 0,
        repeats: study_flags.Repeats = None,
        epochs: study_flags.Epochs = None,
        quick: study_flags.Quick = False,
        augment: flags.Augment = "auto",
        balance: flags.Balance = [],  # noqa: B006
        vertical_flip: flags.VerticalFlip = False,
        only: flags.Only = [],  # noqa: B006
        cache: flags.Cache = None,
        threads: flags.Threads = 3,
        seed: flags.Seed = 0,
        label_column: flags.LabelColumn = [],  # noqa: B006
    ) -> None:
        got.update(context.params)
        got["request"] = request = request_of(context, keep="all")
        preset = "natural" if request.augment == "auto" else request.augment
        got["recipe"] = training_recipe(context, preset, Recipe(epochs=30, lr=0.02, batch=16))

    app = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None)
    app.callback()(lambda: None)
    app.command()(go)
    monkeypatch.setattr(program, "app", app)
    return got


@pytest.fixture
def write(tmp_path):
    def written(text):
        path = tmp_path / "study.toml"
        path.write_text(text, encoding="utf-8")
        return str(path)

    return written


WHOLE = """
data = "pictures"
out = "from file"
epochs = 7
time = "3m"
share = 2
both_directions = false
only = ["cat", "big dog"]
model_arg = ["width=0.5"]
seed = 4
[training]
lr = 0.1
optimizer = "sgd"
balance = "none"
augment = "flip"
"""


def test_a_file_gives_every_kind_of_flag(study, write):
    assert main(["go", "--recipe", write(WHOLE)]) == 0
    assert study["data"] == "pictures" and str(study["out"]) == "from file"
    assert study["only"] == ["cat", "big dog"] and study["share"] == 2.0
    assert study["both"] is False and study["epochs"] == 7
    request, recipe = study["request"], study["recipe"]
    assert (request.data, str(request.out), request.seconds) == ("pictures", "from file", 180)
    assert request.arguments == {"width": "0.5"} and request.options.only == ("cat", "big dog")
    assert (request.seed, request.threads, request.model) == (4, 3, "lenet5")
    assert (request.augment, request.balance) == ("flip", "none")
    assert (recipe.lr, recipe.optimizer, recipe.epochs, recipe.batch) == (0.1, "sgd", 7, 16)
    assert (recipe.augment, recipe.balance) == ("flip", "none")


@pytest.mark.parametrize("first", [True, False])
def test_the_command_line_goes_before_the_file(study, write, first):
    recipe = ["--recipe", write(WHOLE)]
    words = "mine --out here --epochs 9 --only frog --both-directions --seed 0".split()
    words += "--augment none --balance sampling --time 90s".split()
    assert main(["go", *(recipe if first else []), *words, *([] if first else recipe)]) == 0
    assert study["data"] == "mine" and str(study["out"]) == "here" and study["both"] is True
    assert study["only"] == ["frog"] and study["request"].seconds == 90
    assert study["request"].seed == 0  # a flag at its default is still a flag that was typed
    assert (study["recipe"].epochs, study["recipe"].augment) == (9, "none")
    assert study["recipe"].balance == "sampling" and study["request"].balance == "sampling"
    assert study["recipe"].lr == 0.1  # of the file, as nothing typed speaks of it


def test_without_a_file_the_studys_own_recipe_holds(study):
    assert main(["go", "mine", "--out", "here"]) == 0
    assert study["recipe"] == Recipe(epochs=30, lr=0.02, batch=16, augment="natural")
    assert study["request"].augment == "auto" and study["request"].balance == "weights"


def test_the_negative_of_a_flag_is_a_key_too(study, write):
    assert main(["go", "--recipe", write('data="d"\nout="o"\none_direction = true')]) == 0
    assert study["both"] is False


HEAD = 'data = "d"\nout = "o"\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epochz = 3", "unknown key 'epochz'; the nearest one is 'epochs'"),
        ("budget = '3m'", "unknown key 'budget'; the nearest one is"),  # its flag is --time
        ("trainings = 3", "the nearest one is 'training'"),
        ("recipe = 'x.toml'", "unknown key 'recipe'"),
        ("epochs = '3'", 'epochs is "3"; it must be a whole number'),
        ("epochs = true", "epochs is true; it must be a whole number"),
        ("epochs = 2.5", "epochs is 2.5; it must be a whole number"),
        ("share = 'half'", 'share is "half"; it must be a number'),
        ("quick = 1", "quick is 1; it must be true or false"),
        ("time = 600", 'time is 600; it must be text in "quotes", "600"'),
        ("only = 'cat'", 'the flag is repeatable, so write a list: ["cat"]'),
        ("only = ['cat', 3]", 'only is 3; it must be text in "quotes"'),
        ("epochs = ", "is not TOML"),
        ("training = 3", "training is 3; write a table, [training]"),
        ("[training]\nlearning_rate = 1", "[training]: unknown setting 'learning_rate'"),
        ("[training]\nbach = 1", "the nearest one is 'batch'"),
        ("[training]\nquick = true", "it is a flag, so write it above [training]"),
        ("[training]\nlr = 'big'", "[training]: lr is 'big'; it must be of type float"),
        ("[training]\nbatch = 0", "batch is 0; it must be 1 or more"),
        ("[training]\nbalance = 'no'", "--balance 'no' is unknown"),
        ("[training]\naugment = 'no'", "--augment 'no' is unknown"),
        ("epochs = 3\n[training]\nepochs = 4", "epochs stands above it and in it; keep one"),
    ],
)
def test_a_wrong_file_is_refused(study, write, capsys, text, message):
    path = write(HEAD + text)
    assert main(["go", "--recipe", path]) == 2
    said = capsys.readouterr().err
    assert message in said and "Traceback" not in said
    assert path in said or "--balance" in message or "--augment" in message or "batch" in message


def test_a_range_of_a_flag_holds_in_a_file_too(study, write, capsys):
    assert main(["go", "--recipe", write(HEAD + "epochs = 0")]) == 2
    assert "--epochs" in capsys.readouterr().err


def test_a_file_that_is_not_there_or_no_text(study, tmp_path, capsys):
    assert main(["go", "--recipe", str(tmp_path / "no.toml")]) == 2
    assert "no.toml: no such file; check the path" in capsys.readouterr().err
    assert main(["go", "--recipe", str(tmp_path)]) == 2
    assert "can not be read" in capsys.readouterr().err
    (tmp_path / "picture").write_bytes(b"\xff\xd8\xff\xe0")
    assert main(["go", "--recipe", str(tmp_path / "picture")]) == 2
    assert "is not text" in capsys.readouterr().err


def test_data_must_come_from_somewhere(study, write, capsys):
    assert main(["go", "--recipe", write('out = "o"')]) == 2
    assert "data" in capsys.readouterr().err.lower()


@pytest.mark.parametrize(
    ("flag", "threads", "count"), [(0, 2, 2), (0, 64, 8), (0, 1, 1), (3, 2, 3), (12, 64, 12)]
)
def test_workers(monkeypatch, flag, threads, count):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert worker_count(flag, threads) == count
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert worker_count(flag, threads) == (flag or 1)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "5 s"), (43, "45 s"), (92, "90 s"), (100, "2 min"), (840, "14 min"), (5399, "1 h 30 min")]
    + [(11400, "3 h 10 min"), (7199, "2 h 00 min")],
)
def test_time_left_in_words(seconds, words):
    assert roughly(seconds) == words


DOCS = Path(__file__).resolve().parents[2] / "docs"
COMMANDS = typer.main.get_command(studies).commands


PAPERS = ["transferability", "gain", "depth"]
"""The two papers' experiments: trained from the same kind of recipe, with repeats."""


def test_the_studies():
    assert list(COMMANDS) == [*PAPERS, "heads", "baselines", "search", "ensemble"]


def test_flags_of_several_studies_are_explained():
    each = {n: {o for p in c.params for o in p.opts if o[:2] == "--"} for n, c in COMMANDS.items()}
    assert {
        "--recipe",
        "--workers",
        "--repeats",
        "--epochs",
        "--quick",
        "--out",
    } <= set.intersection(*(each[name] for name in PAPERS))
    counts = Counter(flag for flags_of in each.values() for flag in flags_of)
    shared = {flag for flag, count in counts.items() if count >= len(PAPERS)} - {"--help"}
    said = "".join((DOCS / f"{name}.md").read_text() for name in ("studies", "data", "fit"))
    assert {flag for flag in shared if f"`{flag}" not in said} == set()


def test_the_recipe_of_the_documentation_is_one(write, capsys):
    (text,) = re.findall(r"```toml\n(.*?)```", (DOCS / "studies.md").read_text(), re.S)
    words = re.match(r"# layerwise (study \w+) --recipe", text)[1].split()
    assert main([*words, "--recipe", write(text), "--help"]) == 0
    capsys.readouterr()
    known = tomllib.loads(text)
    assert from_mapping(Recipe, known["training"], "docs").batch == known["training"]["batch"]


def played(show):
    """A study of five: one found, one made in 30 s, one failed, one half done, one left."""
    now = [0.0]
    board = Board(show, clock=lambda: now[0])
    board.expect({"base": 2, "AnB to [conv1]": 3})
    board.started(0, "base", "base A")
    board.finished(0, 77.0, found=True)
    board.started(1, "base", "base B")
    now[0] = 30.0
    board.finished(1, 30.0, found=False)
    board.started(2, "AnB to [conv1]", "AnB to [conv1], seed 0")
    board.finished(2, 0.0, found=False, failed=True)
    board.started(3, "AnB to [conv1]", "AnB to [conv1], seed 1")
    board.progress(3, 0, 10)
    now[0] = 180.0
    board.progress(3, 5, 10)
    return board, now


def test_a_line_for_each_run_without_a_terminal(capsys):
    board, now = played(study_board(Output())._show)
    now[0] = 330.0
    board.finished(3, 300.0, found=False)
    board.started(4, "AnB to [conv1]", "AnB to [conv1], seed 2")
    board.finished(4, 0.0, found=True)
    found = "1 found finished"
    assert capsys.readouterr().err.splitlines() == [
        f"2 of 5 runs done ({found}), about 90 s left: base B",
        "AnB to [conv1], seed 0 failed",
        f"3 of 5 runs done ({found}, 1 failed), about 60 s left: AnB to [conv1], seed 0",
        f"4 of 5 runs done ({found}, 1 failed), about 5 min left: AnB to [conv1], seed 1",
        "5 of 5 runs done (2 found finished, 1 failed)",
    ]


def test_quiet_shows_nothing(capsys):
    board = study_board(Output(quiet=True))
    board.expect({"a": 1})
    board.started(0, "a", "a")
    board.finished(0, 1.0, found=False)
    assert capsys.readouterr().err == ""


def test_the_table_in_text():
    from rich.console import Console

    board, _ = played(None)
    console = Console(file=io.StringIO(), width=100)
    console.print(table(board))
    lines = [line.split() for line in console.file.getvalue().splitlines()]
    assert lines[0] == ["treatment", "done", "running", "left"]
    assert lines[1] == ["base", "2", "0", "0"]
    assert lines[2] == ["AnB", "to", "[conv1]", "1", "1", "1"]
    assert len(lines[3]) == 1 and " ".join(lines[4]) == state(board)
    assert state(board).endswith("1 running, about 8 min left")  # 150 s of it, and 300 s of another
    assert lines[5][1:] == ["50%", "AnB", "to", "[conv1],", "seed", "1"]


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_the_live_table_goes_and_leaves_one_line(monkeypatch):
    shown = Terminal()
    monkeypatch.setattr("sys.stderr", shown)
    monkeypatch.setenv("TERM", "xterm")
    output = Output()
    board = study_board(output)
    assert isinstance(board._show.__self__, LiveTable)
    board.expect({"a": 2})
    assert Bar.shown is board._show.__self__
    output.warn("above [it]")
    board.started(0, "a", "run 0")
    board.finished(0, 1.0, found=False)
    output.track("decoding")(1, 3)  # takes the place
    assert not isinstance(Bar.shown, LiveTable)
    board.started(1, "a", "run 1")
    assert isinstance(Bar.shown, LiveTable)
    board.finished(1, 1.0, found=False)
    assert Bar.shown is None
    said = shown.getvalue()
    assert "above [it]" in said and said.splitlines()[-1].endswith("2 of 2 runs done")
    assert "treatment" in said


def test_lines_are_what_is_shown_without_a_terminal():
    assert isinstance(study_board(Output())._show.__self__, Lines) and live._SHOWN > 1
