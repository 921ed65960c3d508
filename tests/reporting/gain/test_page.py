"""The figures and tables of a gain study: what is drawn is what was measured."""

import re
import xml.etree.ElementTree as ElementTree

import pytest

from layerwise.reporting.gain.figures import PAIRS_A_ROW, gains, pairs
from layerwise.reporting.study_page import csv_text, standalone
from layerwise.studies.gain.scores import MEAN, Bar


def bar(network, fraction, label, metric, random, gain, p=0.01, sd=0.01):
    def interval(value):
        return {
            "value": value,
            "low": value - 0.02,
            "high": value + 0.02,
            "sd": sd,
            "repeats": [value],
        }

    tested = interval(gain) | {"p": p, "p_holm": p}
    return Bar(
        network, fraction, label, metric, interval(random), interval(random + gain), tested, (0,)
    )


def group(networks, label=MEAN, gain=0.1, p=0.01, **more):
    return [
        bar(n, 1.0, label, metric, 0.6, gain, p, **more)
        for n in networks
        for metric in ("auroc", "auprc")
    ]


def heights(svg):
    """(height, whether hatched) of every bar that is drawn, in points, but for the legend's."""
    found = []
    for style, path in re.findall(r'<path d="([^"]*)"[^>]*style="([^"]*)"', svg):
        points = [tuple(map(float, p)) for p in re.findall(r"([\d.]+) ([\d.]+)", style)]
        if "stroke-width: 0.6" in path and len(points) == 4:
            ys = [y for _, y in points]
            found.append((max(ys) - min(ys), "url(#" in path))
    return found


def test_bars_are_as_high_as_their_scores():
    """AUROC from 0.5: 0.6 and 0.7 as 1 to 2; AUPRC from 0: 0.6 and 0.7 as 6 to 7."""
    svg = pairs("figure4", {"5%": group(["a"])}, {"5%": 0.3}, "said")
    drawn = heights(svg)
    random = [h for h, hatched in drawn if hatched][:2]
    transferred = [h for h, hatched in drawn if not hatched][:2]
    assert transferred[0] / random[0] == pytest.approx(2, rel=1e-3)
    assert transferred[1] / random[1] == pytest.approx(7 / 6, rel=1e-3)


def test_a_figure_names_everything_once_and_stands_alone():
    svg = pairs(
        "figure4", {"5%\n88 images": group(["net a", "net b"]), "all": group(["net c"])}, {}, "said"
    )
    root = ElementTree.fromstring(standalone(svg))
    texts = [e.text for e in root.iter() if e.tag.endswith("text") and e.text]
    for words in ("5%", "88 images", "all", "net a", "net b", "net c", "AUROC", "AUPRC"):
        assert texts.count(words) == 1, words
    assert "var(" not in standalone(svg) and 'aria-label="said"' in svg


@pytest.mark.parametrize(("p", "marked"), [(0.01, True), (0.2, False)])
def test_marks_stand_where_differences_are_beyond_noise(p, marked):
    svg = pairs("figure4", {"5%": group(["a"], p=p)}, {}, "said")
    assert ("beyond noise" in svg) == marked


def test_one_repeat_has_no_deviation_and_no_error():
    svg = pairs("figure4", {"5%": group(["a"], sd=float("nan"))}, {}, "said")
    assert svg.startswith("<svg")


def test_undefined_scores_leave_their_place_empty():
    nan = float("nan")
    bars = [bar("a", 1.0, "x", m, nan, nan, nan, nan) for m in ("auroc", "auprc")]
    full = pairs("figure3", {"x": bars, "y": group(["a"])}, {"x": nan}, "said")
    assert len(heights(full)) == len(heights(pairs("figure3", {"y": group(["a"])}, {}, "said")))


def test_many_labels_go_into_several_rows():
    labels = [f"label {i}" for i in range(13)]
    svg = pairs("figure3", {x: group(list("abcd"), x) for x in labels}, {}, "said")
    assert 13 * 5 > 2 * PAIRS_A_ROW
    assert all(svg.count(f">{label}<") == 1 for label in labels)
    assert svg.count(">AUROC<") == svg.count(">AUPRC<") == 4


def test_the_gain_is_drawn_filled_where_it_is_beyond_noise():
    clear = gains(group(["a"]), {1.0: "100%"})
    unclear = gains(group(["a"], p=0.5), {1.0: "100%"})
    assert clear != unclear
    assert "AUROC, TL − RI" in clear and "a at 100% AUROC +0.100" in clear


def test_equal_figures_have_equal_bytes():
    one, other = (pairs("figure4", {"5%": group(["a", "b"])}, {"5%": 0.2}, "x") for _ in range(2))
    assert one == other


def test_intervals_are_columns_of_the_csv():
    from layerwise.reporting.gain.page import _flat

    heading, row = csv_text([_flat(bar("a", 0.05, MEAN, "auroc", 0.6, 0.1))]).splitlines()
    found = dict(zip(heading.split(","), row.split(","), strict=True))
    assert float(found["RI"]) == 0.6 and float(found["TL"]) == pytest.approx(0.7)
    assert float(found["gain_low"]) == pytest.approx(0.08)
    assert float(found["RI_sd"]) == 0.01
    assert (found["p_holm"], found["beyond_noise"]) == ("0.01", "true")
