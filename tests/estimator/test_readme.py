"""The lines of Python in the README run as they stand there."""

import ast
import re
from pathlib import Path
from types import SimpleNamespace

import torch

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


def test_the_transfers_in_python_md_copy_and_freeze_what_they_say():
    """Each on a network with weights: what is the source's, what a step of training changes."""
    from layerwise.estimator import learning
    from layerwise.models.registry import create
    from layerwise.training.network import build

    said = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    (code,) = [b for b in re.findall(r"```python\n(.*?)```", said, flags=re.S) if "Transfer(" in b]
    known: dict[str, object] = {}
    exec(code, known)
    written = [eval(ast.unparse(s), known) for s in ast.parse(code).body if isinstance(s, ast.Expr)]

    settings = {"model": "timm:test_efficientnet", "outputs": 2, "image_size": 32}
    made = create("timm:test_efficientnet", outputs=2, image_size=32, seed=1).module.state_dict()
    start = {name: value for name, value in made.items() if value.is_floating_point()}
    generator = torch.Generator().manual_seed(0)
    source = {n: 0.3 + torch.rand(v.shape, generator=generator) for n, v in start.items()}
    lower = ("conv_stem.", "bn1.", "blocks.0.", "blocks.1.", "blocks.2.", "blocks.3.")
    a3b = {name for name in start if name.startswith(lower)}
    body = {name for name in start if not name.startswith("classifier.")}
    assert 0 < len(a3b) < len(body) == len(start) - 2
    images = torch.randint(0, 256, (4, 32, 32, 3), dtype=torch.uint8, generator=generator)
    for one, copied, frozen in zip(written, (a3b, body, set()), (a3b, body, set()), strict=True):
        weights = SimpleNamespace(weights=source, weights_name="given")
        transfer = learning._resolved(weights, one)
        network = build(transfer, seed=1, source_weights=source, **settings)
        before = {n: v.clone() for n, v in network.weights().items() if n in start}
        assert before.keys() == start.keys()  # all layers are kept
        assert {n for n in start if torch.equal(before[n], source[n])} == copied
        at_random = body - copied if copied else set(start)
        assert all(torch.equal(before[name], start[name]) for name in at_random)
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1, weight_decay=0.1)
        network(images).square().sum().backward()
        optimizer.step()
        after = network.weights()
        assert {n for n in start if torch.equal(before[n], after[n])} == frozen
