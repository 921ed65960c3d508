"""Data and weights of which nothing can be learnt, given to every command that learns."""

import re

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from layerwise.cli.main import main
from layerwise.data.manifest import Manifest, make_table
from layerwise.models.registry import create

SMALL = ["--image-size", "32", "--threads", "1", "--quiet"]
COMMANDS = {
    "fit": "fit --model lenet5 --weights none --time 20s",
    "advise": "advise --model lenet5 --time 20s",
    "heads": "study heads --model lenet5 --weights none --epochs 2 --folds 3 --workers 1",
    "baselines": "study baselines --models dummy,lenet5 --epochs 2 --workers 1",
    "search": "study search --trials 2 --epochs 2",
}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Finite numbers whose activations are not: they are too large."""
    path = tmp_path_factory.mktemp("weights") / "huge.safetensors"
    state = create("lenet5", outputs=1, seed=0, image_size=32).module.state_dict()
    save_file({name: torch.full_like(value, 1e30) for name, value in state.items()}, path)
    return path


def folder(root, each):
    """Two class folders of noise."""
    generator = np.random.default_rng(0)
    for label in ("ill", "well"):
        (root / label).mkdir(parents=True)
        for number in range(each):
            pixels = generator.integers(0, 256, (32, 32), dtype=np.uint8)
            Image.fromarray(pixels).save(root / label / f"{number}.png")
    return root


@pytest.fixture
def refused(weights, tmp_path, capsys):
    """(command, data, more words) → what it says when it ends; an advice is about weights."""

    def said(command, data, *more):
        words = [*COMMANDS[command].split(), str(data), "--out", str(tmp_path / "out"), *SMALL]
        given = ["--weights", str(weights)] if command == "advise" else []
        assert main([*words, *given, *map(str, more)]) == 2
        error = capsys.readouterr().err
        assert "Traceback" not in error
        return " ".join(error.split())

    return said


@pytest.mark.parametrize("command", COMMANDS)
def test_two_images_a_class(command, refused, tmp_path):
    said = refused(command, folder(tmp_path / "few", 2))
    assert re.search("class '(ill|well)' has 2 images .* 3 are needed.*add images of it", said)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_class_that_is_missing_from_validation(command, refused, tmp_path):
    data = folder(tmp_path / "some", 12)
    paths = [str(data / label / f"{n}.png") for label in ("ill", "well") for n in range(12)]
    splits = ["train"] * 7 + ["val"] * 3 + ["test"] * 2 + ["train"] * 10 + ["test"] * 2
    table = make_table([f"{n}.png" for n in range(24)], paths=paths, splits=splits)
    made = Manifest("made", "binary", ("ill", "well"), table, np.repeat([0, 1], 12))
    made.write(tmp_path / "made.csv")
    said = refused(command, tmp_path / "made.csv")
    assert "made: the val part has no image of class 'well'" in said
    assert "add images, or let Layerwise split the data anew" in said


@pytest.mark.parametrize("command", ["fit", "advise", "heads", "baselines"])
def test_activations_that_are_not_finite(command, refused, weights, tmp_path):
    more = ["--models", "dummy", "--transfer", "lenet5"] if command == "baselines" else []
    said = refused(command, folder(tmp_path / "some", 20), *more, "--weights", weights)
    assert re.search("activations .*not finite.*(--weights|other weights)", said), said
