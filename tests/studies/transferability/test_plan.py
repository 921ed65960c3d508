"""The plan of a transferability study: what is kept, refused, and chosen by the pictures."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from layerwise.errors import LayerwiseError
from layerwise.studies.prepare import Request
from layerwise.studies.transferability.plan import (
    LARGE,
    LOOKED_AT,
    SMALL,
    Asked,
    StudyPlan,
    choose_network,
    read_study_plan,
    refuse_other_study,
    write_study_plan,
)


def test_a_plan_comes_back(tmp_path):
    pairs = ({"name": "random 1", "a": ["a"], "b": ["b"]},)
    plan = StudyPlan({"seed": 0}, SMALL, 32, 1, {"epochs": 3}, ("base",), ("conv1",), pairs)
    write_study_plan(plan, tmp_path / "plan.json")
    assert read_study_plan(tmp_path / "plan.json") == plan


def test_a_damaged_plan_is_named(tmp_path):
    (tmp_path / "plan.json").write_text('{"what": 1}', encoding="utf-8")
    with pytest.raises(LayerwiseError, match="plan.json: unknown setting 'what'"):
        read_study_plan(tmp_path / "plan.json")


@pytest.mark.parametrize(
    ("change", "flag"),
    [
        ({"splits": 3}, "splits"),
        ({"groups": Path("g.toml")}, "groups"),
        ({"cuts": ("conv1",)}, "cuts"),
        ({"quick": True}, "quick"),
        ({"both": False}, "both"),
        ({"model": "lenet5"}, "model"),
    ],
)
def test_every_flag_of_the_study_decides(tmp_path, change, flag):
    request = Request("digits", tmp_path, tmp_path)
    before = Asked().identity(request)
    now = Asked(**change).identity(request)
    refuse_other_study(before, Asked().identity(request), tmp_path)
    with pytest.raises(LayerwiseError, match=f"holds a study with {flag} = "):
        refuse_other_study(before, now, tmp_path)
    assert refuse_other_study(now, now, tmp_path) is None


def folder_of(root: Path, side: int, other: int) -> str:
    for number in range(6):
        size = (side, side // 2) if number < 4 else (other, other)
        path = root / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros(size, np.uint8)).save(path)
    return str(root)


@pytest.mark.parametrize(("side", "model"), [(64, SMALL), (65, LARGE)])
def test_the_pictures_decide_on_the_network(tmp_path, side, model):
    data = folder_of(tmp_path, side, 300)
    request, (why, *more) = choose_network(Request(data, tmp_path, tmp_path, weights="none"), None)
    assert request.model == model
    assert f"{side} pixels" in why
    assert request.image_size == (32 if model == SMALL else request.image_size)
    assert bool(more) == (model == LARGE and request.image_size != 224)


def test_a_look_at_a_few_pictures_is_enough(monkeypatch, tmp_path):
    from layerwise.studies.transferability import plan as transfer_plan

    seen = []
    real = transfer_plan.read_headers
    monkeypatch.setattr(
        transfer_plan, "read_headers", lambda manifest: seen.append(len(manifest)) or real(manifest)
    )
    request, _ = choose_network(Request("digits", tmp_path, tmp_path, weights="none"), None)
    assert request.model == SMALL
    assert seen == [LOOKED_AT]


def test_what_is_named_stays(tmp_path):
    asked = Request("digits", tmp_path, tmp_path, weights="none", image_size=40)
    request, reasons = choose_network(asked, "lenet5")
    assert (request.model, request.image_size, reasons) == ("lenet5", 40, [])
    given, _ = choose_network(Request("digits", tmp_path, tmp_path, weights="w.pth"), None)
    assert given.model == LARGE
