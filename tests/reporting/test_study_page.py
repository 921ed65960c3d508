"""What a study writes, as text and in a real browser."""

import base64
import csv
import io
import json
import math
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

from layerwise.errors import OutputError
from layerwise.reporting.figures import transfer_comparison
from layerwise.reporting.study_page import (
    Figure,
    StudyPage,
    Table,
    csv_text,
    render,
    standalone,
    write_study,
)

NASTY = "<script>alert('x')</script> & \"$a_b$\""
CUTS = ["conv1", "conv2", "fc1"]


def span(value, half=0.02, **more):
    return {"value": value, "low": value - half, "high": value + half, **more}


def run(name, value, **more):
    validation = {} if value is None else {"accuracy": span(value), "auroc": span(0.5)}
    known = {"treatment": "AnB", "task": "random 1, B", "state": "done", "seconds": 75.0}
    return {"name": name, "parameters": 12_345, "validation": validation, **known, **more}


@pytest.fixture(scope="module")
def made():
    """(results, page) of a small study with names that try to be HTML."""
    rows = [
        {"name": name, "cut": cut, "accuracy": span(0.7 + step * j, sd=0.01, repeats=[0.7, 0.71])}
        for name, step in (("AnB", -0.05), ("AnB+", 0.03))
        for j, cut in enumerate(CUTS)
    ]
    results = {
        "layerwise": "0.1.0",
        "command": "layerwise study transferability pictures",
        "seed": 3,
        "seconds": 3725.0,
        "data": {
            "name": f"pictures {NASTY}",
            "fingerprint": "abc",
            "labels": ["cat", "dog", "<b>"],
            "counts": {"train": {"cat": 10, "dog": 1200}, "test": {"cat": 3, "dog": 4}},
        },
        "runs": [
            run("AnB to conv2", 0.61),
            run(f"AnB to {NASTY}", 0.72, seconds=5.0),
            run("AnB to fc1", None, state="failed", failure="the loss became nan; lower lr"),
        ],
        "curves": {"nothing": math.nan, "count": np.int64(7), "some": np.float32([0.5, np.inf])},
    }
    table = Table(
        "table1",
        "Boost of AnB+",
        {"layers": "Layers", "boost": "Over the base", "cuts": "Cuts", "noise": "Within noise"},
        [
            {"layers": "conv1–conv2", "boost": span(0.012), "cuts": 2, "noise": True},
            {"layers": NASTY, "boost": span(-0.1), "cuts": 1100, "noise": False, "mark": "worst"},
            {"layers": "fc1", "boost": span(math.nan), "cuts": None, "noise": None, "other": 1},
        ],
        ["AnB+ is within noise of the base."],
    )
    figure = Figure(
        "figure2",
        "Accuracy by layer",
        transfer_comparison(rows),
        rows,
        ["AnB is lower than the base by 0.100 accuracy (95% 0.080 to 0.120).", NASTY],
    )
    page = StudyPage(
        "Transferability of alexnet",
        ["Copy up to conv2.", f"Not {NASTY}."],
        [figure],
        [table],
        ["A note."],
        ["2 runs were shared."],
        ["layerwise study transferability pictures", "# & then look"],
    )
    return results, page


def parsed(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_columns_of_runs_that_say_nothing_are_left_out(made):
    results, page = made
    plain = [{**run, "task": "", "treatment": ""} for run in results["runs"]]
    assert ">Task<" in render(results, page) and ">Treatment<" in render(results, page)
    html = render({**results, "runs": plain}, page)
    assert ">Task<" not in html and ">Treatment<" not in html
    row = html[html.index('id="runs"') :]
    head, first = (
        row[: row.index("</thead>")],
        row[row.index("<tbody>") : row.index("</tr>", row.index("<tbody>"))],
    )
    assert head.count("<th ") == 5 == first.count("<th ") + first.count("<td")


def test_csv_is_plain_numbers_and_intervals_are_columns():
    text = csv_text(
        [
            {"a": "x, y", "b": span(0.5, 0.25), "c": 3, "d": [1, 2.5], "e": np.float32(0.25)},
            {"a": None, "b": span(math.nan), "c": math.inf, "f": True},
            {"b": {"value": 1 / 3, "low": 0, "high": 1, "sd": 0.1}, "e": 2},
        ]
    )
    assert text.splitlines() == [
        "a,b,b_low,b_high,b_sd,c,d,e,f",
        '"x, y",0.5,0.25,0.75,,3,1;2.5,0.25,',
        ",,,,,,,,true",
        ",0.3333333333333333,0,1,0.1,,,2,",
    ]
    assert csv_text([{"a": 1, "b": 2}], ["b"]) == "b\n2\n"
    assert csv_text([], ["b"]) == "b\n"


def test_everything_is_written_and_results_last(made, tmp_path, monkeypatch):
    results, page = made
    order = []
    real = Path.replace

    def replace(self, target):
        order.append(Path(target).name)
        return real(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    write_study(tmp_path, results, page)
    assert order[-1] == "results.json"
    assert {p.name for p in tmp_path.iterdir()} == set(order)
    assert set(order) == {"figure2.svg", "figure2.csv", "table1.csv", "report.html", "results.json"}
    kept = json.loads((tmp_path / "results.json").read_text())
    assert kept["curves"] == {"nothing": None, "count": 7, "some": [0.5, None]}
    assert kept["runs"][0]["validation"]["accuracy"]["value"] == 0.61
    drawn = parsed((tmp_path / "figure2.csv").read_text())
    assert [row["cut"] for row in drawn] == CUTS * 2
    assert [float(row["accuracy"]) for row in drawn[:3]] == pytest.approx([0.7, 0.65, 0.6])
    assert float(drawn[2]["accuracy_low"]) == pytest.approx(0.58) and drawn[0]["accuracy_sd"]
    first, second, third = parsed((tmp_path / "table1.csv").read_text())
    assert list(first) == ["layers", "boost", "boost_low", "boost_high", "cuts", "noise"]
    assert (first["boost"], first["noise"]) == ("0.012", "true") and second["layers"] == NASTY
    assert (third["boost"], third["boost_low"], third["cuts"]) == ("", "", "")


def test_the_same_results_give_the_same_files(made, tmp_path):
    for name in ("a", "b"):
        write_study(tmp_path / name, *made)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name


def test_a_folder_that_can_not_be_written(made, tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(OutputError, match=r"figure2\.svg: .*--out"):
        write_study(tmp_path / "out", *made)


def test_two_things_of_one_name_are_a_defect(made, tmp_path):
    results, page = made
    twice = StudyPage("t", ["a"], page.figures, [Table("figure2", "x", {}, [])])
    with pytest.raises(ValueError, match="figure2"):
        write_study(tmp_path, results, twice)


def test_a_figure_stands_alone(made):
    svg = standalone(made[1].figures[0].svg)
    root = ElementTree.fromstring(svg)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    box = [float(n) for n in root.get("viewBox").split()]
    assert root.get("width") == f"{box[2]:g}pt" and root.get("height") == f"{box[3]:g}pt"
    assert "AnB" in root.get("aria-label") and "var(" not in svg and "<script" not in svg
    paper = root[0]
    assert paper.tag.endswith("rect") and paper.get("fill") == "#ffffff"
    assert [float(paper.get(side)) for side in ("width", "height")] == box[2:]
    assert "#1b1f24" in svg and "#0072b2" in svg
    with pytest.raises(ValueError, match="not an SVG"):
        standalone("<p>")


def test_the_page_says_it_in_words(made):
    page = render(*made)
    assert "<script>alert" not in page and page.count("<script>") == 1
    for words in ("Copy up to conv2.", "2 runs were shared.", "A note.", "took 1 h 02 min"):
        assert words in page, words
    assert "AnB is lower than the base by 0.100 accuracy (95% 0.080 to 0.120)." in page
    assert "Validation accuracy" in page and "0.720" in page and "0.700–0.740" in page
    assert "the loss became nan; lower lr" in page and "1 min 15 s" in page and "12.3 k" in page
    assert "1,210" in page  # images of the training part
    found = re.findall(r'href="data:text/csv;charset=utf-8;base64,([^"]+)"', page)
    first, second = (base64.b64decode(part).decode() for part in found)
    assert first == csv_text(made[1].figures[0].rows)
    assert second == csv_text(made[1].tables[0].rows, list(made[1].tables[0].columns))


def test_what_is_not_there_leaves_no_empty_section():
    page = render({"command": "layerwise study gain x"}, StudyPage("Gain", ["Nothing yet."]))
    for section in ("All runs", "What was saved", "Data and notes", "<table", "<figure"):
        assert section not in page, section
    assert "Nothing yet." in page and "layerwise study gain x" in page


def test_numbers_in_tables_are_short():
    values = [2_225_153, 99_999, -1200, 143.27, 12.04, -10.0, 3.75, -0.0214, 0.0, 0.00012]
    table = Table("t", "T", {"v": "V"}, [{"v": value} for value in values])
    page = render({}, StudyPage("T", ["a"], tables=[table]))
    cells = re.findall(r'<th scope="row" class="n" data-key="([^"]*)">([^<]*)<', page)
    assert [float(key) for key, _ in cells] == values
    assert [words for _, words in cells] == (
        [
            "2.23 M",
            "99,999",
            "−1,200",
            "143",
            "12.0",
            "−10.0",
            "3.750",
            "−0.021",
            "0.000",
            "1.2e-04",
        ]
    )


def test_a_chosen_metric_is_shown_and_a_long_list_folded(made):
    results, page = made
    results = {**results, "runs": [run(f"run {i}", 0.6) for i in range(31)]}
    shown = render(results, StudyPage("T", ["a"], metric="auroc"))
    assert "Validation AUROC" in shown and "0.500" in shown and "<summary>31 runs" in shown
    assert "<summary>" not in render({**results, "runs": results["runs"][:30]}, page)
    long = Table("long", "Long", {"a": "A"}, [{"a": i} for i in range(31)])
    assert "<summary>31 rows" in render({}, StudyPage("T", ["a"], tables=[long]))


CONTRAST = """() => {
  const light = c => {
    const [r, g, b] = c.match(/[\\d.]+/g).map(Number).map(v => v / 255)
      .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = e => {
    for (; e; e = e.parentElement) {
      const c = getComputedStyle(e).backgroundColor;
      if (c !== 'rgba(0, 0, 0, 0)') return c;
    }
    return 'rgb(255, 255, 255)';
  };
  return [...document.querySelectorAll('h1, h2, p, td, th, a, li, code, svg text')]
    .filter(e => e.textContent.trim() && e.getClientRects().length).map(e => {
    const svg = e.closest('svg');
    const front = svg ? getComputedStyle(e).fill : getComputedStyle(e).color;
    const [a, b] = [light(front), light(behind(svg ? svg.parentElement : e))];
    return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), e.textContent.trim().slice(0, 30)];
  });
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 360])
def test_in_a_browser(browser, made, tmp_path, scheme, width):
    write_study(tmp_path, *made)
    size = {"width": width, "height": 800}
    page = browser.new_page(viewport=size, color_scheme=scheme, offline=True)
    requests, complaints = [], []
    page.on("request", lambda r: requests.append(r.url))
    page.on("console", lambda m: complaints.append(m.text))
    page.on("pageerror", lambda e: complaints.append(str(e)))
    address = (tmp_path / "report.html").as_uri()
    page.goto(address)
    assert complaints == [] and {r for r in requests if not r.startswith("data:")} == {address}
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    poor = [(round(c, 2), t) for c, t in page.evaluate(CONTRAST) if c < 4.5]
    assert poor == []
    box = page.locator("#transfer-comparison").bounding_box()
    assert box is not None and box["width"] > 250 and box["height"] > 150
    drawing = page.get_by_role("img", name=re.compile("AnB at best 0.700"))
    assert drawing.count() == 1  # its words are what a screen reader says
    page.close()


def test_structure_keyboard_and_sorting(browser, made, tmp_path):
    write_study(tmp_path, *made)
    page = browser.new_page(viewport={"width": 1000, "height": 800})
    page.goto((tmp_path / "report.html").as_uri())
    levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3')].map(h => +h.tagName[1])")
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in zip(levels, levels[1:], strict=False))
    for role in ("banner", "main", "navigation", "contentinfo"):
        assert page.get_by_role(role).count() == 1, role
    links = page.get_by_role("navigation").get_by_role("link")
    targets = [links.nth(i).get_attribute("href") for i in range(links.count())]
    assert links.all_inner_texts()[1:4] == ["Accuracy by layer", "Boost of AnB+", "All runs"]
    assert all(page.locator(target).count() == 1 for target in targets)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.url.endswith("#main")

    names = page.locator("#runs tbody th")
    given = names.all_inner_texts()
    button = page.locator("#runs").get_by_role("button", name="Validation accuracy")
    button.press("Enter")
    assert names.all_inner_texts() == [given[1], given[0], given[2]]  # no number comes last
    button.click()
    assert names.all_inner_texts() == given
    time = page.locator("#runs").get_by_role("button", name="Time")
    time.click()
    time.click()
    assert names.first.inner_text() == given[1]  # 5 s before 1 min 15 s
    assert page.locator("#sorted").inner_text() == "Sorted by Time, ascending"
    boost = page.locator("#table1").get_by_role("button", name="Over the base")
    boost.click()
    layers = page.locator("#table1 tbody th").all_inner_texts()
    assert layers == ["conv1–conv2", f"{NASTY} worst", "fc1"]
    boost.click()
    layers = page.locator("#table1 tbody th").all_inner_texts()
    assert layers == [f"{NASTY} worst", "conv1–conv2", "fc1"]
    page.close()


def test_the_data_come_with_the_page(browser, made, tmp_path):
    write_study(tmp_path, *made)
    page = browser.new_page()
    page.goto((tmp_path / "report.html").as_uri())
    links = page.get_by_role("link", name="Data as CSV")
    for i, name in enumerate(("figure2.csv", "table1.csv")):
        with page.expect_download() as waiting:
            links.nth(i).click()
        got = waiting.value
        assert got.suggested_filename == name
        assert Path(got.path()).read_bytes() == (tmp_path / name).read_bytes()
    page.close()


def test_a_figure_by_itself_in_a_browser(browser, made, tmp_path):
    """Dark words on white, whatever the colours of the system are."""
    from PIL import Image

    write_study(tmp_path, *made)
    page = browser.new_page(color_scheme="dark", viewport={"width": 800, "height": 500})
    page.goto((tmp_path / "figure2.svg").as_uri())
    said = page.evaluate(
        "[...document.querySelectorAll('text')].map(t => getComputedStyle(t).fill)"
    )
    assert len(said) > 5 and set(said) == {"rgb(27, 31, 36)"}
    pixels = np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("L"), float)
    assert pixels[2, 2] == 255 and np.median(pixels) == 255 and pixels.min() < 60
    page.close()
