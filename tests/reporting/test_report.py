"""The page as text: everything in it, everything escaped, nothing outside it."""

import json
import re
from collections.abc import Callable
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from layerwise.errors import OutputError
from layerwise.reporting import page, report
from layerwise.reporting.report import render, write_report

TASKS = ("binary", "multiclass", "multilabel")


class Page(HTMLParser):
    """Collects what a test asks for."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.images: list[dict] = []
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs) -> None:
        found = dict(attrs)
        self.tags.append(tag)
        if "id" in found:
            self.ids.append(found["id"])
        if tag == "img":
            self.images.append(found)
        for name in ("src", "href", "xlink:href", "srcset", "action", "poster"):
            if name in found:
                self.addresses.append(found[name])


@pytest.fixture(scope="module")
def rendered(make) -> Callable[..., str]:
    """(task, bare) → the page, drawn once."""
    return cache(lambda task, bare=False: render(*make(task, bare)))


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("bare", [False, True])
def test_one_page_with_everything_inside(rendered, task: str, bare: bool) -> None:
    text = rendered(task, bare)
    page = Page(text)
    assert len(page.ids) == len(set(page.ids))
    assert all(a.startswith(("data:", "#")) for a in page.addresses)
    assert {a[1:] for a in page.addresses if a.startswith("#")} <= set(page.ids)
    assert all(image.get("alt") for image in page.images)
    assert page.tags.count("script") == 1  # ours; the data's own are text
    assert "b" not in page.tags or "<b>nine" not in text
    assert "not a medical device" in text.lower()
    figures = {"roc", "precision-recall", "confusion", "calibration"}
    assert figures <= set(page.ids)
    assert ({"depth-profile", "transfer-comparison"} <= set(page.ids)) is not bare


def test_names_are_text(rendered) -> None:
    text = rendered("multiclass", False)
    assert "<script>alert" not in text and "&lt;script&gt;alert" in text
    assert "<b>nine" not in text and "</script><b>" not in text


def test_runs_of_the_table(make, rendered) -> None:
    results, evidence = make("binary")
    text = rendered("binary", False)
    table = text[text.index('id="runs"') :].split("</table>")[0]
    rows = re.findall(r"<tr.*?</tr>", table, flags=re.S)[1:]
    assert len(rows) == 2 + 4  # the floors and the runs
    chosen = [row for row in rows if 'class="chosen"' in row]
    assert len(chosen) == 1 and "truncated at blocks.4" in chosen[0] and "0.978" in chosen[0]
    left = next(row for row in rows if "left out" in row)
    assert "no time for it" in left and 'data-key=""' in left
    # floors that are runs too are not written twice
    results["runs"].append({"id": "f", "name": "dummy", "kind": "floor", "state": "done"})
    table = render(results, evidence).split('id="runs"')[1].split("</table>")[0]
    assert table.count(">dummy") == 1


def test_json_without_nan_gives_the_same_page(make, rendered) -> None:
    results, evidence = make("multilabel")  # one label is never seen: NaN
    through = json.loads(json.dumps(results).replace("NaN", "null"))
    text = rendered("multilabel", False)
    assert render(through, evidence) == text
    assert not re.search(r"[>( ]nan\b", text.split("<script>")[0], re.I)


def test_same_page_twice_and_the_policy_allows_our_script_only(make, rendered) -> None:
    text = rendered("binary", True)
    assert text == render(*make("binary", True))
    assert "default-src 'none'" in text and "script-src 'sha256-" in text


def test_writes_in_one_step(make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make("binary", True)
    target = tmp_path / "new" / "report.html"
    write_report(target, *made)
    assert [p.name for p in target.parent.iterdir()] == ["report.html"]
    assert target.read_text(encoding="utf-8").startswith("<!doctype html>")
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(OutputError, match="--out"):
        write_report(blocked / "report.html", *made)


def test_large_pictures_are_made_smaller() -> None:
    small = page.picture_address(np.zeros((20, 30), np.uint8))
    assert small.startswith("data:image/png;base64,")
    assert len(page.picture_address(np.zeros((2000, 3000, 3), np.uint8))) < 20_000
    assert page.picture_address(np.zeros((20, 30, 1), np.uint8)) == small


def test_fingerprint_lines() -> None:
    value = {"sizes": {"largest": [224, 224]}, "mean": 0.48231, "none": None, "nan": float("nan")}
    assert list(report._flat(value)) == [
        ("sizes › largest", "224, 224"),
        ("mean", "0.4823"),
        ("none", "—"),
        ("nan", "—"),
    ]
