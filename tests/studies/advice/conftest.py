"""A small network with batch norms, and weights of it that have seen pictures."""

import time

import pytest
import torch
from safetensors.torch import save_file

from layerwise.models.registry import create
from layerwise.studies.advice.study import advise
from layerwise.studies.board import Board
from layerwise.studies.prepare import Request

MODEL = "timm:test_resnet"


@pytest.fixture(scope="session")
def seen(tmp_path_factory):
    """Weights of MODEL for three labels; their batch norms hold statistics of noise."""
    path = tmp_path_factory.mktemp("weights") / "seen.safetensors"
    module = create(MODEL, outputs=3, seed=9, image_size=32).module.train()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for _ in range(40):
            module(torch.randn((16, 3, 32, 32), generator=generator))
    save_file({n: t.contiguous() for n, t in module.state_dict().items()}, path)
    return str(path)


@pytest.fixture
def advised(data_file, seen, tmp_path, monkeypatch):
    """(task, changes of the request) → an advice, in `tmp_path / "out"`, of few epochs."""
    monkeypatch.setattr("layerwise.studies.advice.quick.most_epochs", lambda _images: 3)

    def make(task="binary", **changes):
        settings = {
            "data": str(data_file(task)),
            "out": tmp_path / "out",
            "cache": tmp_path / "cache",
            "model": MODEL,
            "weights": seen,
            "image_size": 32,
            "threads": 1,
            "seconds": 3600.0,
        }
        request = Request(**settings | changes)
        show = lambda _title: lambda _done, _all: None  # noqa: E731
        return advise(request, lambda _words: None, show, Board(), time.monotonic())

    return make
