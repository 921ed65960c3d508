"""Runs in several processes: the bits of one, each once, and what happens when one is killed."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from layerwise.errors import LayerwiseError
from layerwise.studies.board import Board
from layerwise.studies.engine import Engine, Planned
from layerwise.studies.study import RunStore
from layerwise.studies.trained import rebuild, test_logits, train
from layerwise.training import loop
from layerwise.training.recipe import Recipe
from layerwise.training.transfer import Transfer

RECIPE = Recipe(epochs=2, batch=12, lr=3e-3)
BASE = Transfer("none", copy="none")
predict = test_logits  # pytest would take the other name for a test
del test_logits


def plan(transfer: Transfer = BASE, seed: int = 0, **more: object) -> Planned:
    return Planned("task", "any", transfer, replace(RECIPE), seed, **more)  # type: ignore[arg-type]


def engine(work, workers: int = 1) -> Engine:  # type: ignore[no-untyped-def]
    return Engine({"task": work}, workers=workers, board=Board())


def test_several_processes_give_the_bits_of_one(workspace, tmp_path):
    apart = workspace(threads=2, out=tmp_path / "apart", cache=tmp_path / "one cache")
    alone = workspace(out=tmp_path / "alone", cache=tmp_path / "another cache")
    done = {}
    for work, workers in ((apart, 2), (alone, 1)):
        study = engine(work, workers)
        (base,) = study.run([plan()])
        frozen = Transfer("base", copy="conv2", freeze="conv2")
        done[workers] = [base, *study.run([plan(frozen, s, source=base.run) for s in (0, 1)])]
    for one, other in zip(done[1], done[2], strict=True):
        assert one.run.id == other.run.id
        for part in ("validation", "test"):
            a, b = (
                d.outcome.validation if part == "validation" else d.outcome.parts[part]
                for d in (one, other)
            )
            np.testing.assert_array_equal(a.scores, b.scores)
        mine = RunStore(tmp_path / "alone/runs").weights_of(one.run)
        theirs = RunStore(tmp_path / "apart/runs").weights_of(other.run)
        assert mine.keys() == theirs.keys()
        assert all((mine[name] == theirs[name]).all() for name in mine)
    # the copied layers are the base's, to the bit; what learns is not
    base, frozen = (RunStore(tmp_path / "alone/runs").weights_of(d.run) for d in done[1][:2])
    assert (base["conv1.weight"] == frozen["conv1.weight"]).all()
    assert not (base["fc1.weight"] == frozen["fc1.weight"]).all()


def test_what_is_kept_of_the_test_part_is_what_the_network_says(workspace):
    work = workspace()
    (done,) = engine(work).run([plan(parts=("test", "train"))])
    network = rebuild(work, BASE, work.runs.find(done.run))
    for part in ("test", "train"):
        rows = work.rows(part)
        logits = predict(work, network, rows)
        said = done.outcome.parts[part]
        np.testing.assert_allclose(said.scores[:, 0], 1 / (1 + np.exp(-logits[:, 0])), atol=1e-6)
        np.testing.assert_array_equal(said.targets, work.manifest.targets[rows])


def test_equal_runs_are_one_and_finished_ones_are_not_repeated(workspace, monkeypatch):
    work, trained = workspace(), []
    real = loop.fit
    monkeypatch.setattr(
        "layerwise.studies.trained.fit", lambda *a, **k: trained.append(1) or real(*a, **k)
    )
    board = Board()
    board.expect({"any": 3})
    study = Engine({"task": work}, workers=1, board=board)
    first = study.run([plan(), plan(seed=1), plan()])
    assert len(trained) == 2
    assert first[0].run.id == first[2].run.id != first[1].run.id
    assert first[0].outcome.seconds == first[2].outcome.seconds
    assert board.rows() == [("any", 3, 0, 0)]
    engine(work).run([plan(seed=1), plan()])
    assert len(trained) == 2


def test_a_run_that_another_study_has_finished_is_taken_over(workspace, tmp_path, monkeypatch):
    shared = tmp_path / "cache"
    one = workspace(out=tmp_path / "one", cache=shared, shared=True)
    (first,) = engine(one).run([plan()])
    assert not first.taken
    monkeypatch.setattr("layerwise.studies.trained.fit", None)  # nothing is trained from here on
    other = workspace(out=tmp_path / "other", cache=shared, shared=True)
    (found,) = engine(other).run([plan()])
    assert found.taken and found.run.id == first.run.id
    np.testing.assert_array_equal(found.outcome.validation.scores, first.outcome.validation.scores)
    (again,) = engine(other).run([plan()])
    assert again.taken  # also when the command is repeated
    # what the other folder's run is asked for later is not the first folder's
    other.runs.add_part(found.run, "train", found.outcome.validation)
    assert not (tmp_path / "one/runs" / first.run.id / "train.npz").exists()


def test_a_study_without_sharing_finds_only_its_own_runs(workspace, tmp_path):
    engine(workspace(out=tmp_path / "one", shared=True)).run([plan()])
    assert workspace(out=tmp_path / "two").runs.find(engine(workspace()).run_of(plan())) is None


def test_a_loss_that_is_no_number_fails_its_run_alone(workspace):
    lost = replace(plan(), recipe=replace(RECIPE, lr=1e30))
    failed, good = engine(workspace()).run([lost, plan()])
    assert failed.outcome is None and "lower lr in the recipe" in failed.failure
    assert good.outcome is not None and not good.failure


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_given_weights_do_not_hold_a_file_open_each(workspace):
    work = workspace(threads=2)
    weights = {f"layer{i}.weight": torch.full((3,), float(i)) for i in range(300)}
    weights |= work.blank().module.state_dict()
    study = engine(replace(work, weights=weights, weights_digest="given"), 2)
    (done,) = study.run([plan(Transfer("given", copy="conv2", freeze="conv2"))])
    first = work.blank().module.state_dict()["conv1.weight"]
    assert (work.runs.weights_of(done.run)["conv1.weight"] == first).all()  # it has them
    assert len(os.listdir(f"/proc/{study._workers[0].process.pid}/fd")) < 100


@pytest.mark.slow
def test_a_killed_worker_is_an_error_that_says_what_to_do(workspace):
    work = workspace(threads=2)
    study = engine(work, 2)
    long = replace(plan(), recipe=replace(RECIPE, epochs=2000))

    class Murderer(Board):
        def progress(self, index: int, done: int, total: int) -> None:
            os.kill(study._workers[0].process.pid, signal.SIGKILL)

    study._board = Murderer()
    with pytest.raises(LayerwiseError, match="ended with code -9.*fewer --workers"):
        study.run([long])


STUDY = """
    import sys
    from pathlib import Path
    from layerwise.studies.board import Board
    from layerwise.studies.engine import Engine, Planned
    from layerwise.studies.prepare import Request, prepare
    from layerwise.training.recipe import Recipe
    from layerwise.training.transfer import Transfer

    if __name__ == "__main__":
        out = Path(sys.argv[2])
        request = Request(sys.argv[1], out, out / "cache", model="lenet5", weights="none",
                          image_size=32, threads=2)
        work = prepare(request, lambda _: None, lambda _: lambda a, b: None, lambda *_: 32).work
        plans = [Planned("task", "any", Transfer("none", copy="none"),
                         Recipe(epochs=100000, batch=12), seed) for seed in (0, 1)]

        class Told(Board):
            def progress(self, index, done, total):
                print("step", study._workers[0].process.pid, study._workers[1].process.pid,
                      flush=True)

        study = Engine({"task": work}, workers=2, board=Told())
        study.run(plans)
"""


def alive(process: int) -> bool:
    """Whether a process runs; one that has ended and is not collected yet does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_no_worker_survives_a_killed_study(data_file, tmp_path):
    script = tmp_path / "study.py"
    script.write_text(textwrap.dedent(STUDY))
    words = [sys.executable, str(script), str(data_file("binary")), str(tmp_path / "out")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        workers = [int(word) for word in process.stdout.readline().split()[1:]]
        assert len(workers) == 2 and all(alive(worker) for worker in workers)
        process.kill()
    deadline = time.monotonic() + 20
    while any(alive(worker) for worker in workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(alive(worker) for worker in workers)


def test_a_run_is_trained_as_train_would(workspace, tmp_path):
    work = workspace()
    (done,) = engine(work).run([plan(seed=3)])
    other = replace(workspace(out=tmp_path / "other"), seed=3)
    outcome = train(other, BASE, RECIPE, check=False)
    assert outcome.run.id == done.run.id
    np.testing.assert_array_equal(outcome.validation.scores, done.outcome.validation.scores)
