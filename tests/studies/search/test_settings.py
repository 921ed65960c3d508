"""From values to what is trained; and what can not be trained, named with what would work."""

from dataclasses import replace

import pytest

from layerwise.errors import LayerwiseError
from layerwise.studies.search.settings import (
    Settings,
    check_space,
    default_recipe,
    default_space,
    settings_of,
)
from layerwise.studies.search.space import Dimension, Space
from layerwise.training.recipe import Recipe
from layerwise.training.transfer import Transfer

RANDOM = Transfer("none", copy="none")
COPIED = Transfer("file", copy="all")


def one(part, field, *choices):
    return Space((Dimension(part, field, choices),))


def test_values_go_where_they_belong():
    space = Space(
        (
            Dimension("model", "kernel", (3, 5)),
            Dimension("transfer", "keep", ("a", "b")),
            Dimension("transfer", "freeze", ("none", "a")),
            Dimension("training", "lr", (0.1, 0.2)),
        )
    )
    base = Settings({"layers": "2"}, COPIED, Recipe(epochs=4, batch=8))
    found = settings_of(base, space, {"kernel": 5, "keep": "b", "freeze": "a", "lr": 0.2})
    assert found == Settings(
        {"layers": "2", "kernel": "5"},
        Transfer("file", keep="b", copy="b", freeze="a"),
        Recipe(epochs=4, batch=8, lr=0.2),
    )
    at_random = settings_of(
        replace(base, transfer=RANDOM),
        space,
        {"kernel": 3, "keep": "a"} | {"freeze": "none", "lr": 0.1},
    )
    assert at_random.transfer == Transfer("none", keep="a", copy="none")


def test_a_decay_counts_only_with_its_schedule():
    space = Space(
        (
            Dimension("training", "decay", (0.1, 0.2)),
            Dimension("training", "schedule", ("cosine", "inverse")),
        )
    )
    base = Settings({}, RANDOM, Recipe())
    for schedule, decay in (("cosine", 0.0), ("inverse", 0.2)):
        recipe = settings_of(base, space, {"decay": 0.2, "schedule": schedule}).recipe
        assert (recipe.schedule, recipe.decay) == (schedule, decay)


def test_the_custom_network_is_searched_as_the_thesis_lists_it():
    space = default_space("custom", 64, 1000, copied=False, fixed=())
    assert [d.field for d in space.dimensions] == [
        *("layers", "units", "kernel", "lr", "momentum", "decay", "batch")
    ]
    assert default_space("custom", 16, 70, copied=False, fixed=()).dimensions[0].high == 4
    assert default_space("custom", 64, 70, copied=False, fixed=()).dimensions[-1].choices == (16,)
    assert default_space("custom", 64, 9, copied=False, fixed=()).dimensions[-1].choices == (9,)
    recipe = default_recipe(space, Recipe(), ())
    assert (recipe.optimizer, recipe.schedule) == ("sgd", "inverse")
    assert recipe.weight_decay == 5e-4  # AdamW's 0.02 ends every such network at 0.5
    assert default_recipe(space, Recipe(), {"weight_decay"}).weight_decay == 0.02
    some = default_space("custom", 64, 1000, copied=False, fixed={"lr", "kernel"})
    assert {d.field for d in space.dimensions} - {d.field for d in some.dimensions} == {
        "lr",
        "kernel",
    }


def test_another_network_is_searched_by_how_it_learns():
    plain = default_space("lenet5", 32, 1000, copied=False, fixed=())
    copied = default_space("lenet5", 32, 1000, copied=True, fixed=())
    assert [d.field for d in plain.dimensions] == ["lr", "weight_decay", "batch"]
    assert [d.field for d in copied.dimensions[3:]] == ["freeze", "copied_lr"]
    assert default_recipe(plain, Recipe(), ()) == Recipe()


def test_a_decay_without_its_schedule_is_refused():
    space = one("training", "decay", 0.1, 0.2)
    with pytest.raises(LayerwiseError, match="schedule is fixed at 'cosine', which has none"):
        default_recipe(space, Recipe(), {"schedule"})


@pytest.mark.parametrize(
    ("space", "transfer", "message"),
    [
        (
            one("training", "batch", 16, 5000),
            RANDOM,
            r"\[training\] batch: batch = 5000 is more than the 48 training images.*works is 48",
        ),
        (one("training", "momentum", 0.5, 1.5), RANDOM, r"momentum = 1.5: .*below 1"),
        (one("training", "lr", 0.1, -1.0), RANDOM, r"lr = -1.0: .*above 0"),
        (one("training", "batch", 4, 5.5), RANDOM, r"batch = 5.5: .*must be of type int"),
        (one("training", "augment", "flip", "flipp"), RANDOM, "augment = 'flipp': .*one of none"),
        (one("model", "kernel", 3, 4), RANDOM, r"\[model\] kernel = 4: .*odd whole number"),
        (one("model", "layers", 2, 6), RANDOM, r"layers = 6: .*at most 5"),
        (one("model", "kernal", 3, 5), RANDOM, "kernal: custom has no such argument; the nearest"),
        (one("model", "kernel", 3, 5), COPIED, "kernel changes the network, and weights fit one"),
        (one("transfer", "freeze", "none", "conv1"), RANDOM, "without weights there is nothing"),
        (one("transfer", "keep", "conv1", "conv9"), RANDOM, r"keep = 'conv9': .*conv"),
        (Space((Dimension("transfer", "keep", (), 1, 2),)), RANDOM, "cuts are names"),
        (
            Space((Dimension("training", "probe_epochs", (), 0, 9, whole=True),)),
            RANDOM,
            "probe_epochs = 9: .*of 5 epochs",
        ),
    ],
)
def test_what_can_not_be_trained_is_named(workspace, space, transfer, message):
    manifest = workspace("binary").manifest
    base = Settings({}, transfer, Recipe(epochs=5, batch=8))
    with pytest.raises(LayerwiseError, match=f"--space x.toml: .*{message}"):
        check_space(space, base, manifest, "custom", 32, "--space x.toml")


def test_cuts_get_their_own_names_and_each_counts_once(workspace):
    manifest = workspace("binary").manifest
    space = one("transfer", "keep", "conv1", "conv1.pool", "all")
    base = Settings({}, RANDOM, Recipe(epochs=5, batch=8))
    found = check_space(space, base, manifest, "custom", 32, "--space x.toml")
    assert found.dimensions[0].choices == ("conv1", "all")
