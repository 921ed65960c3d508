"""The three sentences, and how numbers are written."""

import math

import pytest

from layerwise.reporting import text


@pytest.mark.parametrize(
    ("transfer", "expected"),
    [
        (
            {"source": "w", "keep": "all", "copy": "all", "freeze": "none"},
            "keep the whole of M, start from the pretrained weights, and fine-tune every layer",
        ),
        (
            {"source": "w", "keep": "l3", "copy": "l3", "freeze": "l3"},
            "keep M up to l3 and cut off everything above it, start from the pretrained weights, "
            "and freeze them all, training only a new classifier on top",
        ),
        (
            {"source": "w", "keep": "all", "copy": "l2", "freeze": "l1"},
            "keep the whole of M, copy the pretrained weights up to l2, start the layers above it "
            "at random, and freeze the layers up to l1 and fine-tune those above it",
        ),
        (
            {"source": "none", "keep": "all", "copy": "none", "freeze": "none"},
            "keep the whole of M, start its layers from random weights, and train every layer",
        ),
    ],
)
def test_a_transfer_as_advice(transfer, expected) -> None:
    assert text.advice(transfer, "M") == expected


def test_the_answer_holds_the_numbers(make) -> None:
    results, evidence = make("binary")
    first, second, third = text.answer(results, evidence)
    assert first == (
        "For these images keep timm:mobilenetv2_100 up to blocks.4 and cut off everything above "
        "it, start from the pretrained weights, and fine-tune every layer."
    )
    test = results["test"]
    assert second.startswith("On 300 test images of 150 patients it reaches an AUROC of ")
    assert f"{test['auroc']['value']:.3f} ({test['auroc']['low']:.3f}–" in second
    assert f"{100 * test['accuracy']['value']:.1f}%" in second and "threshold 0.410" in second
    assert f"a specificity of {100 * test['specificity']['value']:.1f}%" in second
    assert "random forest, reaches 0.870 (0.850–0.890)" in third and "better by 0.0" in third
    assert "both other runs are within noise of it" in third


def test_other_tasks(make) -> None:
    results, evidence = make("multiclass")
    assert "where every class counts the same" in text.how_well(results, evidence)
    results, evidence = make("multilabel")
    assert "at the thresholds chosen on validation" in text.how_well(results, evidence)
    assert text.thresholds(evidence)[0] == ("Edema", "0.400")


def test_nothing_to_compare(make) -> None:
    results, evidence = make("binary", bare=True)
    first, second, third = text.answer(results, evidence)
    assert first.startswith("No network was chosen")
    assert "patients" not in second
    assert third == "Nothing else was measured to compare it with."
    results["test"]["auroc"] = {"value": None, "low": None, "high": None}
    assert "not defined, because a class is missing" in text.how_well(results, evidence)


def span(value: float, low: float, high: float) -> dict[str, float]:
    return {"value": value, "low": low, "high": high}


def test_noise_is_called_noise() -> None:
    own = span(0.95, 0.93, 0.97)
    assert text.within_noise(own, span(0.92, 0.90, 0.94))
    assert not text.within_noise(own, span(0.88, 0.86, 0.90))
    # a paired difference knows more than two intervals that overlap
    assert not text.within_noise(own, span(0.92, 0.90, 0.94), span(0.03, 0.01, 0.05))
    assert text.within_noise(own, span(0.88, 0.86, 0.90), span(0.07, -0.01, 0.15))
    assert text.judge(own, span(0.92, 0.9, 0.94), span(0.03, 0.01, 0.05)) == (
        "better by 0.030 (95% interval 0.010 to 0.050), more than noise explains"
    )
    assert text.judge(own, span(0.98, 0.975, 0.99)).startswith("worse by 0.030")
    assert "gap of −0.010 is within noise" in text.judge(own, span(0.96, 0.94, 0.98))


def test_runs_against_the_chosen() -> None:
    def runs(*values: float) -> dict:
        return {
            "chosen": "0",
            "runs": [
                {
                    "id": str(k),
                    "name": f"run {k}",
                    "state": "done",
                    "kind": "floor" if v < 0.6 else "trained",
                    "validation": {"auroc": span(v, v - 0.01, v + 0.01)},
                }
                for k, v in enumerate(values)
            ],
        }

    say = text._against_the_runs
    assert say(runs(0.9)) == say(runs(0.9, 0.5)) == ""  # baselines are spoken of elsewhere
    assert say(runs(0.9, 0.8)).endswith("run 1, is behind it by more than noise")
    assert say(runs(0.9, 0.8, 0.7, 0.75)).startswith("on validation all 3 other runs are behind")
    assert say(runs(0.9, 0.895, 0.7, 0.75)) == (
        "on validation 1 of the 3 other runs is within noise of it; the nearest, run 1, has an "
        "AUROC of 0.895 (0.885–0.905)"
    )


def test_numbers() -> None:
    assert [text.number(v) for v in (0.98765, -0.5, math.nan, None, 0.0, 4e-5, -4e-4)] == [
        "0.988",
        "−0.500",
        "—",
        "—",
        "0.000",
        "4.0e-05",
        "−4.0e-04",
    ]
    assert text.number(0.8834, percent=True) == "88.3%"
    assert text.with_interval({"value": 0.5, "low": None, "high": math.nan}) == "0.500"
    assert text.with_interval({"value": 0.5, "low": 0.4, "high": 0.6}, True) == "50.0% (40.0–60.0%)"
    assert text.with_interval({}) == text.with_interval(None) == "—"
    assert [text.quantity(v) for v in (None, 812, 14_200, 2_223_872, 1.53e9)] == [
        "—",
        "812",
        "14.2 k",
        "2.22 M",
        "1.53 G",
    ]
    assert [text.duration(v) for v in (0.42, 59.6, 200, 3900, None)] == [
        "0.4 s",
        "1 min 00 s",
        "3 min 20 s",
        "1 h 05 min",
        "—",
    ]


def row(name, cut, value, low, high):
    return {"name": name, "cut": cut, "accuracy": {"value": value, "low": low, "high": high}}


def test_which_depth_transfers_best():
    level = row("random initialisation", None, 0.80, 0.78, 0.82)
    rows = [level, row("AnB", "c1", 0.85, 0.83, 0.87), row("AnB+", "c2", 0.90, 0.88, 0.92)]
    assert text.transfers_best(rows) == (
        "Best of all is AnB+ up to c2, with an accuracy of 0.900 (0.880–0.920): beyond what "
        "random initialisation reaches, 0.800 (0.780–0.820)."
    )
    rows = [level, row("AnB", "c1", 0.81, 0.79, 0.83)]
    assert "within noise of what random initialisation reaches" in text.transfers_best(rows)
    assert text.transfers_best([level]) == ""
