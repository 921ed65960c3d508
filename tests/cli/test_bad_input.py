"""Everything that a user can get wrong: an exit code, one message that helps, no traceback."""

import json
import os
import pickle
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from layerwise.cli.main import main

NEXT_STEPS = (
    "add",
    "check",
    "choose",
    "correct",
    "download",
    "fill",
    "get it again",
    "give",
    "keep one",
    "leave",
    "list",
    "make",
    "mend",
    "move",
    "name",
    "remove",
    "repeat",
    "replace",
    "save",
    "write",
    "are ",  # what there is: "its columns are …", "known are …"
    "known are",
    "data is a",
    "it is one of",
    "it must be",
    "expected a table of settings",
)


@pytest.fixture
def refused(capsys, tmp_path, fit_words):
    """Run a fit that must be refused; returns its one message."""

    def run(data, *more, code=2, out=None):
        assert main(fit_words(data, out or tmp_path / "out", *more)) == code
        printed = capsys.readouterr()
        assert printed.out == ""
        assert printed.err.startswith("layerwise: ") and printed.err.count("\nlayerwise: ") == 0
        assert "Traceback" not in printed.err
        assert any(step in printed.err.lower() for step in NEXT_STEPS), printed.err
        return printed.err

    return run


def table(root: Path, text: str) -> Path:
    path = root / "table.csv"
    path.write_text(text, encoding="utf-8")
    return path


def bomb(path: Path) -> None:
    """A PNG of a few bytes whose header claims 60,000 × 60,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    parts = [
        chunk(b"IHDR", header),
        chunk(b"IDAT", zlib.compress(b"\0" * 100)),
        chunk(b"IEND", b""),
    ]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


# The folder.


def test_no_such_folder(refused, tmp_path):
    assert "nowhere: no such file or folder" in refused(tmp_path / "nowhere")


def test_an_empty_folder(refused, tmp_path):
    folder = tmp_path / "empty"
    folder.mkdir()
    assert str(folder) in refused(folder)
    (folder / "a").mkdir()
    (folder / "b").mkdir()
    assert str(folder) in refused(folder)


def test_pictures_without_class_folders(refused, classes):
    assert "--labels" in refused(classes / "well")


def test_one_class_only(refused, classes):
    shutil.rmtree(classes / "ill")
    assert "only one class ('well')" in refused(classes)


def test_a_class_with_one_image(refused, classes):
    for path in sorted((classes / "ill").iterdir())[1:]:
        path.unlink()
    assert "class 'ill' has one image" in refused(classes)


def test_a_class_with_fewer_images_than_parts(refused, classes):
    for path in sorted((classes / "ill").iterdir())[2:]:
        path.unlink()
    assert "'ill'" in refused(classes)


@pytest.mark.parametrize("kind", ["zero bytes", "cut off", "text", "bomb", "unreadable"])
def test_one_damaged_image_is_named(refused, classes, kind):
    bad = classes / "ill" / "b9_99.png"
    whole = (classes / "ill" / "b0_0.png").read_bytes()
    if kind == "unreadable":  # a link to nowhere; root may read whatever its mode says
        bad.symlink_to(classes / "gone.png")
    elif kind == "bomb":
        bomb(bad)
    else:
        bad.write_bytes(
            {"zero bytes": b"", "cut off": whole[: len(whole) // 2]}.get(kind, b"hello")
        )
    message = refused(classes)
    assert str(bad) in message and "--skip-unreadable" in message
    assert "1 of 25" in message


def test_several_damaged_images_are_listed(refused, classes):
    bad = [classes / "well" / name for name in ("x.png", "y.jpg", "notes.txt")]
    for path in bad:
        path.write_bytes(b"no picture")
    message = refused(classes)
    assert all(str(path) in message for path in bad)


def test_nothing_but_damaged_images(refused, classes):
    for path in classes.rglob("*.png"):
        path.write_bytes(b"")
    assert "24 of 24" in refused(classes, "--skip-unreadable")


def test_too_few_images_are_left(refused, classes):
    """What --skip-unreadable leaves over must still be a task."""
    for path in (classes / "ill").iterdir():
        path.write_bytes(b"")
    assert "'ill'" in refused(classes, "--skip-unreadable")


def test_a_picture_with_a_wrong_ending_is_read_by_its_content(classes):
    from layerwise.data.pictures.images import decode

    wrong = classes / "ill" / "really_a_png.jpg"
    shutil.copy(classes / "ill" / "b0_0.png", wrong)
    assert (decode(wrong) == np.asarray(Image.open(classes / "ill" / "b0_0.png"))).all()


def test_leaks_are_3(refused, classes):
    """An image in train and test; and, named by a column, a patient in both."""
    for part in ("train", "test"):
        for label in ("well", "ill"):
            shutil.copytree(classes / label, classes / part / label)
    shutil.rmtree(classes / "well")
    shutil.rmtree(classes / "ill")
    message = refused(classes, code=3)
    assert "images are in both train and test" in message and "--allow-leaks" in message


def test_a_patient_in_two_parts_is_3(refused, classes):
    names = sorted(p.relative_to(classes).as_posix() for p in classes.rglob("*.png"))
    rows = [
        f"{name},{name.split('/')[0]},{name.split('/')[1].split('_')[0]},{part}"
        for name, part in zip(names, ["train", "val", "test"] * 8, strict=True)
    ]
    path = table(classes, "path,label,patient,split\n" + "\n".join(rows) + "\n")
    message = refused(path, code=3)
    assert "patients are in both" in message and "--allow-leaks" in message


# The table.


def rows_of(classes: Path) -> list[str]:
    names = sorted(p.relative_to(classes).as_posix() for p in classes.rglob("*.png"))
    return [f"{name},{name.split('/')[0]}" for name in names]


@pytest.mark.parametrize("value", ["", "nan", "NaN", "N/A"])
def test_labels_that_are_not_there(refused, classes, value):
    rows = rows_of(classes)
    rows[3] = rows[3].split(",")[0] + "," + value
    message = refused(table(classes, "\n".join(["path,label", *rows])))
    assert "'label'" in message and "lines 5" in message


def test_an_unknown_mark_of_many_labels(refused, classes):
    rows = [f"{row.split(',')[0]},{i % 2},{(i // 2) % 2}" for i, row in enumerate(rows_of(classes))]
    rows[0] = rows[0].rsplit(",", 1)[0] + ",maybe"
    path = table(classes, "\n".join(["path,cough,fever", *rows]))
    message = refused(path, "--label-column", "cough", "--label-column", "fever")
    assert "'fever'" in message and "line 2: maybe" in message


def test_a_label_that_nobody_has(refused, classes):
    rows = [f"{row.split(',')[0]},{i % 2},0" for i, row in enumerate(rows_of(classes))]
    path = table(classes, "\n".join(["path,cough,fever", *rows]))
    assert "'fever'" in refused(path, "--label-column", "cough", "--label-column", "fever")


@pytest.mark.parametrize("label", ["ill", "well"])
def test_duplicate_rows(refused, classes, label):
    rows = rows_of(classes)
    again = rows[0].split(",")[0] + "," + label
    message = refused(table(classes, "\n".join(["path,label", *rows, again])))
    assert "duplicate rows" in message and "lines 2 and 26" in message


@pytest.mark.parametrize("name", ["../secret.png", "/etc/passwd", "well/../../secret.png"])
def test_paths_that_leave_the_folder(refused, classes, name):
    shutil.copy(classes / "well" / "a0_0.png", classes.parent / "secret.png")
    rows = [*rows_of(classes), f"{name},ill"]
    message = refused(table(classes, "\n".join(["path,label", *rows])))
    assert "leave the data folder" in message and name in message


def test_images_that_are_not_there(refused, classes):
    rows = [*rows_of(classes), "well/gone.png,well"]
    message = refused(table(classes, "\n".join(["path,label", *rows])))
    assert "line 26: well/gone.png" in message and "--skip-unreadable" in message


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "table.csv"),
        ("path,label\n", "no rows"),
        ("a,b\n1,2\n", "--path-column"),
        ("path,b\nwell/a0_0.png,2\n", "--label-column"),
        ('path,label\n"well/a0_0.png,well\n', "table.csv"),
    ],
)
def test_tables_that_are_none(refused, classes, text, named):
    assert named in refused(table(classes, text))


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--label-column", "diagnosis"], "--label-column diagnosis"),
        (["--patient-column", "who"], "--patient-column who"),
        (["--split-column", "label"], "--split-column label"),
        (["--patient-from", "(p"], "--patient-from"),
        (["--patient-from", "nobody"], "--patient-from"),
        (["--positive", "dead"], "--positive dead"),
        (["--labels", "other.csv"], "--labels"),
    ],
)
def test_flags_of_the_table(refused, classes, words, named):
    path = table(classes, "\n".join(["path,label", *rows_of(classes)]))
    assert named in refused(path, *words)


def test_an_ending_that_is_no_data(refused, tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("hello")
    assert str(path) in refused(path)


# The archive.


def test_a_truncated_npz(refused, tmp_path):
    path = tmp_path / "small.npz"
    noise = np.random.default_rng(0).integers(0, 256, (40, 28, 28), dtype=np.uint8)
    np.savez(path, train_images=noise, train_labels=np.arange(40)[:, None] % 2)
    whole = path.read_bytes()
    for kept in (0, 10, len(whole) // 2, len(whole) - 5):
        path.write_bytes(whole[:kept])
        assert str(path) in refused(path)


def test_an_npz_with_nan_labels(refused, tmp_path):
    path = tmp_path / "small.npz"
    labels = np.arange(40.0)[:, None] % 2
    labels[7] = np.nan
    np.savez(path, train_images=np.zeros((40, 28, 28), np.uint8), train_labels=labels)
    assert "row 7" in refused(path)


class Trap:
    """Whoever unpickles this leaves a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = str(mark)

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


def test_an_npz_that_would_run_code(refused, tmp_path):
    path, mark = tmp_path / "small.npz", tmp_path / "ran"
    trap = np.array([Trap(mark)] * 2, dtype=object)
    np.savez(path, train_images=trap, train_labels=np.arange(2))
    assert "pickled objects" in refused(path)
    assert not mark.exists()


# The weights.


def test_a_pth_that_would_run_code(refused, classes, tmp_path):
    path, mark = tmp_path / "trap.pth", tmp_path / "ran"
    torch.save({"state_dict": {"conv1.weight": Trap(mark)}}, path)
    message = refused(classes, "--weights", path)
    assert str(path) in message and not mark.exists()
    path.write_bytes(pickle.dumps(Trap(mark)))
    message = refused(classes, "--weights", path)
    assert str(path) in message and not mark.exists()


def test_weights_for_another_network(refused, classes, tmp_path):
    path = tmp_path / "other.safetensors"
    save_file({"stem.weight": torch.zeros(8, 3, 3, 3), "fc.weight": torch.zeros(2, 8)}, path)
    message = refused(classes, "--weights", path)
    assert str(path) in message and "missing: conv1.weight" in message and "--model" in message


def test_real_weights_for_another_network(refused, classes, shared_data):
    path = shared_data / "weights" / "squeezenet1_1_imagenet.pth"
    message = refused(classes, "--weights", path)
    assert str(path) in message and "does not fit --model lenet5" in message


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_damaged_weights(refused, classes, tmp_path, ending):
    path = tmp_path / f"weights{ending}"
    state = {"conv1.weight": torch.zeros(6, 3, 5, 5)}
    torch.save(state, path) if ending == ".pth" else save_file(state, path)
    whole = path.read_bytes()
    for kept in (0, 5, len(whole) // 2, len(whole) - 7):
        path.write_bytes(whole[:kept])
        assert str(path) in refused(classes, "--weights", path)


@pytest.mark.parametrize("content", [{"epoch": 3}, [1, 2], torch.zeros(3), {"a": {"b": 1}}])
def test_a_pth_without_weights(refused, classes, tmp_path, content):
    path = tmp_path / "weights.pth"
    torch.save(content, path)
    assert str(path) in refused(classes, "--weights", path)


def test_no_such_weights(refused, classes, tmp_path):
    assert "nowhere.pth" in refused(classes, "--weights", tmp_path / "nowhere.pth")
    assert "runs/" in refused(classes, "--weights", classes)
    assert "lenet5 has none" in refused(classes, "--weights", "pretrained")


# The other flags.


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--model", "lenet6"], "--model lenet6: no such network; near to it are lenet5"),
        (["--model", "timm:resnet5000"], "--model timm:resnet5000"),
        (["--time", "soon"], "--time 'soon'"),
        (["--time", "0s"], "--time '0s'"),
        (["--time", "-5m"], "--time"),
        (["--model-arg", "width"], "--model-arg 'width'"),
        (["--model-arg", "width=2"], "--model-arg width=2"),
        (["--model-arg", "in_chans=1"], "--model-arg in_chans"),
        (["--augment", "wild"], "--augment 'wild'"),
        (["--balance", "both"], "--balance 'both' is unknown; it is one of none, weights"),
        (["--balance", "weights", "--balance", "augment"], "the smaller ones would count twice"),
        (["--balance", "augment", "--augment", "none"], "copies would be equal pictures"),
        (["--vertical-flip", "--augment", "none"], "leave --vertical-flip out"),
        (["--image-size", "9"], "--image-size"),
    ],
)
def test_flags_of_fit(refused, classes, words, named):
    assert named in refused(classes, *words)


@pytest.mark.parametrize(
    "words", [["--image-size", "big"], ["--seed", "-1"], ["--image-size", "4"], ["--nope"]]
)
def test_wrong_usage(capsys, classes, tmp_path, fit_words, words):
    assert main(fit_words(classes, tmp_path / "out", *words)) == 2
    printed = capsys.readouterr()
    assert words[0] in printed.err and "Traceback" not in printed.err


def test_out_is_required(capsys, classes):
    assert main(["fit", str(classes)]) == 2
    assert "--out" in capsys.readouterr().err


# The output folder; this may run as root, whom no mode stops.


def test_out_below_a_file(refused, classes, tmp_path):
    (tmp_path / "file").write_text("")
    message = refused(classes, out=tmp_path / "file" / "out")
    assert f"--out {tmp_path / 'file' / 'out'}" in message
    assert f"--out {tmp_path / 'file'}" in refused(classes, out=tmp_path / "file")


def test_out_that_can_not_be_written(refused, classes):
    if not Path("/proc/self").is_dir():
        pytest.skip("needs /proc")
    assert "--out /proc/layerwise" in refused(classes, out="/proc/layerwise")


def test_a_full_out(refused, classes, tmp_path, monkeypatch):
    """The disk is full from the first byte on: every file is /dev/full."""
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    written = Path.write_bytes

    def full(path, data):
        return written(Path("/dev/full") if path.name.startswith(".writable") else path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    assert f"--out {tmp_path / 'out'}: can not be written (No space left" in refused(classes)


def test_a_cache_that_can_not_be_written(refused, classes, tmp_path):
    (tmp_path / "file").write_text("")
    message = refused(classes, "--cache", tmp_path / "file")
    assert str(tmp_path / "file") in message and "--cache" in message


# The plan.


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (None, "no such file"),
        ("", "not readable as JSON"),
        ('{"data": "x"', "not readable as JSON"),
        ("[]", "plan.json"),
        ("{}", "plan.json"),
        ('{"datta": "x"}', "unknown setting 'datta'"),
        ('{"seed": "one"}', "seed is 'one'"),
    ],
)
def test_plans_that_are_none(refused, classes, tmp_path, text, named):
    path = tmp_path / "plan.json"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    message = refused(classes, "--plan", path)
    assert str(path) in message and named in message


def test_a_plan_with_a_value_that_can_not_be(refused, classes, tmp_path):
    from layerwise.config import to_mapping
    from layerwise.studies.plan import Plan, PlannedRun
    from layerwise.training.recipe import Recipe
    from layerwise.training.transfer import Transfer

    run = PlannedRun(Transfer("none", "all", "none", "none"), Recipe(), "a test", 1.0)
    plan = Plan(
        *("x", "y", "lenet5", {}, "none", "none", 32, False, 1, "none", 0, 1, 8.0, {}, {}),
        training=(run,),
        complete=True,
    )
    path = tmp_path / "plan.json"

    def wrong(change):
        mapping = to_mapping(plan)
        change(mapping)
        path.write_text(json.dumps(mapping), encoding="utf-8")
        return refused(classes, "--plan", path)

    recipe = "recipe"
    assert "epochs" in wrong(lambda p: p["training"][0][recipe].update(epochs=0))
    assert "epocs" in wrong(lambda p: p["training"][0][recipe].update(epocs=3))
    assert "sgdd" in wrong(lambda p: p["training"][0][recipe].update(optimizer="sgdd"))
    assert "blocks.9" in wrong(lambda p: p["training"][0]["transfer"].update(keep="blocks.9"))
    assert "wild" in wrong(lambda p: p.update(augment="wild"))
    assert "lenet9" in wrong(lambda p: p.update(model="lenet9"))
