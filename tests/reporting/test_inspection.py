"""What inspect writes: the numbers, the sentences made from them, and a page that stays whole."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from layerwise.data.audit.findings import Finding
from layerwise.data.exploration import count
from layerwise.data.manifest import Manifest, make_table
from layerwise.errors import OutputError
from layerwise.reporting import inspection_figures as figures
from layerwise.reporting import inspection_text as said
from layerwise.reporting.inspection import (
    render,
    to_json,
    with_flags,
    write_inspection,
)

NASTY = "<script>alert('x')</script> & \"$a_b$\".png"
LABELS = {
    "binary": ("NORMAL", "PNEUMONIA"),
    "multiclass": ("five", "six", "seven", "eight", "<b>nine</b>"),
    "multilabel": ("Edema", "Effusion & more", "Mass", "Never seen"),
}


class Page(HTMLParser):
    """Collects what a test asks for."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids, self.tags, self.images, self.words = [], [], [], []
        self.addresses, self.links = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs) -> None:
        found = dict(attrs)
        self.tags.append(tag)
        self.ids += [found["id"]] if "id" in found else []
        self.addresses += [v for k, v in attrs if k in ("src", "srcset", "data", "action")]
        self.links += [found["href"]] if tag == "a" else []
        if tag == "img":
            self.images.append(found)

    def handle_data(self, data) -> None:
        self.words.append(data)


@pytest.mark.parametrize("task", LABELS)
@pytest.mark.parametrize("bare", [False, True])
def test_the_page_is_whole_and_asks_for_nothing(inspected, task, bare):
    found = inspected(task, bare)
    text = render(found)
    page = Page(text)
    assert len(page.ids) == len(set(page.ids)) and page.tags.count("script") == 1
    assert all(address.startswith("data:image/") for address in page.addresses)
    assert all(image["alt"] for image in page.images)
    assert {link[1:] for link in page.links} <= set(page.ids)
    assert NASTY not in text and "<b>nine" not in text and "default-src 'none'" in text
    assert "@import" not in text and not re.search(r"url\((?!#)", text)
    for section in ("findings", "counts", "reproduce"):
        assert section in page.ids
    assert ("sizes" in page.ids) is ("brightness" in page.ids) is (not bare)
    assert ("together" in page.ids) is (task == "multilabel")
    assert render(found) == text


def test_json_is_what_was_found(inspected, tmp_path):
    found = inspected("multilabel")
    summary = write_inspection(tmp_path / "out", found)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["inspect.html", "inspect.json"]
    read = json.loads((tmp_path / "out" / "inspect.json").read_text())
    assert read == json.loads(json.dumps(summary))
    assert read["counts"] == json.loads(json.dumps(found.counts)) and read["seed"] == 0
    assert [row["severity"] for row in read["findings"]] == ["leak", "note"]
    assert read["findings"][1]["images"] == list(found.findings[1].images)
    light = read["brightness"]["labels"]
    assert light["Never seen"] is None and sum(light["Mass"]["histogram"]) == pytest.approx(1)
    own = found.manifest.pixels[found.manifest.targets[:, 2] == 1]
    assert light["Mass"]["mean"] == pytest.approx(own.mean())
    bare = to_json(inspected("multilabel", bare=True))
    assert bare["sizes"] is bare["brightness"] is None and bare["findings"] == []


def test_json_says_every_key_of_the_documentation(inspected):
    page = (Path(__file__).resolve().parents[2] / "docs" / "inspect.md").read_text()
    named = page.partition("## inspect.json")[2]
    for task in LABELS:
        summary = to_json(inspected(task))
        keys = set(summary) | set(summary["counts"]) | set(summary["sizes"])
        keys |= set(summary["counts"]["patients"]) | set(summary["counts"]["dates"])
        keys |= set(summary["findings"][0]) | set(summary["sizes"]["files"][0])
        keys |= set(next(iter(summary["counts"]["parts"].values())))
        keys |= set(next(iter(summary["counts"]["labels"].values())))
        keys |= set(next(iter(summary["brightness"]["labels"].values())))
        absent = {key for key in keys if not re.search(rf"[`.]{key}[`.]", named)}
        assert absent == set(), task


def test_where_it_can_not_be_written(inspected, tmp_path):
    (tmp_path / "file").write_text("")
    found = inspected(bare=True)
    with pytest.raises((OutputError, OSError)):
        write_inspection(tmp_path / "file", found)


def texts(svg: str) -> list[str]:
    return [t.text or "" for t in ElementTree.fromstring(svg).iter() if t.tag.endswith("}text")]


def test_figures_are_whole_and_the_same_twice(inspected):
    for task, labels in LABELS.items():
        found = inspected(task)
        drawn = {
            "density": figures.density(found.sizes, labels),
            "histograms": figures.histograms(found.brightness, labels),
        }
        assert figures.density(found.sizes, labels) == drawn["density"]
        for name, svg in drawn.items():
            root = ElementTree.fromstring(svg)
            assert root.get("id") == name and root.get("role") == "img" and root.get("aria-label")
            assert not re.search(r'(?:href|src)="(?!#)', svg)


def test_density_draws_every_bin_that_has_a_picture(inspected):
    found = inspected()
    svg = figures.density(found.sizes, LABELS["binary"])
    filled = re.findall(r"fill: var\(--c1, #0072b2\)(?:[^\"]*opacity: ([0-9.]+))?", svg)
    numbers = found.sizes.density[found.sizes.density > 0]
    expected = 0.1 + 0.9 * np.sqrt(numbers / numbers.max())
    assert sorted(float(opacity or 1) for opacity in filled) == pytest.approx(
        sorted(expected), abs=1e-5
    )
    median = f"{found.sizes.facts['width']['median']:,.0f}"
    assert f"Width, pixels (median {median})" in texts(svg)


def test_together_is_in_percent_of_the_row():
    svg = figures.together([[10, 5, 0], [5, 20, 4], [0, 4, 4]], ["a", "b", "c"])
    numbers = [text for text in texts(svg) if text.isdigit()]
    assert numbers == ["50", "0", "25", "20", "0", "100"]
    assert "of the images with c, 100% have b too" in svg


def counted(**labels: int) -> dict:
    table = make_table([str(i) for i in range(sum(labels.values()))])
    targets = np.repeat(np.arange(len(labels)), list(labels.values()))
    task = "binary" if len(labels) == 2 else "multiclass"
    return count(Manifest("made", task, tuple(labels), table, targets))


def test_sentences_on_counts():
    guangzhou = counted(NORMAL=1341, PNEUMONIA=3875)
    assert said.balance("binary", guangzhou) == (
        "PNEUMONIA has 3,875 pictures (74%), NORMAL 1,341 (26%): 2.9 to 1."
    )
    assert "right in 74%" in said.spread("binary", guangzhou)
    assert said.what_it_is("binary", ["NORMAL", "PNEUMONIA"], guangzhou) == (
        "5,216 pictures of 2 classes (NORMAL and PNEUMONIA), not split yet."
    )
    numbers = counted(**{"0": 10, "1": 30})
    assert said.balance("binary", numbers) == (
        "Class 1 has 30 pictures (75%), class 0 10 (25%): 3.0 to 1."
    )
    even = counted(a=100, b=101, c=102)
    assert said.balance("multiclass", even) == ("The classes are balanced: 100–102 pictures each.")
    assert said.spread("multiclass", even) == ""
    assert "balanced: 7 pictures each" in said.balance("binary", counted(a=7, b=7))


def test_sentences_on_parts_and_patients():
    table = make_table(
        [str(i) for i in range(20)],
        patients=["a"] * 10 + ["b"] * 9 + [""],
        splits=["train"] * 10 + ["test"] * 10,
    )
    manifest = Manifest("made", "binary", ("n", "y"), table, np.array([0] * 9 + [1] * 11))
    found = count(manifest)
    assert "with training and test parts" in said.what_it_is("binary", ("n", "y"), found)
    assert "The parts differ" in said.spread("binary", found)
    words = said.people("binary", found)
    assert "9 to 10 pictures (median 9.5); 100% have several" in words
    assert "1 picture have no patient" not in words
    assert "1 picture has no patient" in words
    assert "1 patient has pictures of different classes" in words


def test_what_needs_attention():
    leak = Finding("shared patient", "leak", "", "", ())
    warning = Finding("shortcut", "warning", "", "", ())
    note = Finding("repeated content", "note", "", "", ())
    assert said.attention([leak, warning], True) == (
        "Do not train on this split: 1 leak (shared patient) would make the scores deceive; "
        "1 warning beside."
    )
    assert said.attention([warning, note], True) == (
        "No leaks. 1 thing needs your attention: shortcut."
    )
    assert said.attention([note], False).endswith("Only the table was looked at, not one picture.")


def test_percentages_are_never_rounded_to_nothing_or_all():
    assert [said.percent(x) for x in (0, 0.0004, 0.004, 0.0996, 0.12, 0.9996, 1)] == [
        "0%", "under 0.1%", "0.4%", "10%", "12%", "over 99.9%", "100%",
    ]  # fmt: skip


def test_flags_become_code_and_the_rest_is_escaped():
    assert with_flags("use --patient-column, not <b>; layerwise split --by patient") == (
        "use <code>--patient-column</code>, not &lt;b&gt;; "
        "<code>layerwise split --by</code> patient"
    )
    assert with_flags("a--b pre--x") == "a--b pre--x"
