"""What the page of a drift comparison says and shows, of numbers made for it."""

import csv
import io
import json

import numpy as np
import pytest

from layerwise.reporting.drift.figures import apart, distributions, drawn
from layerwise.reporting.drift.page import drift_page
from layerwise.reporting.drift.words import (
    WITHOUT_LABELS,
    advice,
    answer,
    broken,
    moved,
    quality,
    title,
)
from layerwise.reporting.study_page import csv_text, render, write_study

EDGES = list(np.linspace(0, 256, 65))


def distance(value, expected=0.02, bound=0.04):
    return {
        "value": value,
        "expected": expected,
        "bound": bound,
        "p": 0.0005,
        "excess": max(0.0, value - expected),
    }


def quantity(name, verdict, psi=0.03, kind="input", label_edges=EDGES):
    counts = np.zeros(len(label_edges) - 1, int)
    counts[20:40] = 5
    now = np.roll(counts, 8) * 2
    return {
        "kind": kind,
        "name": name,
        "verdict": verdict,
        "reference_images": 100,
        "images": 200,
        "before": {"value": 120.0, "low": 90.0, "high": 150.0},
        "after": {"value": 152.0, "low": 122.0, "high": 182.0},
        "psi": distance(psi),
        "js": distance(0.2),
        "ks": distance(0.3),
        "p": 0.0005,
        "p_holm": 0.008,
        "edges": label_edges,
        "counts": {"before": counts.tolist(), "after": now.tolist()},
    }


def proportion(kind, name, verdict, before=0.25, after=0.4):
    gap = {"value": after - before, "low": after - before - 0.08, "high": after - before + 0.08}
    return {
        "kind": kind,
        "name": name,
        "verdict": verdict,
        "reference_images": 100,
        "images": 200,
        "before": {"value": before, "low": before - 0.05, "high": before + 0.05},
        "after": {"value": after, "low": after - 0.05, "high": after + 0.05},
        "difference": gap,
        "p": 0.0001,
        "p_holm": 0.0004,
        "edges": [0, 1, 2],
        "counts": {"before": [75, 25], "after": [120, 80]},
    }


def results(*quantities, **changes):
    checks = dict.fromkeys(("negative", "window", "bars", "resolution", "blank", "colour"), False)
    values = {
        "command": "layerwise drift bundle statistics",
        "seconds": 1.2,
        "bundle": {"name": "chest <b>", "id": "0123456789ab"},
        "data": {"name": "statistics", "labels": ["NORMAL", "PNEUMONIA"]},
        "since": None,
        "until": None,
        "limits": {
            "measure": "psi",
            "threshold": 0.1,
            "share": 0.05,
            "sign": 0.01,
            "alpha": 0.05,
            "clump": 1.0,
        },
        "reference": {"images": 100, "answers": 60},
        "images": 200,
        "drifted": any(q["verdict"] == "drifted" for q in quantities),
        "checks": checks,
        "prevalence": None,
        "quantities": list(quantities),
        "quality": None,
        "notes": [],
    }
    return values | changes


SOME = (
    quantity("brightness", "drifted", psi=0.83),
    quantity("contrast", "none"),
    quantity("PNEUMONIA", "within noise", kind="score"),
    proportion("decided", "PNEUMONIA", "drifted"),
    proportion("sign", "negative", "none", 0.001, 0.002),
)


def test_the_first_sentence_says_what_to_do():
    assert advice(results(*SOME)) == (
        "Drift: 2 of 5 quantities of 200 pictures differ from training by more than chance and by "
        "more than matters. Look at the pictures before trusting the model further."
    )
    only = advice(results(SOME[1], SOME[3]))
    assert "1 of 2" in only and "Look at the scores" in only
    assert advice(results(SOME[1])).startswith("No drift: each of 1 quantities")
    few = advice(results(SOME[1], SOME[2]))
    assert few.startswith("No drift is seen in 200 pictures, but they are too few")
    assert "1 of 2 quantities (Probability of PNEUMONIA)" in few


def test_how_far_it_moved_is_said_in_numbers():
    assert moved(SOME[0], "psi") == (
        "Mean brightness: median 152.0 instead of 120.0; PSI 0.830, by chance 0.020."
    )
    assert moved(SOME[3], "psi") == (
        "Decided PNEUMONIA: 40.0% of 200 pictures instead of 25.0% of 100, +15.0 points "
        "(95% +7.0 to +23.0)."
    )
    bars = quantity("bars", "drifted") | {
        "before": {"value": 0.0001, "low": 0.0, "high": 0.001},
        "after": {"value": 0.0002, "low": 0.0, "high": 0.08},
    }
    assert "Area in bars: highest tenth from 8.0% instead of 0.1%" in moved(bars, "ks")


def test_the_farthest_are_said_first_and_the_others_named():
    many = [
        quantity(name, "drifted", psi=0.2 + k / 10)
        for k, name in enumerate(("brightness", "contrast", "black", "white", "detail", "side"))
    ]
    said = answer(results(*many))
    assert said[1].startswith("Longer side, pixels: median 152 instead of 120; PSI 0.700")
    assert said[6] == "Less far: Mean brightness."


def test_what_may_be_broken_is_said_and_what_can_not_be_told():
    checks = {"negative": True, "window": None, "bars": False, "blank": False}
    said = broken(checks)
    assert said.startswith("What may be broken: pictures that look like negatives (check MONO")
    assert "No sign of bars or blank pictures." in said
    assert said.endswith("Not to be told here: other grey levels.")


def test_without_labels_quality_is_not_known_and_with_them_it_is_compared():
    assert answer(results(*SOME))[-1] == WITHOUT_LABELS
    auroc = {"value": 0.9, "low": 0.88, "high": 0.92}
    better = {"value": 0.97, "low": 0.95, "high": 0.98}
    said = quality({"now": {"auroc": auroc}, "test": {"auroc": better}})
    assert "0.900 (0.880–0.920)" in said and "worse by 0.070, more than noise explains" in said
    none = quality({"now": {"auroc": {"value": None}}, "test": {"auroc": better}})
    assert "was not compared" in none


def test_the_true_share_is_said_with_its_condition():
    known = {"value": 0.3, "low": 0.25, "high": 0.35, "label": "PNEUMONIA"}
    known |= {"sensitivity": 0.9, "specificity": 0.8}
    said = " ".join(answer(results(*SOME, prevalence=known)))
    assert "If the model finds 90.0% and leaves alone 80.0%" in said
    assert "30.0% of these pictures are truly PNEUMONIA (95% 25.0% to 35.0%" in said


def test_bins_are_drawn_where_there_is_something_and_keep_all_pictures():
    edges, before, after = drawn(SOME[0])
    assert len(edges) == len(before) + 1 == len(after) + 1 <= 26
    assert (edges[0], edges[-1]) == (80.0, 192.0)  # bins 20 to 47 of 4 grey levels
    assert sum(before) == pytest.approx(1) and sum(after) == pytest.approx(1)


def test_figures_say_what_they_show():
    assert "Mean brightness 0.83; Contrast 0.03" in apart(SOME[:3], "psi", 0.1)
    assert "Distributions in training and now of: Mean brightness, Contrast" in distributions(
        SOME[:2]
    )


def test_the_page_and_its_files(tmp_path):
    made = results(*SOME)
    page = drift_page(made)
    write_study(tmp_path, made, page, "drift.json", "drift.html")
    assert {p.name for p in tmp_path.iterdir()} == {
        "drift.html",
        "drift.json",
        "distances.svg",
        "distances.csv",
        "distributions.svg",
        "distributions.csv",
        "shares.svg",
        "shares.csv",
        "quantities.csv",
        "decisions.csv",
    }
    html = (tmp_path / "drift.html").read_text()
    assert "chest &lt;b&gt;" in html and "chest <b>" not in html
    assert "Burnt-in text, markers" in html and "Layerwise drift" in html
    assert "goes on where it stopped" not in html
    assert json.loads((tmp_path / "drift.json").read_text())["drifted"] is True
    rows = list(csv.DictReader(io.StringIO((tmp_path / "quantities.csv").read_text())))
    assert [row["quantity"] for row in rows] == [title(SOME[k]) for k in (0, 2, 1)]
    assert float(rows[0]["psi"]) == 0.83
    table = csv_text(page.figures[1].rows)
    assert table.startswith("quantity,from,to,before,now\nMean brightness,80.0,88.0,")


def test_nothing_known_is_a_page_too():
    row = quantity("brightness", "not known")
    for key in ("psi", "js", "ks"):
        del row[key]
    made = results({**row, "before": None, "after": None, "p": None, "p_holm": None}, images=0)
    assert "Not known, on one side or both: Mean brightness." in render(made, drift_page(made))
