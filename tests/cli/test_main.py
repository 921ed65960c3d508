"""How the program ends: exit codes, one message and no traceback, a quick start."""

import errno
import io
import json
import os
import signal
import subprocess
import sys

import pytest
import typer

from layerwise import __version__
from layerwise.cli import main as program
from layerwise.cli.main import main
from layerwise.cli.output import Bar, Output
from layerwise.errors import DataError, LeakError


@pytest.fixture
def failing(monkeypatch):
    """Replace the commands by one, `go`, that raises what the test wants."""

    def install(error):
        app = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None)

        @app.callback()
        def start():
            """A group, so that `go` keeps its name."""

        @app.command()
        def go(out: str = "", number: int = 0):
            if error is not None:
                raise error

        monkeypatch.setattr(program, "app", app)

    return install


def full(code, name=None):
    return OSError(code, os.strerror(code), name)


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (DataError("pics/a.png: damaged; replace it"), 2, "layerwise: pics/a.png: damaged"),
        (LeakError("patient 7 is in train and test"), 3, "patient 7"),
        (KeyboardInterrupt(), 130, "interrupted; run the same command again to go on"),
        (full(errno.ENOSPC, "runs/x"), 2, "runs/x: can not be written, the disk is full"),
        (full(errno.ENOSPC), 2, "my-out: can not be written, the disk is full"),
        (full(errno.EROFS, "/media/cd"), 2, "/media/cd: can not be written, the file system"),
        (full(errno.EACCES, "/root/x"), 2, "/root/x: can not be written, permission denied"),
        (ModuleNotFoundError(name="torch"), 2, "needs torch, which is not installed here"),
        (typer.Exit(3), 3, ""),
        (None, 0, ""),
    ],
)
@pytest.mark.parametrize("flag", [["--out", "my-out"], ["--out=my-out"]])
def test_every_failure_has_its_code_and_one_message(failing, capsys, error, code, message, flag):
    failing(error)
    assert main(["go", *flag]) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert message in printed.err
    assert len(printed.err.splitlines()) == (1 if message else 0)


def test_a_defect_keeps_its_traceback(failing):
    gone = ModuleNotFoundError(name="layerwise.nowhere")
    for error in (RuntimeError("a defect"), full(errno.EBADF), gone):
        failing(error)
        with pytest.raises(type(error)):
            main(["go"])


@pytest.mark.parametrize("words", [["go", "--nope"], ["nope"], ["go", "--number", "x"]])
def test_wrong_usage_is_2(failing, capsys, words):
    failing(None)
    assert main(words) == 2
    assert words[-1] in capsys.readouterr().err or "--number" in words


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"layerwise {__version__}\n"


def test_a_mistyped_command_is_answered_with_the_right_one(capsys):
    assert main(["predct"]) == 2
    assert "Did you mean 'predict'" in capsys.readouterr().err


def test_an_interrupt_from_the_keyboard():
    """A real SIGINT in a real process, while a command works."""
    code = (
        "import signal, sys, time, typer\n"
        # Whoever runs the tests in the background has SIGINT ignored, and its children too.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from layerwise.cli import main as program\n"
        "@program.app.command()\n"
        "def wait():\n"
        "    print('ready', flush=True)\n"
        "    time.sleep(60)\n"
        "sys.exit(program.main(['wait']))\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err == "layerwise: interrupted; run the same command again to go on\n"


def test_what_json_and_quiet_let_through(capsys):
    def everything(output):
        output.say("said")
        output.warn("warned")
        output.text("text")
        output.result({"value": float("nan"), "list": (1, 2.5), "deep": {"x": float("inf")}})
        return capsys.readouterr()

    assert everything(Output()) == ("text\n", "said\nwarned\n")
    assert everything(Output(quiet=True)) == ("text\n", "warned\n")
    out, err = everything(Output(json=True))
    assert json.loads(out) == {"value": None, "list": [1, 2.5], "deep": {"x": None}}
    assert err == "said\nwarned\n"


class Terminal(io.StringIO):
    """Standard error as if a person looked at it."""

    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    """Called inside the test: between its phases pytest puts its own files there."""

    def look():
        screen = Terminal()
        monkeypatch.setattr(sys, "stderr", screen)
        monkeypatch.setenv("TERM", "xterm")
        return screen

    yield look
    Bar.close()


def test_the_bar_shows_messages_above_it(terminal, capsys):
    screen = terminal()
    output = Output()
    show = output.track("working [on] it")
    assert screen.getvalue() == ""
    show(1, 2)
    output.say("a path [with] brackets")
    show(2, 2)
    assert Bar.shown is None
    assert "working [on] it" in screen.getvalue() and "2/2" in screen.getvalue()
    assert "a path [with] brackets" in screen.getvalue()
    assert capsys.readouterr().out == ""


def test_the_next_bar_and_a_result_end_the_one_before(terminal, capsys):
    screen = terminal()
    output = Output()
    first, second = output.track("first"), output.track("second")
    first(1, 3)
    second(1, 2)
    first(2, 3)  # goes on after an inner one
    assert "first" in screen.getvalue() and "second" in screen.getvalue()
    output.text("result")
    assert Bar.shown is None
    assert capsys.readouterr().out == "result\n"


def test_no_bar_for_what_is_there_already_nor_when_quiet_nor_in_a_log(terminal, capsys):
    screen = terminal()
    Output().track("full")(5, 5)
    Output(quiet=True).track("quiet")(1, 2)
    screen.isatty = lambda: False
    Output().track("log")(1, 2)
    assert screen.getvalue() == ""


def test_an_error_ends_the_bar_before_its_message(failing, terminal):
    screen = terminal()
    failing(DataError("no such thing"))
    Output().track("working")(1, 2)
    assert main(["go"]) == 2
    assert Bar.shown is None
    assert screen.getvalue().endswith("layerwise: no such thing\n")
