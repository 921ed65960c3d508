"""What a study costs, added up by hand; what --quick leaves of it."""

from types import SimpleNamespace

import numpy as np
import pytest

from layerwise.studies.engine import Planned
from layerwise.studies.planner import Speed
from layerwise.studies.transferability.experiment import Place, Scope
from layerwise.studies.transferability.pace import (
    CAUTION,
    FEWEST_EPOCHS,
    FEWEST_PER_CLASS,
    OVERHEAD,
    QUICK_SECONDS,
    TOGETHER,
    Cost,
    add_up,
    cost_of,
    fitting,
    spread,
)
from layerwise.training.recipe import Recipe
from layerwise.training.transfer import Transfer


@pytest.mark.parametrize(
    ("count", "most", "wanted"),
    [(7, 4, "aceg"), (4, 4, "abcd"), (3, 4, "abc"), (1, 4, "a"), (8, 4, "acfh"), (19, 2, "as")],
)
def test_a_few_are_spread_from_the_first_to_the_last(count, most, wanted):
    assert "".join(spread("abcdefghijklmnopqrstuvw"[:count], most)) == wanted


def test_steps_and_images_are_counted():
    rows = {"train": np.arange(100), "val": np.arange(100, 120), "test": np.arange(120, 150)}
    manifest = SimpleNamespace(targets=np.zeros(150, np.int64))
    work = SimpleNamespace(manifest=manifest, rows=rows.__getitem__, seed=0)
    recipe = Recipe(epochs=4, batch=8, augment="natural", views=3)
    longer = Recipe(epochs=8, batch=8, augment="natural", views=3)
    speeds = {"none": Speed(0.5, 0.0, 0.01), "cut": Speed(0.1, 0.02, 0.001)}
    plan = [
        (Place("base", "t"), Planned("t", "base", Transfer(), recipe, 0)),
        (Place("base, twice as long", "t"), Planned("t", "longer", Transfer(), longer, 0)),
        (
            Place("BnB", "t", "t", "cut"),
            Planned("t", "BnB", Transfer("x", copy="cut", freeze="cut"), recipe, 0),
        ),
    ]
    scope = Scope(("base",), ("cut",), (1,), recipe, 0, 1, True)
    cost = add_up(plan, {"t": work}, scope, speeds, 2)  # type: ignore[dict-item]
    # 100 // 8 = 12 steps an epoch; twice as many epochs count twice
    assert cost.epoch_images == pytest.approx(12 * 0.5 + 2 * 12 * 0.5 + 12 * 0.1)
    assert cost.epoch == pytest.approx(20 * 0.01 * 3 + 20 * 0.001)
    # 20 + 30 other images once; 100 training images as they are and 3 views of each
    assert cost.fixed == pytest.approx(50 * 0.02 + 30 * (0.01 + 0.01 + 0.001))
    assert cost.fixed_images == pytest.approx(100 * (1 + 3) * 0.02 + 100 * 0.01)
    whole = cost.fixed + cost.fixed_images + 4 * (cost.epoch + cost.epoch_images)
    assert cost.seconds(4) == pytest.approx((whole * TOGETHER * CAUTION + 3 * OVERHEAD) / 2)
    half = cost.fixed + cost.fixed_images / 2 + 4 * (cost.epoch + cost.epoch_images / 2)
    assert cost.seconds(4, 0.5) == pytest.approx((half * TOGETHER * CAUTION + 3 * OVERHEAD) / 2)


def a_cost(epoch_images: float, fixed: float = 0.0) -> Cost:
    return Cost(fixed, 0.0, 0.0, epoch_images, 0, 1)


def test_quick_takes_as_many_epochs_as_fit():
    per_epoch = QUICK_SECONDS / CAUTION
    assert fitting(a_cost(per_epoch / 100), 12, 5, 5000) == (12, 1.0)
    assert fitting(a_cost(per_epoch / 7.5), 12, 5, 5000) == (7, 1.0)
    assert fitting(a_cost(per_epoch / FEWEST_EPOCHS), 12, 5, 5000) == (FEWEST_EPOCHS, 1.0)


def test_quick_takes_fewer_images_where_the_fewest_epochs_do_not_fit():
    per_epoch = QUICK_SECONDS / CAUTION
    epochs, fraction = fitting(a_cost(per_epoch), 12, 5, 5000)
    assert (epochs, fraction) == (FEWEST_EPOCHS, pytest.approx(1 / 3, abs=1e-3))
    assert a_cost(per_epoch).seconds(epochs, fraction) == pytest.approx(QUICK_SECONDS, rel=2e-3)
    # what does not depend on the images is paid first
    cost = a_cost(per_epoch, fixed=per_epoch / 2)
    epochs, fraction = fitting(cost, 12, 5, 5000)
    assert cost.seconds(epochs, fraction) == pytest.approx(QUICK_SECONDS, rel=4e-3)
    # but never too few to learn from
    assert fitting(a_cost(1e6), 12, 5, 5000) == (FEWEST_EPOCHS, FEWEST_PER_CLASS * 5 / 5000)
    assert fitting(a_cost(1e6), 12, 5, 50) == (FEWEST_EPOCHS, 1.0)
    assert fitting(a_cost(1e6), 2, 5, 50)[0] == 2


def test_the_pace_of_this_machine_is_found(six_classes):
    from layerwise.studies.transferability.pairs import make_tasks

    tasks = make_tasks(six_classes(), splits=1)
    scope = Scope(("base", "BnB"), ("conv1", "fc2"), (1, 5), Recipe(epochs=2), 0, 1, False)
    cost = cost_of(tasks, scope, {}, 1)
    assert cost.runs == 1 + 2
    assert cost.fixed > 0
    assert cost.epoch_images > 0
