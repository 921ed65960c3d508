"""What a notebook is shown: whole pictures, inside the page, that say what they are."""

import base64
import io
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from PIL import Image

from layerwise import LayerwiseClassifier
from layerwise.errors import OutputError
from layerwise.estimator.inline import Inline, heat_pictures, profile_picture
from layerwise.evaluation.overlay import overlay

PROFILE = [
    {
        "cut": name,
        "channels": 4,
        "stride": 2,
        "parameters": 10 ** (3 + index),
        "macs": 1,
        "auroc": value,
        "low": value - 0.1,
        "high": value + 0.05,
        "chosen": name == "layer<2>",
    }
    for index, (name, value) in enumerate({"stem": 0.7, "layer<2>": 0.91, "top": 0.9}.items())
]


def test_the_profile_is_a_figure_of_its_own(tmp_path):
    shown = profile_picture(PROFILE)
    address = re.search(r'src="data:image/svg\+xml;base64,([^"]+)"', shown._repr_html_())
    svg = base64.b64decode(address[1]).decode()
    assert svg == shown.svg == shown.save(tmp_path / "p.svg").read_text(encoding="utf-8")
    root = ElementTree.fromstring(svg)
    words = "".join(root.itertext())
    assert "layer<2>" in words and "AUROC on validation" in words
    assert "var(--" not in svg  # programs that draw SVG know no CSS variables
    assert "0.91" in root.attrib["aria-label"]


def test_heat_pictures_hold_both_pictures():
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (2, 8, 8, 1), dtype=np.uint8)
    heat = generator.random((2, 8, 8)).astype(np.float32)
    page = heat_pictures(images, heat, ["a <b>: 0.9", "c: 0.8"])._repr_html_()
    found = [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(content))))
        for content in re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    ]
    assert len(found) == 4
    for index in range(2):
        np.testing.assert_array_equal(found[2 * index], images[index, ..., 0])
        np.testing.assert_array_equal(found[2 * index + 1], overlay(images[index], heat[index]))
    assert "a &lt;b&gt;: 0.9" in page and "pixelated" in page


def test_a_page_that_can_not_be_written_says_so(tmp_path):
    assert "<p>x</p>" in Inline("<p>x</p>").save(tmp_path / "x.html").read_text(encoding="utf-8")
    with pytest.raises(OutputError, match="name another place"):
        Inline("x").save(tmp_path / "gone" / "x.html")


def test_a_notebook_shows_the_profile(make):
    X, y = make(10)
    model = LayerwiseClassifier(
        "lenet5", weights="none", transfer="probe", image_size=28, threads=1
    )
    before = model._repr_mimebundle_()["text/html"]
    assert "LayerwiseClassifier" in before and "linear probe" not in before
    model.fit(X, y)
    for after in (model._repr_mimebundle_()["text/html"], model._repr_html_()):
        assert "LayerwiseClassifier" in after and model.plot_profile().html in after
        assert f"{model.run_}: validation AUROC" in after
    pictures = model.plot_explanations(X[:3])
    assert pictures.html.count("<img") == 6
