"""Search spaces from TOML: what is read, how large it is, and what is refused with what works."""

import math

import pytest

from layerwise.errors import LayerwiseError
from layerwise.studies.search.space import Dimension, Space, read_space

WHOLE = """
[model]
kernel = [3, 5]
layers = { low = 2, high = 5 }
units = [8, [16, 32]]

[transfer]
freeze = ["none", "all"]

[training]
lr = { low = 1e-4, high = 1e-1, log = true }
momentum = { low = 0, high = 1 }
label_smoothing = { low = 0.0, high = 0.2, step = 0.1 }
optimizer = "sgd"
"""


def write(tmp_path, text):
    path = tmp_path / "space.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_every_kind_of_field_is_read(tmp_path):
    space = read_space(write(tmp_path, WHOLE))
    assert space.dimensions == (
        Dimension("model", "kernel", (3, 5)),
        Dimension("model", "layers", (), 2, 5, whole=True),
        Dimension("model", "units", (8, "16,32")),
        Dimension("transfer", "freeze", ("none", "all")),
        Dimension("training", "lr", (), 1e-4, 1e-1, log=True),
        Dimension("training", "momentum", (), 0.0, 1.0),  # 0 of a number is 0.0
        Dimension("training", "label_smoothing", (), 0.0, 0.2, step=0.1),
        Dimension("training", "optimizer", ("sgd",)),
    )
    assert [d.count for d in space.dimensions] == [2, 4, 2, 2, None, None, 3, 1]
    assert space.size is None
    assert "optimizer" not in [d.name for d in space.searched]
    values = {d.name: d.ends[0] for d in space.dimensions}
    assert space.of("model", values) == {"kernel": 3, "layers": 2, "units": 8}


def test_a_finite_space_has_all_its_combinations():
    space = Space(
        (
            Dimension("model", "layers", (), 2, 4, whole=True),
            Dimension("training", "batch", (8, 16)),
            Dimension("training", "label_smoothing", (), 0.0, 0.2, step=0.1),
        )
    )
    every = list(space.combinations())
    assert space.size == len(every) == 3 * 2 * 3
    assert len({tuple(values.items()) for values in every}) == 18
    assert [values["layers"] for values in every[::6]] == [2, 3, 4]
    assert all(isinstance(values["layers"], int) for values in every)


def test_a_field_of_network_and_recipe_keeps_two_names():
    space = Space((Dimension("model", "lr", (1, 2)), Dimension("training", "lr", (0.1, 0.2))))
    assert [d.name for d in space.dimensions] == ["model.lr", "lr"]
    values = {"model.lr": 2, "lr": 0.1}
    assert (space.of("model", values), space.of("training", values)) == ({"lr": 2}, {"lr": 0.1})


@pytest.mark.parametrize(
    ("dimension", "value", "place"),
    [
        (Dimension("training", "lr", (), 1e-4, 1e-2, log=True), 1e-3, 0.5),
        (Dimension("training", "momentum", (), 0.5, 0.9), 0.6, 0.25),
        (Dimension("model", "kernel", (3, 5)), 5, 0.75),
        (Dimension("training", "momentum", (), 0.5, 0.5), 0.5, 0.5),
    ],
)
def test_values_have_their_place_on_an_axis(dimension, value, place):
    assert math.isclose(dimension.place(value), place)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[trainig]\nlr = 1", r"unknown table \[trainig\]; the nearest one is \[training\]"),
        ("[training]\nlearn_rate = [1]", r"\[training\] learn_rate: unknown field; the nearest"),
        ("[training]\nmomentun = [0.1]", r"momentun: unknown field; the nearest one is 'momentum'"),
        ("[transfer]\nfreez = ['all']", "freez: unknown field; the nearest one is 'freeze'"),
        ("[training]\nepochs = [3, 5]", "epochs: leave it out: .*--epochs"),
        ("[training]\nlr = {low = 1, high = 0.1}", "low is 1 and high is 0.1.*exchange them"),
        ("[training]\nlr = {low = 0, high = 1, log = true}", "log = true needs one above 0"),
        ("[training]\nlr = {low = 0.1}", "high is missing"),
        ("[training]\nlr = {low = 0.1, hihg = 1}", "unknown key 'hihg'; the nearest one is 'high'"),
        ("[training]\nlr = {low = 'a', high = 1}", "low is 'a'; it must be a number"),
        ("[training]\nlr = {low = 0.1, high = 1.0, log = 1}", "log is 1; write true or false"),
        ("[training]\nlr = {low = 0.1, high = 1.0, step = 0.4}", "write high = 0.9"),
        ("[training]\nlr = {low = 0.1, high = 1.0, step = 0}", "step is 0"),
        ("[training]\nlr = []", "the list is empty"),
        ("[training]\nlr = [0.1, 0.1]", "0.1 stands there twice"),
        ("[training]\nlr = [[1]]", "is no value"),
        ("[training]\nlr = [nan]", "no number to try"),
        ("training = 3", "write a table"),
        ("", "it names no field"),
        ("[training", "is not TOML"),
    ],
)
def test_what_can_not_be_is_named_with_what_works(tmp_path, text, message):
    path = write(tmp_path, text)
    with pytest.raises(LayerwiseError, match=f"--space .*space.toml: .*{message}"):
        read_space(path)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(LayerwiseError, match=r"--space .*gone.toml: no such file"):
        read_space(tmp_path / "gone.toml")
