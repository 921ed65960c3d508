"""Curves from fabricated predictions, whose accuracies are known: points, means, parts, Table 1."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import binom

from layerwise.evaluation.predictions import Predictions
from layerwise.studies.engine import Done, Planned
from layerwise.studies.study import Outcome, Run
from layerwise.studies.transferability.experiment import TREATMENTS, Place, Scope
from layerwise.studies.transferability.pairs import Pair, Side, Tasks
from layerwise.studies.transferability.results import curves_of, ranges
from layerwise.training.recipe import Recipe
from layerwise.training.transfer import Transfer

N = 200  # test images of a task
CUTS, NUMBERS = ("one", "two", "three"), (1, 2, 4)

# how many of the 200 test images each treatment gets right, by target; of random 1 as of groups
BASE = {"a": 160, "b": 150, "x": 140, "y": 180}
LOSS = {  # of right images below the base, at the three cuts
    "BnB": (0, 10, 4),
    "BnB+": (-2, 0, -4),
    "AnB": (2, 20, 40),
    "AnB+": (-6, -8, -10),
    "random filters": (30, 60, 90),
}
MORE = {"x": 20, "y": 30}  # AnB loses so many more between groups


def said(right: int, count: int = N, labels: int = 3) -> Predictions:
    """The first images right, the others wrong: so any two of these are nested."""
    targets = np.arange(count) % labels
    guess = np.where(np.arange(count) < right, targets, (targets + 1) % labels)
    scores = np.full((count, labels), 0.1, np.float32)
    scores[np.arange(count), guess] = 0.8
    ids = np.array([f"{i}" for i in range(count)])
    return Predictions(ids, targets, scores, ids)


def a_space(key: str, train: int = 90) -> SimpleNamespace:
    number = f"{sum(map(ord, key)):08x}"
    manifest = SimpleNamespace(task="multiclass", labels=("p", "q", "r"))
    return SimpleNamespace(manifest=manifest, data_key=number, rows=lambda _part: range(train))


def finished(place: Place, right: int, train: int = 89) -> Done:
    run = Run(place.name, "trained", {"of": place.name})
    planned = Planned(place.target, place.treatment, Transfer(), Recipe(epochs=7), 0)
    parts = {"test": said(right), "train": said(train, 90)}
    return Done(planned, run, Outcome(run, 1.0, 1, said(1), parts=parts))


def right_of(treatment: str, target: str, index: int) -> int:
    more = MORE.get(target, 0) if treatment == "AnB" else 0
    return BASE[target] - LOSS[treatment][index] - more


@pytest.fixture(scope="module")
def study():  # type: ignore[no-untyped-def]
    sides = {name: Side(name, ("p", "q", "r"), name) for name in BASE}
    pairs = (
        Pair("random 1", "random", sides["a"], sides["b"]),
        Pair("x / y", "groups", sides["x"], sides["y"]),
    )
    smaller = {0.5: "b, half"}
    spaces = {name: a_space(name) for name in BASE} | {"b, half": a_space("b, half", 45)}
    done = {}
    for target, source in (("a", "b"), ("b", "a"), ("x", "y"), ("y", "x")):
        for place, right in [
            (Place("base", target), BASE[target]),
            (Place("base, twice as long", target), BASE[target] + 2),
        ]:
            done[place] = finished(place, right)
        for treatment in LOSS:
            copied = {"AnB": source, "AnB+": source, "random filters": None}.get(treatment, target)
            for index, cut in enumerate(CUTS):
                place = Place(treatment, target, copied, cut)
                done[place] = finished(place, right_of(treatment, target, index))
    place = Place("overfitting", "b", fraction=0.5)
    done[place] = finished(place, 100, train=90)
    scope = Scope(TREATMENTS, CUTS, NUMBERS, Recipe(), 0, 1, True)
    return Tasks(pairs, spaces), scope, done, smaller


@pytest.fixture(scope="module")
def curves(study):  # type: ignore[no-untyped-def]
    return curves_of(*study, draws=2000)


def of(rows, **wanted):  # type: ignore[no-untyped-def]
    (row,) = [r for r in rows if all(r[k] == v for k, v in wanted.items())]
    return row


def test_every_network_has_its_point(curves):
    assert curves["layers"] == list(CUTS)
    assert curves["numbers"] == [1, 2, 4]
    assert len(curves["points"]) == 4 * (2 + 5 * 3)
    for target, pair, source in (("a", "random 1", "b"), ("y", "x / y", "x")):
        for treatment in LOSS:
            for index, cut in enumerate(CUTS):
                row = of(curves["points"], target=target, treatment=treatment, cut=cut)
                right = right_of(treatment, target, index)
                assert row["accuracy"]["value"] == pytest.approx(right / N)
                less = right - BASE[target]
                assert row["difference_to_base"]["value"] == pytest.approx(less / N)
                assert (row["pair"], row["layer"]) == (pair, NUMBERS[index])
                copied = {"AnB": source, "AnB+": source, "random filters": None}
                assert row["source"] == copied.get(treatment, target)
    base = of(curves["points"], target="b", treatment="base")
    assert (base["cut"], base["layer"]) == (None, 0)
    assert base["difference_to_base"]["low"] == base["difference_to_base"]["high"] == 0


def test_the_intervals_are_those_of_images_drawn_at_random(curves):
    for target, right in BASE.items():
        found = of(curves["points"], target=target, treatment="base")["accuracy"]
        p = right / N  # resampled, the number of right ones is binomial
        assert found["low"] == pytest.approx(binom.ppf(0.025, N, p) / N, abs=0.011)
        assert found["high"] == pytest.approx(binom.ppf(0.975, N, p) / N, abs=0.011)
    # Paired: the difference is the share of the 10 images that only the base gets right.
    lost = of(curves["points"], target="a", treatment="BnB", cut="two")["difference_to_base"]
    assert lost["low"] == pytest.approx(-binom.ppf(0.975, N, 10 / N) / N, abs=0.0051)
    assert lost["high"] == pytest.approx(-binom.ppf(0.025, N, 10 / N) / N, abs=0.0051)
    same = of(curves["points"], target="a", treatment="BnB", cut="one")["difference_to_base"]
    assert (same["low"], same["value"], same["high"]) == (0, 0, 0)


def test_means_are_over_both_directions_of_a_kind(curves):
    for kind, targets in (("random", "ab"), ("groups", "xy")):
        for treatment in LOSS:
            for index, cut in enumerate(CUTS):
                row = of(curves["means"], kind=kind, treatment=treatment, cut=cut)
                each = [right_of(treatment, t, index) for t in targets]
                assert row["accuracy"]["value"] == pytest.approx(np.mean(each) / N)
                less = np.mean(each) - np.mean([BASE[t] for t in targets])
                assert row["difference_to_base"]["value"] == pytest.approx(less / N)
    # of independent tasks: the mean's interval is narrower than that of either
    wide = [of(curves["points"], target=t, treatment="base")["accuracy"] for t in "ab"]
    mean = of(curves["means"], kind="random", treatment="base")["accuracy"]
    assert mean["high"] - mean["low"] < 0.85 * min(w["high"] - w["low"] for w in wide)


def test_the_loss_of_frozen_copies_is_split_in_two(curves):
    for index, cut in enumerate(CUTS):
        row = of(curves["decomposition"], kind="random", cut=cut)
        lost, total = LOSS["BnB"][index] / N, LOSS["AnB"][index] / N
        assert row["coadaptation"]["value"] == pytest.approx(lost)
        assert row["specificity"]["value"] == pytest.approx(total - lost)
        assert row["total"]["value"] == pytest.approx(total)
        other = of(curves["decomposition"], kind="groups", cut=cut)
        assert other["total"]["value"] == pytest.approx(total + 25 / N)  # 20 and 30 more


def test_table_1(curves):
    rows = [row for row in curves["table1"] if row["kind"] == "random"]
    assert [row["layers"] for row in rows] == ["1-4", "2-4"]
    for row, start in zip(rows, (0, 1), strict=True):
        tuned, selffer = LOSS["AnB+"][start:], LOSS["BnB+"][start:]
        assert row["over_base"]["value"] == pytest.approx(-np.mean(tuned) / N)
        gained = np.mean(selffer) - np.mean(tuned)
        assert row["over_selffer"]["value"] == pytest.approx(gained / N)
        assert row["over_longer"]["value"] == pytest.approx((-np.mean(tuned) - 2) / N)


def test_the_ranges_of_layers_are_those_of_the_paper():
    assert ranges(7) == [0, 2, 4]  # 1-7, 3-7, 5-7
    assert ranges(4) == [0, 1, 2]
    assert ranges(1) == [0]
    assert ranges(0) == []


def test_dissimilar_less_similar(curves):
    for index, cut in enumerate(CUTS):
        rows = {
            row["kind"]: row["difference_to_base"]["value"]
            for row in curves["kinds_compared"]
            if row["cut"] == cut
        }
        assert rows["random"] == pytest.approx(-LOSS["AnB"][index] / N)
        assert rows["groups"] == pytest.approx(-(LOSS["AnB"][index] + 25) / N)
        assert rows["groups minus random"] == pytest.approx(-25 / N)
        assert rows["random filters"] == pytest.approx(-LOSS["random filters"][index] / N)
        assert len(rows) == 4


def test_overfitting_is_the_gap_of_training_and_test_images(curves):
    found = curves["overfitting"]
    assert found["task"] == "b"
    whole, half = found["rows"]
    assert (whole["per_class"], whole["images"], whole["epochs"]) == (30, 90, 7)
    assert (half["per_class"], half["images"]) == (15, 45)
    assert whole["gap"]["value"] == pytest.approx(89 / 90 - 150 / N)
    assert half["train"]["value"] == 1
    assert half["gap"]["value"] == pytest.approx(1 - 100 / N)
    assert [row["task"] for row in found["bases"]] == ["a", "b", "x", "y"]


def test_a_place_whose_run_failed_is_left_out_and_the_others_stay(study):
    tasks, scope, done, smaller = study
    place = Place("BnB", "a", "a", "two")
    broken = {**done, place: Done(done[place].planned, done[place].run, None, "diverged")}
    found = curves_of(tasks, scope, broken, smaller, draws=50)
    assert len(found["points"]) == 4 * 17 - 1
    row = of(found["means"], kind="random", treatment="BnB", cut="two")
    assert row["accuracy"]["value"] == pytest.approx((150 - 10) / N)  # of b alone
    parts = of(found["decomposition"], kind="random", cut="two")  # adds up: of b alone
    assert parts["coadaptation"]["value"] + parts["specificity"]["value"] == pytest.approx(
        parts["total"]["value"]
    )
    assert parts["total"]["value"] == pytest.approx(20 / N)


def test_repeats_are_averaged_and_told(study):
    tasks, scope, done, _ = study
    two = Scope(("base", "BnB"), CUTS, NUMBERS, Recipe(), 0, 2, True)
    more = dict(done)
    for place in done:
        again = Place(**{**vars(place), "repeat": 1})
        right = BASE[place.target] - (12 if place.treatment == "BnB" else 4)
        more[again] = finished(again, right)
    found = curves_of(tasks, two, more, {}, draws=50)
    row = of(found["points"], target="a", treatment="BnB", cut="two")
    assert row["accuracy"]["repeats"] == pytest.approx([150 / N, 148 / N])
    assert row["difference_to_base"]["repeats"] == pytest.approx([-10 / N, -8 / N])
    assert row["difference_to_base"]["sd"] == pytest.approx(np.std([-10 / N, -8 / N], ddof=1))
    assert found["overfitting"]["rows"] == []
    # one that failed leaves the other repeat, whose difference is to the mean of both bases
    failed = Place("BnB", "a", "a", "two", 1)
    more[failed] = Done(more[failed].planned, more[failed].run, None, "diverged")
    row = of(
        curves_of(tasks, two, more, {}, draws=50)["points"], target="a", treatment="BnB", cut="two"
    )
    assert row["accuracy"]["repeats"] == pytest.approx([150 / N])
    assert row["difference_to_base"]["value"] == pytest.approx((150 - 158) / N)
