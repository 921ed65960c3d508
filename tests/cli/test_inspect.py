"""`layerwise inspect` as a user meets it: what it writes, says and ends with."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from layerwise.cli import flags
from layerwise.cli.main import main
from layerwise.data.pictures.images import prepare


def inspect(data, out, *more) -> int:
    return main(["inspect", str(data), "--out", str(out), "--quiet", *map(str, more)])


def found(out) -> dict:
    return json.loads((out / "inspect.json").read_text(encoding="utf-8"))


def parts(classes, root):
    """The pictures of `classes` below train and test, by the number in their names."""
    for file in sorted(classes.rglob("*.png")):
        part = "test" if int(file.stem.rpartition("_")[2]) >= 9 else "train"
        place = root / part / file.parent.name / file.name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, place)
    return root


def test_a_folder(classes, tmp_path, capsys):
    out = tmp_path / "out"
    assert inspect(classes, out, "--patient-from", r"([ab]\d)_", "--image-size", 32) == 0
    assert sorted(p.name for p in out.iterdir()) == ["inspect.html", "inspect.json"]
    said = capsys.readouterr().out
    assert "24 pictures of 2 classes (ill and well) from 12 patients, not split yet." in said
    assert f"report: {out / 'inspect.html'}" in said
    data = found(out)
    assert data["data"] == {"name": "pictures", "task": "binary", "labels": ["ill", "well"]}
    counts = data["counts"]
    assert counts["parts"]["unassigned"]["labels"] == {"ill": 12, "well": 12}
    assert counts["patients"]["images_each"] == {"min": 2, "median": 2.0, "max": 2}
    assert data["sizes"]["common"] == [[32, 32, 24]]
    for label in ("ill", "well"):
        pixels = [prepare(p, (32, 32), 1, False) for p in (classes / label).iterdir()]
        assert data["brightness"]["labels"][label]["mean"] == pytest.approx(np.mean(pixels))
    page = (out / "inspect.html").read_text(encoding="utf-8")
    assert page.count('alt="ill: ') == 12 and "default-src 'none'" in page


def test_every_flag_of_the_data_is_there():
    import inspect as standard

    from layerwise.cli.inspect import inspect as command

    assert set(flags.DATA_FLAGS) <= set(standard.signature(command).parameters)


def test_json_and_a_second_run(classes, tmp_path, capsys, private_cache):
    words = ["inspect", str(classes), "--out", str(tmp_path / "out"), "--json"]
    assert main(words) == 0
    captured = capsys.readouterr()
    first = json.loads(captured.out)
    assert first == found(tmp_path / "out") and "24 images" in captured.err
    store = next((private_cache / "images").glob("*/pixels.u8"))
    built = store.stat().st_mtime_ns
    assert main(words) == 0
    again = json.loads(capsys.readouterr().out)
    assert store.stat().st_mtime_ns == built
    assert {**again, "seconds": 0} == {**first, "seconds": 0}


def test_a_leak_is_told_written_and_ends_with_3(classes, tmp_path, capsys):
    root = parts(classes, tmp_path / "parted")
    shutil.copy(root / "train" / "ill" / "b0_0.png", root / "test" / "ill" / "copy.png")
    out = tmp_path / "out"
    assert inspect(root, out) == 3
    captured = capsys.readouterr()
    assert "would deceive" in captured.err and "--allow-leaks" in captured.err
    assert "Do not train on this split" in captured.out
    leaks = [f for f in found(out)["findings"] if f["severity"] == "leak"]
    assert leaks and set(leaks[0]["images"]) == {"train/ill/b0_0.png", "test/ill/copy.png"}
    page = (out / "inspect.html").read_text(encoding="utf-8")
    assert 'alt="Picture test/ill/copy.png"' in page
    assert inspect(root, out, "--allow-leaks") == 0


def test_given_parts_are_shown_and_none_is_invented(classes, tmp_path):
    out = tmp_path / "out"
    assert inspect(parts(classes, tmp_path / "parted"), out, "--allow-leaks") == 0
    read = found(out)["counts"]["parts"]
    assert {name: part["images"] for name, part in read.items()} == {"train": 18, "test": 6}


def test_unreadable_files_are_findings(classes, tmp_path, capsys):
    (classes / "ill" / "b0_0.png").write_bytes(b"no picture at all")
    (classes / "ill" / "b0_1.png").write_bytes((classes / "ill" / "b1_2.png").read_bytes()[:200])
    (classes / "well" / "empty.png").touch()
    out = tmp_path / "out"
    assert inspect(classes, out) == 0
    rows = [f for f in found(out)["findings"] if f["kind"] == "unreadable"]
    assert len(rows) == 1 and rows[0]["severity"] == "warning"
    assert set(rows[0]["images"]) == {"ill/b0_0.png", "ill/b0_1.png", "well/empty.png"}
    assert found(out)["counts"]["images"] == 22
    for file in classes.rglob("*.png"):
        file.write_bytes(b"none")
    assert inspect(classes, out) == 2
    assert "can not be read" in capsys.readouterr().err


def table(tmp_path, classes, rows=24):
    files = sorted(p.relative_to(classes).as_posix() for p in classes.rglob("*.png"))[:rows]
    frame = pd.DataFrame(
        {
            "path": files,
            "label": [name.partition("/")[0] for name in files],
            "patient": [name.rpartition("_")[0] for name in files],
            "split": ["train" if i % 3 else "test" for i in range(len(files))],
        }
    )
    frame.to_csv(classes / "table.csv", index=False)
    return classes / "table.csv"


def test_files_that_a_table_names_and_that_are_gone(classes, tmp_path):
    data = table(tmp_path, classes)
    (classes / "ill" / "b0_0.png").unlink()
    assert inspect(data, tmp_path / "out", "--allow-leaks") == 0
    rows = [f for f in found(tmp_path / "out")["findings"] if f["kind"] == "missing files"]
    assert len(rows) == 1 and "1 " in rows[0]["message"]
    assert found(tmp_path / "out")["counts"]["images"] == 23


def test_only_the_table(classes, tmp_path, capsys):
    data = table(tmp_path, classes)
    for file in classes.rglob("*.png"):
        file.unlink()
    out = tmp_path / "out"
    assert inspect(data, out, "--no-images") == 3  # a patient's two pictures stand in two parts
    read = found(out)
    assert read["sizes"] is read["brightness"] is None
    assert read["counts"]["patients"]["count"] == 12 and read["counts"]["images"] == 24
    assert {f["kind"] for f in read["findings"] if f["severity"] == "leak"} == {"shared patient"}
    assert "not one picture" in capsys.readouterr().out
    assert "<img" not in (out / "inspect.html").read_text(encoding="utf-8")


def test_only_the_table_needs_no_torch(classes, tmp_path):
    data = table(tmp_path, classes)
    code = (
        "import sys\n"
        "sys.modules['torch'] = None\n"
        "from layerwise.cli.main import main\n"
        f"sys.exit(main(['inspect', {str(data)!r}, '--no-images', '--allow-leaks', '--quiet', "
        f"'--out', {str(tmp_path / 'out')!r}]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("wanted", "shown"), [("none", 0), ("natural", 6), ("auto", 0), ("flip", 6), ("radiograph", 6)]
)
def test_augmented_examples(classes, tmp_path, wanted, shown):
    """Six training pictures, five views each; pictures of 32 pixels are left alone by auto."""
    out = tmp_path / "out"
    assert inspect(classes, out, "--augment", wanted) == 0
    page = (out / "inspect.html").read_text(encoding="utf-8")
    assert page.count('as it is"') == shown
    assert page.count("The same, augmented, view") == 5 * shown


def test_augmented_examples_are_of_the_training_part(classes, tmp_path):
    out = tmp_path / "out"
    root = parts(classes, tmp_path / "parted")
    assert inspect(root, out, "--augment", "radiograph", "--allow-leaks") == 0
    page = (out / "inspect.html").read_text(encoding="utf-8")
    section = page.partition('id="augmented"')[2]
    assert section.count("<code>train/") == 6 and "<code>test/" not in section


def test_colour_pictures_of_several_kinds(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(12):
        for label, kind in (("a", "png"), ("b", "jpg")):
            file = tmp_path / "data" / label / f"{i}.{kind}"
            file.parent.mkdir(parents=True, exist_ok=True)
            size = (90 + i, 70) if label == "a" else (200, 160 + i)
            Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).save(file)
    assert inspect(tmp_path / "data", tmp_path / "out", "--letterbox") == 0
    sizes = found(tmp_path / "out")["sizes"]
    kinds = {(f["format"], f["channels"]): f["labels"] for f in sizes["files"]}
    assert kinds == {("PNG", "colour"): {"a": 12, "b": 0}, ("JPEG", "colour"): {"a": 0, "b": 12}}
    assert sizes["labels"]["a"]["height"] == 95.5 and sizes["landscape"] == 0
    assert found(tmp_path / "out")["brightness"]["height"] == 115  # the middle of 70 and 160


def test_wrong_flags_end_with_2(classes, tmp_path, capsys):
    assert inspect(classes, tmp_path / "out", "--augment", "wild") == 2
    assert "--augment" in capsys.readouterr().err
    assert inspect(tmp_path / "nothing", tmp_path / "out") == 2
    (tmp_path / "file").write_text("")
    assert inspect(classes, tmp_path / "file") == 2
    assert "Traceback" not in capsys.readouterr().err


def test_digits(tmp_path):
    assert inspect("digits", tmp_path / "out") == 0
    read = found(tmp_path / "out")
    assert read["counts"]["images"] == 1797 and read["brightness"]["height"] == 8
    assert read["sizes"]["files"][0]["format"] == "array"


def test_guangzhou_has_the_counts_of_the_thesis(shared_data, tmp_path):
    """Table 3.1 of Buluttekin 2020, but for the validation part, which this copy has not."""
    root = tmp_path / "guangzhou"
    for part in ("train", "test"):
        for label in ("NORMAL", "PNEUMONIA"):
            (root / part / label).mkdir(parents=True)
            for file in (shared_data / "guangzhou" / part / label).iterdir():
                (root / part / label / file.name).symlink_to(file)
    manifest = tmp_path / "manifest.csv"
    from layerwise.data.load import load

    load(root).write(manifest)
    assert inspect(manifest, tmp_path / "out", "--no-images") == 0
    counts = found(tmp_path / "out")["counts"]
    assert counts["parts"]["train"]["labels"] == {"NORMAL": 1341, "PNEUMONIA": 3875}
    assert counts["parts"]["test"]["labels"] == {"NORMAL": 234, "PNEUMONIA": 390}


def test_labels_too_rare_to_learn_are_shown_and_not_refused(tmp_path):
    rows = [f"{i}.png,{'common' if i < 11 else 'other' if i < 22 else 'rare'}" for i in range(23)]
    (tmp_path / "t.csv").write_text("path,label\n" + "\n".join(rows) + "\n")
    words = [str(tmp_path / "t.csv"), "--no-images", "--out", str(tmp_path / "out"), "--quiet"]
    assert main(["inspect", *words]) == 0
    found = json.loads((tmp_path / "out" / "inspect.json").read_text())
    few = [f for f in found["findings"] if f["kind"] == "few images"]
    assert [f["images"] for f in few] == [["22.png"]] and "rare 1 image" in few[0]["message"]
    assert main(["split", *words]) == 2
