"""The figures: what is drawn, read back from the SVG, is what the curves hold."""

import math
import re
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest

from layerwise.reporting.transferability.contrasts import figure3, figure3_rows
from layerwise.reporting.transferability.figures import figure2, figure2_rows, interpretations
from layerwise.reporting.transferability.findings import kinds
from layerwise.reporting.transferability.losses import (
    decomposition,
    decomposition_rows,
    overfitting,
    overfitting_rows,
)

QUICK = {"groups": {"AnB": [-0.002, -0.03, -0.08], "AnB+": [0.0, 0.0, -0.005]}}
THREE = ["conv1", "conv2", "fc1"]


def texts(svg: str) -> list[str]:
    return [t.text or "" for t in ElementTree.fromstring(svg).iter() if t.tag.endswith("}text")]


def drawn(svg: str, element: str) -> np.ndarray:
    """The places of an element's markers, (N, 2), upwards."""
    root = ElementTree.fromstring(svg)
    found = [e for e in root.iter() if e.get("id") == element]
    assert len(found) == 1, element
    uses = [e for e in found[0].iter() if e.tag.endswith("}use")]
    return np.array([[float(e.get("x", "nan")), -float(e.get("y", "nan"))] for e in uses])


def linear(places: np.ndarray, values: list[float]) -> bool:
    """Whether heights are the values, on a scale unknown."""
    slope, rise = np.polyfit(values, places, 1)
    return slope > 0 and np.allclose(slope * np.array(values) + rise, places, atol=0.02)


def test_networks_of_figure2_are_where_their_accuracies_are(fabricate):
    curves = fabricate()
    svg = figure2(curves)
    every = {"base": "base", "BnB": "BnB", "BnB+": "BnB-tuned", "AnB": "AnB", "AnB+": "AnB-tuned"}
    heights, values = [], []
    for treatment, name in every.items():
        points = [
            p for p in curves["points"] if p["treatment"] == treatment and p["kind"] == "random"
        ]
        given = [v for p in points for v in p["accuracy"]["repeats"]]
        places = drawn(svg, f"figure2-points-{name}")
        # Two splits, both directions, two repeats: eight networks at every layer.
        assert len(places) == len(given) == 8 * (1 if treatment == "base" else 7)
        heights += list(places[:, 1])
        values += given
        layers = [p["layer"] for p in points for _ in p["accuracy"]["repeats"]]
        step = (np.polyfit(layers, places[:, 0], 1)[0]) if treatment != "base" else None
        assert step is None or np.allclose(
            places[:, 0] - places[0, 0], step * (np.array(layers) - layers[0]), atol=0.02
        )
    assert linear(np.array(heights), values)


def test_rows_of_figure2_are_the_numbers_of_the_curves(fabricate):
    curves = fabricate()
    rows = figure2_rows(curves)
    means = [row for row in rows if row["panel"] == "means"]
    expected = {
        (m["treatment"], m["layer"]): m["accuracy"]["value"]
        for m in curves["means"]
        if m["kind"] == "random" and m["treatment"] != "random filters"
    }
    assert {(r["treatment"], r["layer"]): r["accuracy"]["value"] for r in means} == expected
    assert len([r for r in rows if r["panel"] == "networks"]) == 8 * (2 + 4 * 7)
    assert {r["cut"] for r in means if r["layer"] == 3} == {"conv3"}


def test_numbered_interpretations_stand_at_their_lines(fabricate):
    curves = fabricate()
    marks = {m["number"]: m for m in interpretations(kinds(curves)[0])}
    assert {n: (m["treatment"], list(m["layers"])) for n, m in marks.items()} == {
        1: ("base", [0]),
        2: ("BnB", [3, 4, 5, 6]),
        3: ("BnB+", [3, 4, 5, 6]),
        4: ("AnB", [4, 5, 6, 7]),  # where the features themselves are specific
        5: ("AnB+", [1, 2, 3, 4, 5, 6, 7]),
    }
    svg = figure2(curves)
    root = ElementTree.fromstring(svg)
    ids = [e.get("id") for e in root.iter()]
    assert [i for i in ids if i and "interpretation" in i] == [
        f"figure2-interpretation-{n}" for n in range(1, 6)
    ]
    said = texts(svg)
    assert "2. BnB is below the base at layers 3–6: fragile co-adaptation" in said
    assert "4. AnB is below the base at layers 3–7; features are specific at layers 4–7" in said


def test_interpretations_that_do_not_apply_are_left_out(fabricate):
    null = {"random": {t: [0.001, -0.002, 0.0] for t in ("BnB", "BnB+", "AnB", "AnB+")}}
    curves = fabricate(null, THREE)
    assert [m["number"] for m in interpretations(kinds(curves)[0])] == [1]
    assert not any(
        "interpretation-2" in part for part in re.findall(r'id="[^"]+"', figure2(curves))
    )
    # Above the base, but not above the base trained twice as long: no boost.
    longer = fabricate({"random": {"AnB+": [0.03] * 3}}, THREE, longer=0.04)
    assert [m["number"] for m in interpretations(kinds(longer)[0])] == [1]


def test_figure3_rows_and_lines(fabricate):
    curves = fabricate()
    rows = figure3_rows(curves)
    normal = {
        (r["line"], r["layer"]): r["difference_to_base"]["value"]
        for r in rows
        if r["panel"] == "normalised"
    }
    assert normal["random halves of the classes (2 splits)", 7] == pytest.approx(-0.08)
    assert normal["named groups: man-made / natural", 7] == pytest.approx(-0.25)
    assert normal["random filters", 7] == pytest.approx(-0.5)
    targets = [r for r in rows if r["panel"] == "dissimilar"]
    assert {r["line"] for r in targets} == {"to man-made", "to natural"}
    assert {r["layer"] for r in targets} == set(range(8))
    # Targets were made 0.02 above and below the mean of 0.72.
    bases = sorted(r["accuracy"]["value"] for r in targets if r["layer"] == 0)
    assert bases == pytest.approx([0.7, 0.74])
    filters = [r for r in rows if r["panel"] == "random filters" and r["kind"] == "groups"]
    values = [r["accuracy"]["value"] for r in filters]
    assert values == pytest.approx([0.72, 0.6, 0.52, 0.39, 0.32, 0.26, 0.22, 0.22])
    svg = figure3(curves)
    assert {"From other tasks, by target", "Random filters"} <= set(texts(svg))
    heights = [
        height
        for line in ("random-halves-of-the-classes-2-splits", "random-filters")
        for height in drawn(svg, f"figure3-normalised-{line}")[:, 1]
    ]
    values = [
        normal[line, n]
        for line in list(dict.fromkeys(k[0] for k in normal))[::2]
        for n in range(1, 8)
    ]
    assert linear(np.array(heights), values)
    assert "chance 0.225" in texts(svg)


def test_decomposition_bars_have_their_heights(fabricate):
    curves = fabricate()
    rows = decomposition_rows(curves)
    given = {(d["kind"], d["layer"]): d for d in curves["decomposition"]}
    assert len(rows) == len(given) == 14
    for row in rows:
        for part in ("coadaptation", "specificity", "total"):
            assert row[part]["value"] == given[row["kind"], row["layer"]][part]["value"]
    svg = decomposition(curves)
    root = ElementTree.fromstring(svg)
    sizes, values = [], []
    for (kind, layer), found in given.items():
        for part in ("coadaptation", "specificity"):
            bar = next(
                e for e in root.iter() if e.get("id") == f"decomposition-{kind}-{part}-{layer}"
            )
            path = next(e for e in bar.iter() if e.tag.endswith("}path")).get("d", "")
            y = [float(n) for n in re.findall(r"[ML] [\d.]+ ([\d.]+)", path)]
            if found[part]["value"] > 0:
                sizes.append(max(y) - min(y))
                values.append(found[part]["value"])
    assert np.allclose(np.array(sizes) / np.array(values), sizes[0] / values[0], rtol=0.05)
    assert len(values) > 20


def test_overfitting_is_drawn_against_the_logarithm(fabricate):
    curves = fabricate()
    svg = overfitting(curves)
    found = curves["overfitting"]
    for side in ("train", "test"):
        places = drawn(svg, f"overfitting-{side}-rows")
        per_class = [row["per_class"] for row in found["rows"]]
        assert linear(places[:, 0], list(np.log(per_class)))
        assert linear(places[:, 1], [row[side]["value"] for row in found["rows"]])
    rows = overfitting_rows(curves)
    assert [r["per_class"] for r in rows] == [500, 250, 125, 50] + [None] * 6
    assert [r["gap"]["value"] for r in rows[:4]] == pytest.approx([0.2, 0.3, 0.41, 0.57])
    only_bases = curves | {"overfitting": {**found, "rows": []}}
    assert "Training images per class" not in texts(overfitting(only_bases))


def figures(curves) -> dict[str, str]:
    out = {"figure2": figure2(curves), "figure3": figure3(curves)}
    if curves["decomposition"]:
        out["decomposition"] = decomposition(curves)
    if "overfitting" in curves:
        out["overfitting"] = overfitting(curves)
    return out


@pytest.mark.parametrize("study", ["whole", "quick", "deep", "undefined"])
def test_every_figure_is_whole_and_the_same_each_time(fabricate, study):
    before = dict(matplotlib.rcParams)
    cuts = [f"layer{s}.{i}" for s in range(1, 5) for i in range(5)]
    curves = {
        "whole": lambda: fabricate(),
        "quick": lambda: fabricate(QUICK, THREE, [1, 3, 5], longer=None, overfitting=False),
        "deep": lambda: fabricate({"random": {"AnB": [-0.01 * i for i in range(20)]}}, cuts),
        "undefined": lambda: fabricate(QUICK, THREE, half=math.nan),
    }[study]()
    seen: set[str] = set()
    every = figures(curves)
    assert study != "quick" or every == figures(curves)
    for name, svg in every.items():
        root = ElementTree.fromstring(svg)
        assert root.get("id") == name and root.get("aria-label")
        ids = re.findall(r'\bid="([^"]+)"', svg)
        assert len(ids) == len(set(ids)) and not seen & set(ids)
        seen |= set(ids)
    said = texts(every["figure2"])
    for number, cut in zip(curves["numbers"], curves["layers"], strict=True):
        assert f"{number} {cut}" in said or {str(number), cut} <= set(said)
    assert dict(matplotlib.rcParams) == before


def test_treatments_differ_in_black_and_white():
    from layerwise.reporting.transferability.figures import STYLES

    looks = {
        name: (style["marker"], style.get("markerfacecolor") is None, str(style["linestyle"]))
        for name, style in STYLES.items()
        if name.startswith(("A", "B"))
    }
    assert len(looks) == 4 and len(set(looks.values())) == 4
    assert len({dash for _, _, dash in looks.values()}) == 4
