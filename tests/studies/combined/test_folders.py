"""Which runs are meant by a folder."""

import json

import pytest

from layerwise.errors import LayerwiseError
from layerwise.studies.combined.folders import run_folders


def run(out, name, data="a", kind="trained", finished=True, size=32):
    folder = out / "runs" / name
    folder.mkdir(parents=True)
    settings = {"name": name, "kind": kind, "data": data, "image_size": [size, size]}
    (folder / "run.json").write_text(json.dumps(settings))
    if finished:
        (folder / "result.json").write_text("{}")
    return folder


def names(folders):
    return [folder.name for folder in folders]


def test_a_study_s_finished_networks_on_the_data_of_its_plan(tmp_path):
    for number in range(3):
        run(tmp_path, f"few{number}", data="a tenth")
    run(tmp_path, "one")
    run(tmp_path, "two", kind="probe")
    run(tmp_path, "forest", kind="floor")
    run(tmp_path, "stopped", finished=False)
    (tmp_path / "plan.json").write_text(json.dumps({"study": "gain", "setup": {"data_key": "a"}}))
    for path in (tmp_path, tmp_path / "runs"):
        found, notes = run_folders([path])
        assert names(found) == ["one", "two"]
        assert "3 of 5 runs" in notes[0]
        assert "1 of 6 runs" in notes[1] and "no network" in notes[1]
    (tmp_path / "plan.json").unlink()
    assert names(run_folders([tmp_path])[0]) == ["few0", "few1", "few2"]


def test_runs_and_folders_together_each_once(tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    one, two, three = run(a, "one"), run(a, "two"), run(b, "three")
    found, notes = run_folders([three, a, one])
    assert found == [three, one, two] and notes == []


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda out: [out / "gone"], "gone: no such folder"),
        (lambda out: [out], "no finished run with a network"),
        (lambda out: [run(out, "one")], "one run.*two or more"),
        (lambda out: [run(out, "one"), out], "one run.*two or more"),
    ],
)
def test_what_is_no_ensemble_is_refused(tmp_path, make, message):
    with pytest.raises(LayerwiseError, match=message):
        run_folders(make(tmp_path))
