"""The lines of Python in the README run as they stand there."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_lines_in_the_readme_run(tmp_path, monkeypatch, capsys):
    section = (ROOT / "README.md").read_text(encoding="utf-8").partition("## In Python")[2]
    (code,) = re.findall(r"```python\n(.*?)```", section.partition("\n## ")[0], flags=re.S)
    monkeypatch.chdir(tmp_path)
    known: dict[str, object] = {}
    exec(compile(code, "README.md", "exec"), known)
    assert float(capsys.readouterr().out) > 0.9
    assert len(known["model"].profile_) == 5
    from layerwise.serving.bundle import Bundle

    scores = Bundle.load(tmp_path / "digits-bundle").info
    assert scores.labels == tuple("0123456789")


def test_python_md_names_everything_there_is():
    from layerwise import LayerwiseClassifier

    said = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    names = set(LayerwiseClassifier().get_params()) | {
        name
        for name in vars(LayerwiseClassifier)
        if not name.startswith("_") and not name.startswith("set_")
    }
    assert {name for name in names if f"`{name}" not in said} == set()


def test_the_transfers_in_python_md_can_be_made():
    said = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    (code,) = [b for b in re.findall(r"```python\n(.*?)```", said, flags=re.S) if "Transfer(" in b]
    exec(code)
