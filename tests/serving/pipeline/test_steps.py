"""Steps by the keys of their inputs: what is done is not done again, whatever ends a run."""

import fcntl
import json
import os
from pathlib import Path

import pytest

from layerwise.config import content_key
from layerwise.errors import LayerwiseError, OutputError
from layerwise.serving.pipeline import steps as module
from layerwise.serving.pipeline.steps import Pipeline, Refusal, Step


class Line:
    """Three steps, each of which adds its own value to what came before; counts what it does."""

    names = ("one", "two", "three")

    def __init__(self, out: Path) -> None:
        self.out = out
        self.values = {"one": 1, "two": 20, "three": 300}
        self.ran: list[str] = []
        self.folders: list[str] = []
        self.error: dict[str, BaseException] = {}
        self.gone: set[str] = set()

    def pipeline(self) -> Pipeline:
        return Pipeline([self.step(i, name) for i, name in enumerate(self.names)], self.out)

    def step(self, i: int, name: str) -> Step:
        def inputs(found):
            before = found[self.names[i - 1]]["sum"] if i else 0
            return {"before": str(before), "value": str(self.values[name])}

        def run(folder, found):
            self.ran.append(name)
            self.folders.append(folder.name)
            folder.mkdir(exist_ok=True)
            if name in self.error:
                raise self.error.pop(name)
            return {"sum": (found[self.names[i - 1]]["sum"] if i else 0) + self.values[name]}

        return Step(name, inputs, run, lambda results: name not in self.gone)

    def go(self, force=None, keep=0):
        """What ran in one more run of the command."""
        self.ran, self.folders = [], []
        work = self.pipeline()
        planned = work.plan(force)
        sure = [p.name for p in planned if p.run]
        possible = [p.name for p in planned if p.run is not False]
        try:
            work.run(lambda line: None, force, keep)
        finally:
            # the dry run was right: what it is sure of was done, and nothing it ruled out
            assert self.ran[: len(sure)] == sure and set(self.ran) <= set(possible)
        return self.ran

    def results(self):
        state = json.loads((self.out / "pipeline.json").read_text())
        return {name: record["results"].get("sum") for name, record in state["steps"].items()}


@pytest.fixture
def line(tmp_path):
    return Line(tmp_path / "out")


SUMS = {"one": 1, "two": 21, "three": 321}


def test_all_steps_run_once_and_the_second_time_none(line):
    assert line.go() == ["one", "two", "three"]
    assert line.results() == SUMS
    before = (line.out / "pipeline.json").read_bytes()
    assert line.go() == []
    assert (line.out / "pipeline.json").read_bytes() == before


def test_the_key_is_that_of_the_inputs_and_names_the_folder(line):
    line.go()
    record = line.pipeline().state()["two"]
    assert record["key"] == content_key({"before": "1", "value": "20"})
    assert line.folders[1] == record["folder"] == f"two-{record['key'][:12]}"
    assert record["state"] == "done" and record["seconds"] >= 0


def test_a_changed_input_runs_its_step_and_those_whose_inputs_change_by_it(line):
    line.go()
    line.values["two"] = 21
    assert line.pipeline().plan()[1].why == "changed since it was run: value"
    assert line.go() == ["two", "three"]
    assert line.results() == {"one": 1, "two": 22, "three": 322}
    # one and two change, and what three sees does not
    line.values |= {"one": 2, "two": 20}
    assert line.go() == ["one", "two"]


def test_a_result_that_is_gone_is_made_again(line):
    line.go()
    line.gone = {"two"}
    assert line.pipeline().plan()[1].why == "what it made is gone"
    assert line.go() == ["two"]


@pytest.mark.parametrize("name", Line.names)
@pytest.mark.parametrize("error", [KeyboardInterrupt(), LayerwiseError("no"), MemoryError()])
def test_a_step_that_was_cut_off_runs_again_in_its_folder(line, name, error):
    line.error[name] = error
    with pytest.raises(type(error)):
        line.go()
    cut = line.folders[-1]
    at = Line.names.index(name)
    assert line.go() == list(Line.names[at:])
    assert line.folders[0] == cut
    assert line.results() == SUMS


def test_killed_at_any_write_the_same_command_ends_the_same(tmp_path, monkeypatch):
    """A kill is between two writes of the state, or in one, which then has not happened."""

    class Killed(BaseException):
        pass

    real = module.write_json
    for kill in range(1, 7):  # two writes a step
        line = Line(tmp_path / str(kill))
        count = 0

        def write(path, value, kill=kill):
            nonlocal count
            count += 1
            if count == kill:
                raise Killed
            real(path, value)

        monkeypatch.setattr(module, "write_json", write)
        with pytest.raises(Killed):
            line.pipeline().run(lambda text: None)
        first = list(line.ran)
        monkeypatch.setattr(module, "write_json", real)
        second = line.go()
        assert line.results() == SUMS
        # a step is done twice only if the kill fell between its end and its record
        assert sorted(first + second) == sorted([*Line.names, *([] if kill % 2 else first[-1:])])


def test_a_refusal_is_remembered_with_its_reason_and_its_code(line):
    line.error["two"] = Refusal("worse", {"sum": 5}, 7)
    with pytest.raises(Refusal, match="worse") as caught:
        line.go()
    assert caught.value.exit_code == 7 and line.ran == ["one", "two"]
    with pytest.raises(Refusal, match="worse") as caught:  # nothing is looked at again
        line.go()
    assert caught.value.exit_code == 7 and caught.value.results == {"sum": 5} and line.ran == []
    assert [p.run for p in line.pipeline().plan()] == [False, False]
    assert line.go(force="two") == ["two", "three"]
    assert line.results() == SUMS


def test_forced_steps_run_in_new_folders_and_once(line):
    line.go()
    before = list(line.folders)
    assert line.go(force="two") == ["two", "three"]
    assert not set(line.folders) & set(before)
    assert line.go() == []
    assert line.go(force="two") == ["two", "three"]  # asked for again, done again
    with pytest.raises(LayerwiseError, match="--from four: no such step here; it is one of one"):
        line.go(force="four")


@pytest.mark.parametrize("command", [None, "two"])
@pytest.mark.parametrize("name", ["two", "three"])
def test_what_was_forced_and_cut_off_goes_on(line, name, command):
    """With the same command, and without --from too."""
    line.go()
    line.error[name] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        line.go(force="two")
    cut = line.folders[-1]
    assert line.go(force=command) == (["two", "three"] if name == "two" else ["three"])
    assert line.folders[0] == cut
    assert line.go() == []


def test_old_folders_are_removed_and_never_the_one_that_counts(line):
    for value in range(5):
        line.values["one"] = value
        line.go(keep=2)
        newest = line.folders[0]
        os.utime(line.out / newest, (value, value))  # the clock of the file system may be coarse
    left = sorted(p.name for p in line.out.iterdir() if p.name.startswith("one-"))
    assert len(left) == 2 and newest in left
    line.values["one"] = 3  # back to an older one, whose folder is the oldest
    assert line.go(keep=1)[0] == "one"
    left = [p.name for p in line.out.iterdir() if p.name.startswith("one-")]
    assert line.folders[0] in left


def test_two_at_a_time_are_refused(line):
    line.go()
    with (line.out / ".lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(OutputError, match="another `layerwise pipeline` works here"):
            line.go()
    assert line.go() == []


@pytest.mark.parametrize("content", ["[]", '{"format": 2}', '{"format": 1, "steps": 3}', "{"])
def test_a_state_that_is_none_is_refused(line, content):
    line.out.mkdir()
    (line.out / "pipeline.json").write_text(content)
    with pytest.raises(LayerwiseError, match=r"pipeline\.json"):
        line.pipeline().run(lambda text: None)
