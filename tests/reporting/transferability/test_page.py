"""The page of the study: its figures and tables, whatever was measured; and in a real browser."""

import csv
import json

import pytest

from layerwise.reporting.study_page import write_study
from layerwise.reporting.transferability.page import transferability_page

THREE = ["conv1", "conv2", "fc1"]


def results(curves, **more):
    run = {
        "id": "a1",
        "name": "AnB to conv1",
        "treatment": "AnB",
        "task": "natural",
        "state": "done",
        "seconds": 1.0,
        "parameters": 1000,
        "validation": {"accuracy": {"value": 0.7, "low": 0.6, "high": 0.8}},
    }
    return {
        "command": "layerwise study transferability ./pictures --out study",
        "seed": 0,
        "seconds": 10.0,
        "data": {"name": "pictures", "labels": ["a", "b"], "counts": {}},
        "study": {"repeats": 2, "quick": False},
        "runs": [run],
        "curves": curves,
        "saved": {"bases": 4, "bases_alone": 8, "frozen": 2, "runs": 9, "taken": 0},
        "notes": ["a note"],
        **more,
    }


def test_everything_is_written(fabricate, tmp_path):
    found = results(fabricate())
    page = transferability_page(found)
    write_study(tmp_path, found, page)
    names = ["decomposition", "figure2", "figure3", "overfitting"]
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
        [f"{n}.{kind}" for n in names for kind in ("csv", "svg")]
        + ["means.csv", "table1.csv", "report.html", "results.json"]
    )
    with (tmp_path / "table1.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(r["tasks"][:6], r["layers"]) for r in rows] == [
        ("random", "1-7"),
        ("random", "3-7"),
        ("random", "5-7"),
        ("named ", "1-7"),
        ("named ", "3-7"),
        ("named ", "5-7"),
    ]
    assert float(rows[0]["over_base"]) == pytest.approx(0.021)
    assert float(rows[0]["over_base_low"]) == pytest.approx(0.011)
    # BnB+ is above its base by 0.004 / 7 on average.
    assert float(rows[0]["over_selffer"]) == pytest.approx(0.021 - 0.004 / 7)
    with (tmp_path / "figure3.csv").open(encoding="utf-8", newline="") as file:
        lines = [r for r in csv.DictReader(file) if r["panel"] == "normalised"]
    last = {r["line"]: float(r["difference_to_base"]) for r in lines if r["layer"] == "7"}
    assert sorted(last.values()) == pytest.approx([-0.5, -0.25, -0.08])
    assert json.loads((tmp_path / "results.json").read_text())["curves"]["numbers"][-1] == 7
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    for words in ("copy and freeze up to layer 2 (conv2)", "a note", "4 base networks served"):
        assert words in html


def test_quick_study_leaves_out_what_it_has_not(fabricate, tmp_path):
    facts = {"random": {"AnB": [0.0, -0.02, -0.05]}}
    curves = fabricate(facts, THREE, longer=None, overfitting=False, repeats=1)
    page = transferability_page(results(curves, study={"quick": True, "repeats": 1}))
    assert [figure.name for figure in page.figures] == ["figure2", "figure3"]
    assert [table.name for table in page.tables] == ["means"]
    assert page.notes[0].startswith("A quick study") and "once" in page.notes[1]
    write_study(tmp_path, results(curves), page)


def test_nothing_measured_and_failures_are_said(fabricate, tmp_path):
    curves = fabricate({"random": {"AnB": [0.0] * 3}}, THREE, overfitting=False)
    empty = {key: [] if isinstance(value, list) else value for key, value in curves.items()}
    failed = {"name": "base A", "state": "failed", "reason": "the loss is not finite"}
    found = results(empty, runs=[failed])
    page = transferability_page(found)
    assert page.figures == () and "No transfer was measured" in page.answer[0]
    assert any("1 of 1 runs failed" in n and "the loss is not finite" in n for n in page.notes)
    write_study(tmp_path, found, page)


def test_in_a_browser_light_and_dark(fabricate, tmp_path, browser):
    found = results(fabricate())
    write_study(tmp_path, found, transferability_page(found))
    seen = {}
    for scheme, width in (("light", 1200), ("dark", 390)):
        page = browser.new_page(color_scheme=scheme, viewport={"width": width, "height": 900})
        complaints: list[str] = []
        page.on("console", lambda m, to=complaints: to.append(m.text))
        page.on("pageerror", lambda e, to=complaints: to.append(str(e)))
        page.goto((tmp_path / "report.html").as_uri())
        for name in ("figure2", "figure3", "decomposition", "overfitting"):
            box = page.locator(f"svg#{name}").bounding_box()
            assert box is not None and box["width"] > 300 and box["height"] > 150, name
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        boxes = "[...document.querySelectorAll('#figure2 [id*=interpretation]')]"
        overlap = f"""{boxes}.some((a, i, all) => all.slice(i + 1).some(b => {{
            const [p, q] = [a.getBoundingClientRect(), b.getBoundingClientRect()];
            return p.left < q.right && q.left < p.right && p.top < q.bottom && q.top < p.bottom;
        }}))"""
        assert page.evaluate(f"{boxes}.length") == 5 and not page.evaluate(overlap)
        axis = page.locator("#figure2 text").first
        seen[scheme] = axis.evaluate("e => getComputedStyle(e).fill")
        assert complaints == []
        page.close()
    assert seen["light"] != seen["dark"]
