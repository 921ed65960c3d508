"""Steps in order, each with a key made of its inputs: a step whose key is done is not run again.

`pipeline.json` is replaced whole before and after every step. A step that was cut off runs again
in the same folder, so whatever it had done by then it finds there.
"""

import fcntl
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from layerwise import __version__
from layerwise.config import content_key, read_json, write_json
from layerwise.errors import LayerwiseError, OutputError

STATE = "pipeline.json"
LOCK = ".lock"
FORMAT = 1
DONE, REFUSED = "done", "refused"
Found = dict[str, dict[str, Any]]
"""What each step before found out, by its name."""


class Refusal(LayerwiseError):
    """A step refuses to let the pipeline go on: the data leak, or the new bundle is worse.

    It is a result like any other: the same inputs are refused again without being looked at.
    """

    def __init__(self, message: str, results: dict[str, Any], exit_code: int) -> None:
        """Say why, what the step found, and what the command exits with."""
        super().__init__(message)
        self.results, self.exit_code = results, exit_code


@dataclass(frozen=True)
class Step:
    """One step.

    Attributes:
        name: What it is called.
        inputs: Its inputs by what they are called ("data", "code"), each as a digest, given what
            the steps before it found.
        run: Does it, in a folder of its own, and gives what it found out, JSON-able.
        whole: Whether what it found out, as given, is still there.
    """

    name: str
    inputs: Callable[[Found], dict[str, str]]
    run: Callable[[Path, Found], dict[str, Any]]
    whole: Callable[[dict[str, Any]], bool] = lambda results: True


@dataclass(frozen=True)
class Planned:
    """What would be done about a step, and why.

    Attributes:
        name: The step.
        run: Whether it would be run; None where that depends on what a step before it finds.
        why: In words.
    """

    name: str
    run: bool | None
    why: str


class Pipeline:
    """Steps, and the folder in which they are done.

    Attributes:
        done: What the last `run` has done about each step it came to, and why.
    """

    def __init__(self, steps: Sequence[Step], out: Path) -> None:
        """Nothing is read or written yet."""
        self._steps, self._out = steps, out
        self.done: list[Planned] = []

    def plan(self, force: str | None = None) -> list[Planned]:
        """What `run` would do.

        Args:
            force: The step from which on everything is done again.
        """
        state = self._read()
        forced = self._forced(state, force)
        planned: list[Planned] = []
        found: Found = {}
        waiting = ""
        for step in self._steps:
            if waiting:
                planned.append(Planned(step.name, None, f"depends on {waiting}"))
                continue
            why = self._reason(step, step.inputs(found), state, forced)
            if not why and state["steps"][step.name]["state"] == REFUSED:
                planned.append(Planned(step.name, False, "it refused, and nothing has changed"))
                return planned
            planned.append(Planned(step.name, bool(why), why or "nothing has changed"))
            if why:
                waiting = step.name
            else:
                found[step.name] = state["steps"][step.name]["results"]
        return planned

    def run(self, say: Callable[[str], None], force: str | None = None, keep: int = 0) -> None:
        """Do what has to be done, or go on with it.

        Args:
            say: Told what is done, a line each.
            force: The step from which on everything is done again.
            keep: How many folders of each step stay; 0: all.

        Raises:
            Refusal: A step refuses to let it go on.
            LayerwiseError: A step failed, or another process works in the folder.
        """
        self.done = []
        with self._locked():
            state = self._read()
            state["force"] = sorted(self._forced(state, force))
            found: Found = {}
            for step in self._steps:
                inputs = step.inputs(found)
                why = self._reason(step, inputs, state, set(state["force"]))
                self.done.append(Planned(step.name, bool(why), why or "nothing has changed"))
                say(f"{step.name}: {why or 'nothing has changed'}")
                if why:
                    self._do(step, inputs, state, found)
                    self._sweep(step.name, state, keep)
                record = state["steps"][step.name]
                if record["state"] == REFUSED:
                    raise Refusal(record["message"], record["results"], record["exit_code"])
                found[step.name] = record["results"]

    def state(self) -> dict[str, Any]:
        """What is known of each step, by its name, in their order."""
        steps = self._read()["steps"]
        return {step.name: steps[step.name] for step in self._steps if step.name in steps}

    def _do(self, step: Step, inputs: dict[str, str], state: dict[str, Any], found: Found) -> None:
        """Run one step and write down how it ended."""
        before = state["steps"].get(step.name, {})
        again = before.get("again", 0) if before.get("inputs") == inputs else 0
        if step.name in state["force"]:
            going_on = before.get("forced", False) and before.get("state") not in (DONE, REFUSED)
            again = before.get("again", 0) + (0 if going_on else 1)
        key = content_key({**inputs, "again": str(again)} if again else inputs)
        record: dict[str, Any] = {
            "state": "running",
            "key": key,
            "inputs": inputs,
            "again": again,
            "forced": step.name in state["force"],
            "folder": f"{step.name}-{key[:12]}",
            "seconds": None,
            "results": {},
            "message": None,
        }
        state["steps"][step.name] = record
        self._write(state)
        started = time.monotonic()
        try:
            record["results"] = step.run(self._out / record["folder"], found)
            record["state"] = DONE
        except Refusal as refusal:
            record |= {"state": REFUSED, "results": refusal.results, "message": str(refusal)}
            record["exit_code"] = refusal.exit_code
        except LayerwiseError as error:
            record["state"], record["message"] = "failed", str(error)
            raise
        except KeyboardInterrupt:
            record["state"] = "interrupted"
            raise
        finally:  # any other error is a defect: the step stays "running", as after a kill
            if record["state"] in (DONE, REFUSED):
                state["force"] = [name for name in state["force"] if name != step.name]
            record["seconds"] = round(time.monotonic() - started, 2)
            self._write(state)

    def _reason(
        self, step: Step, inputs: dict[str, str], state: dict[str, Any], forced: set[str]
    ) -> str:
        """Why a step has to be run; "" if it has not."""
        record = state["steps"].get(step.name)
        if record is None:
            return "it was never run"
        changed = [name for name in inputs if record["inputs"].get(name) != inputs[name]]
        changed += [name for name in record["inputs"] if name not in inputs]
        if changed:
            return f"changed since it was run: {', '.join(changed)}"
        if record["state"] not in (DONE, REFUSED):
            ended = {"failed": "failed", "interrupted": "was interrupted"}
            return f"the last time it {ended.get(record['state'], 'was cut off')}"
        if step.name in forced:
            return "--from asks for it"
        if record["state"] == DONE and not step.whole(record["results"]):
            return "what it made is gone"
        return ""

    def _forced(self, state: dict[str, Any], force: str | None) -> set[str]:
        """The steps that are run although nothing has changed: what is left of those asked for."""
        left = set(state.get("force", []))
        if force is None:
            return left
        names = [step.name for step in self._steps]
        if force not in names:
            raise LayerwiseError(
                f"--from {force}: no such step here; it is one of {', '.join(names)}"
            )
        wanted = set(names[names.index(force) :])
        # The same command again after a kill goes on with what it has left.
        return left if left and left <= wanted else wanted

    def _sweep(self, name: str, state: dict[str, Any], keep: int) -> None:
        """Remove a step's oldest folders, never the one that counts."""
        if not keep:
            return
        ours = re.compile(rf"{re.escape(name)}-[0-9a-f]{{12}}")
        folders = [p for p in self._out.iterdir() if p.is_dir() and ours.fullmatch(p.name)]
        folders.sort(key=lambda folder: folder.stat().st_mtime)
        for folder in folders[:-keep]:
            if folder.name != state["steps"][name]["folder"]:
                shutil.rmtree(folder, ignore_errors=True)

    def _read(self) -> dict[str, Any]:
        path = self._out / STATE
        if not path.is_file():
            return {"format": FORMAT, "force": [], "steps": {}}
        state: dict[str, Any] = read_json(path)
        known = isinstance(state, dict) and state.get("format") == FORMAT
        if not known or not isinstance(state.get("steps"), dict):
            raise OutputError(
                f"{path} is not what this version of Layerwise ({__version__}) writes; name "
                "another --out"
            )
        return state

    def _write(self, state: dict[str, Any]) -> None:
        order = [step.name for step in self._steps]
        rest = [name for name in state["steps"] if name not in order]
        steps = {n: state["steps"][n] for n in (*order, *rest) if n in state["steps"]}
        write_json(self._out / STATE, {**state, "layerwise": __version__, "steps": steps})

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """The kernel's lock on the folder: it ends with its process, however that ends."""
        self._out.mkdir(parents=True, exist_ok=True)
        lock = os.open(self._out / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise OutputError(
                    f"{self._out}: another `layerwise pipeline` works here; wait until it has "
                    "ended, or name another --out"
                ) from error
            yield
        finally:
            os.close(lock)
