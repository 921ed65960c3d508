"""The report in a real browser: every figure there, no complaint, no request, sortable."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from layerwise.reporting.inspection import write_inspection
from layerwise.reporting.report import write_report

FIGURES = (
    "depth-profile",
    "transfer-comparison",
    "roc",
    "precision-recall",
    "confusion",
    "calibration",
)


@pytest.fixture(scope="module")
def report(make, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A task → its report, written once."""

    @cache
    def written(task: str) -> Path:
        path = tmp_path_factory.mktemp(task) / "report.html"
        write_report(path, *make(task))
        return path

    return written


@pytest.fixture(scope="module")
def inspection(inspected, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A task → the page of its inspection, written once."""

    @cache
    def written(task: str) -> Path:
        folder = tmp_path_factory.mktemp(task)
        write_inspection(folder, inspected(task))
        return folder / "inspect.html"

    return written


class Visit:
    """A page opened from a file, and everything it asked for or complained of."""

    def __init__(self, browser: object, path: Path, **options: object) -> None:
        self.page = browser.new_page(**options)
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda r: self.requests.append(r.url))
        self.page.on("console", lambda m: self.complaints.append(m.text))
        self.page.on("pageerror", lambda e: self.complaints.append(str(e)))
        self.page.goto(path.as_uri())

    def names(self) -> list[str]:
        """The first column of the table of runs."""
        return self.page.locator("#runs tbody th").all_inner_texts()


@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel"])
def test_report(browser: object, report, task: str) -> None:
    path = report(task)
    for options in (
        {"viewport": {"width": 1200, "height": 900}},
        {"viewport": {"width": 390, "height": 844}, "color_scheme": "dark"},
    ):
        visit = Visit(browser, path, **options)
        page = visit.page
        for name in FIGURES:
            box = page.locator(f"#{name}").bounding_box()
            assert box is not None and box["width"] > 200 and box["height"] > 150, name
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        broken = "[...document.images].filter(i => !i.complete || !i.naturalWidth).length"
        assert page.locator("img").count() >= 12 and page.evaluate(broken) == 0
        outside = [r for r in visit.requests if not r.startswith("data:") and r != path.as_uri()]
        assert outside == [] and visit.complaints == []
        page.close()


def test_table_sorts_by_mouse_and_keyboard(browser: object, report) -> None:
    visit = Visit(browser, report("binary"))
    page, given = visit.page, visit.names()
    auroc = page.get_by_role("button", name="Validation AUROC").first
    auroc.click()
    first = visit.names()
    assert first[0].startswith("truncated at blocks.4") and first[-1] == "from random weights"
    heading = page.locator("#runs thead th").last
    assert heading.get_attribute("aria-sort") == "descending"
    auroc.press("Enter")
    assert heading.get_attribute("aria-sort") == "ascending"
    assert visit.names()[0] == "dummy" and visit.names()[-1] == "from random weights"
    name = page.locator("#runs").get_by_role("button", name="Name")
    name.focus()
    page.keyboard.press("Space")
    assert visit.names() == sorted(given) and heading.get_attribute("aria-sort") is None
    assert page.locator("#sorted").inner_text() == "Sorted by Name, ascending"
    page.close()


def test_opens_without_scripts_too(browser: object, make, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_report(path, *make("binary", True))
    visit = Visit(browser, path, java_script_enabled=False)
    assert visit.page.locator("#roc").is_visible()
    visit.page.close()


@pytest.mark.parametrize("task", ["binary", "multilabel"])
def test_inspection(browser: object, inspection, task: str) -> None:
    path = inspection(task)
    for options in (
        {"viewport": {"width": 1280, "height": 900}},
        {"viewport": {"width": 390, "height": 844}, "color_scheme": "dark"},
    ):
        visit = Visit(browser, path, **options)
        page = visit.page
        for name in ("density", "histograms") + (("together",) if task == "multilabel" else ()):
            box = page.locator(f"#{name}").bounding_box()
            assert box is not None and box["width"] > 200 and box["height"] > 150, name
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        broken = "[...document.images].filter(i => !i.complete || !i.naturalWidth).length"
        assert page.locator("img").count() >= 16 and page.evaluate(broken) == 0
        outside = [r for r in visit.requests if not r.startswith("data:") and r != path.as_uri()]
        assert outside == [] and visit.complaints == []
        page.close()


def test_findings_sort_and_unfold(browser: object, inspection) -> None:
    visit = Visit(browser, inspection("binary"))
    page, severities = visit.page, "#findings-table tbody .severity"
    assert page.locator(severities).all_inner_texts() == ["leak", "note"]
    heading = page.locator("#findings-table").get_by_role("button", name="Severity")
    heading.click()
    assert page.locator(severities).all_inner_texts() == ["leak", "note"]
    heading.click()
    assert page.locator(severities).all_inner_texts() == ["note", "leak"]
    assert not page.locator("#findings-table img").first.is_visible()
    page.locator("#findings-table summary").first.click()
    assert page.locator("#findings-table img").first.is_visible()
    page.close()


def test_wide_figures_and_tables_on_a_phone(browser: object, report) -> None:
    """Scrolled, not shrunk: letters are large enough, first columns and captions in sight."""
    options = {"viewport": {"width": 360, "height": 800}}
    page = Visit(browser, report("binary"), **options).page
    letters = page.locator(".wide svg.figure text").evaluate_all(
        """all => all.map((text) => {
          const { a, b } = text.getScreenCTM();
          return parseFloat(getComputedStyle(text).fontSize) * Math.hypot(a, b);
        })"""
    )
    assert len(letters) > 20 and min(letters) >= 8.5
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    box = page.locator(".scroll:has(> #runs)")
    before, width = box.evaluate("e => [e.getBoundingClientRect().left, e.scrollWidth]")
    assert width > 360
    box.evaluate("e => { e.scrollLeft = 150; }")
    row = page.locator("#runs tbody tr").nth(1)
    places = [
        row.locator(":scope > *").nth(k).bounding_box()["x"]  # type: ignore[index]
        for k in (0, 1)
    ]
    assert places[0] == before and places[1] < places[0] + 100
    assert page.locator("#runs caption span").bounding_box()["x"] == before  # type: ignore[index]
    page.close()
