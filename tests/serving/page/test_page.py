"""The page, driven in a real browser against the real server."""

import base64
import csv
import io
import json
import math
import re

import numpy as np
import pytest
from matplotlib import colormaps
from PIL import Image

pytest.importorskip("playwright.sync_api", reason="needs playwright")
from playwright.sync_api import expect

KEY = "a-key-of-the-tests"


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def grey_score(grey, slope=8.0):
    """What the network says of a picture of one grey that fills its input (both are 3 to 2)."""
    return sigmoid(slope * (grey / 255 - 0.5))


def choose(page, pictures, *names):
    page.set_input_files("#files", [str(pictures / name) for name in names])
    expect(page.locator("#progress")).to_be_hidden()


def drop(page, paths):
    """A drop by the browser itself, folders included."""
    session = page.context.new_cdp_session(page)
    data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        event = {"type": kind, "x": 300, "y": 200, "data": data}
        session.send("Input.dispatchDragEvent", event)


def rows(page):
    cells = "rows => rows.map(row => [...row.cells].map(cell => cell.textContent.trim()))"
    return page.locator("#rows tr").evaluate_all(cells)


def names(page):
    return page.locator("#rows th").all_text_contents()  # also of rows out of sight


def pixels(page, canvas="laid"):
    """What a canvas shows, uint8 (H, W, 3), after it was drawn."""
    address = page.evaluate(
        """id => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() =>
        done(document.getElementById(id).toDataURL()))))""",
        canvas,
    )
    content = base64.b64decode(address.partition(",")[2])
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def place_of(seen):
    """Where the picture is on a canvas: what is not black around it, without its soft edge."""
    inside = seen.max(2) > 0
    (down,), (across,) = np.nonzero(inside.any(1)), np.nonzero(inside.any(0))
    return slice(down[0] + 2, down[-1] - 1), slice(across[0] + 2, across[-1] - 1)


def picture_of(page, canvas="laid"):
    """The part of a canvas that shows the picture."""
    seen = pixels(page, canvas)
    return seen[place_of(seen)]


def slide(page, name, value):
    page.locator(f"#{name}").evaluate(
        "(e, v) => { e.value = v; e.dispatchEvent(new Event('input')); }", value
    )


def shown(page):
    expect(page.locator("#stage-text")).to_be_hidden()


CONTRASTS = r"""
() => {
  const canvas = Object.assign(document.createElement("canvas"), { width: 1, height: 1 });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    context.clearRect(0, 0, 1, 1);
    context.fillStyle = colour;
    context.fillRect(0, 0, 1, 1);
    return [...context.getImageData(0, 0, 1, 1).data];
  };
  const mix = (v, under, share) => (v * share + under * (255 - share)) / 255;
  const over = (top, under) => top.slice(0, 3).map((v, k) => mix(v, under[k], top[3]));
  const behind = (node) => {
    if (!node) return [255, 255, 255];
    return over(rgba(getComputedStyle(node).backgroundColor), behind(node.parentElement));
  };
  const light = (rgb) => rgb.map((v) => v / 255)
    .map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, k) => sum + v * [0.2126, 0.7152, 0.0722][k], 0);
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !node.checkVisibility() || node.disabled) continue;
    if (node.closest("option, .hidden, .skip")) continue;
    const under = behind(node);
    const [a, b] = [light(over(rgba(getComputedStyle(node).color), under)), light(under)];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    found.push([ratio, walker.currentNode.data.trim().slice(0, 40), node.className]);
  }
  return found;
}
"""


def test_a_drop_of_files_a_folder_a_dicom_and_a_broken_one(visit, pictures, tmp_path):
    page = visit().page
    expect(page.locator("h1")).to_have_text("chest <b>radiographs</b>")
    drop(page, [pictures / n for n in ("grey-220.png", "broken.png", "radiograph.dcm", "ward")])
    expect(page.locator("#progress")).to_be_hidden()
    expect(page.locator("#download")).to_have_text("Download CSV (4)")
    found = rows(page)
    assert [row[0] for row in found] == ["1", "2", "3", "4", "5"]
    assert names(page) == [
        "grey-220.png",
        "broken.png",
        "radiograph.dcm",
        "ward/b.png",
        "ward/deep/a.png",
    ]
    assert found[0][2:] == ["PNEUMONIA", f"{grey_score(220):.3f}"] == found[3][2:]
    assert found[4][2:] == ["NORMAL", f"{grey_score(40):.3f}"]
    assert found[1][2].startswith("✕ Error: ") and "replace or remove it" in found[1][2]
    # A ramp over all greys: half of it is white, whatever the window.
    assert abs(float(found[2][3]) - grey_score(127.5)) < 0.02
    expect(page.locator(".headline")).to_have_text("PNEUMONIA")
    expect(page.locator(".reason")).to_contain_text(
        f"The probability of PNEUMONIA is {grey_score(220):.3f}, at or above the threshold of 0.400"
    )
    page.locator("#rows tr").nth(1).click()
    expect(page.locator("#verdict")).to_contain_text("replace or remove it")
    expect(page.locator("#stage-text")).to_contain_text("replace or remove it")
    assert not pixels(page).any()  # nothing of the case before
    page.locator("#rows tr").nth(2).click()
    shown(page)
    page.click("#overlay")
    ramp = picture_of(page)[5, :, 0].astype(int)
    assert (np.diff(ramp) >= 0).all() and ramp[-1] > 240

    page.click("#invert")
    backgrounds = []
    for other in ("Dark", "Light"):  # what the button offers
        expect(page.locator("#theme")).to_have_text(other)
        page.hover("#invert")  # pressed, and under the mouse
        backgrounds.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        found = page.evaluate(CONTRASTS)
        assert len(found) > 100
        assert [each for each in found if each[0] < 4.5] == []
        page.click("#theme")
    assert backgrounds == ["rgb(246, 247, 249)", "rgb(16, 20, 24)"]
    (tmp_path / "empty").mkdir()
    drop(page, [tmp_path / "empty"])
    expect(page.locator("#looking")).to_have_text("There is no file in it.")


def test_sorting_filtering_and_csv(visit, pictures):
    page = visit().page
    order = ("grey-220.png", "broken.png", "grey-040.png", "grey-160.png", "grey-100.png")
    renamed = [
        {"name": n, "mimeType": "", "buffer": (pictures / p).read_bytes()}
        for n, p in zip(
            ("=1+2.png", "b.png", 'a "1", ä.png', "d10.png", "d9.png"), order, strict=True
        )
    ]
    page.set_input_files("#files", renamed)
    expect(page.locator("#progress")).to_be_hidden()
    given = names(page)
    assert sorted(given) == sorted(each["name"] for each in renamed)
    heading = page.locator("thead th")
    probability = page.locator("thead").get_by_role("button", name="Probability")
    probability.click()
    assert heading.nth(3).get_attribute("aria-sort") == "descending"
    assert names(page) == ["=1+2.png", "d10.png", "d9.png", 'a "1", ä.png', "b.png"]
    probability.press("Enter")
    assert names(page) == ['a "1", ä.png', "d9.png", "d10.png", "=1+2.png", "b.png"]
    page.locator("thead").get_by_role("button", name="File").click()
    assert names(page).index("d9.png") < names(page).index("d10.png")
    page.select_option("#filter-result", label="PNEUMONIA")
    assert names(page) == ["=1+2.png", "d10.png"]
    expect(page.locator("#shown")).to_have_text("2 of 5")
    page.fill("#filter-name", "D1")
    assert names(page) == ["d10.png"]
    page.select_option("#filter-result", label="errors")
    expect(page.locator("#nothing")).to_be_visible()
    page.fill("#filter-name", "")
    assert names(page) == ["b.png"]
    page.select_option("#filter-result", label="All results")
    page.locator("thead").get_by_role("button", name="Number").click()
    assert names(page) == given
    with page.expect_download() as waiting:
        page.click("#download")
    text = waiting.value.path().read_bytes().decode()
    assert waiting.value.suggested_filename == "predictions.csv"
    assert text.count("\r\n") == 5 == text.count("\n")
    table = list(csv.reader(io.StringIO(text, newline="")))
    assert table[0] == ["id", "NORMAL", "PNEUMONIA", "decision"]
    greys = {"'=1+2.png": 220, 'a "1", ä.png': 40, "d10.png": 160, "d9.png": 100}
    assert {row[0] for row in table[1:]} == set(greys)
    for name, normal, pneumonia, decision in table[1:]:
        assert float(pneumonia) == pytest.approx(grey_score(greys[name]), abs=2e-6)
        assert float(normal) + float(pneumonia) == pytest.approx(1, abs=2e-6)
        assert decision == ("PNEUMONIA" if grey_score(greys[name]) >= 0.4 else "NORMAL")
    expect(page.locator("#said")).to_have_text("Saved 4 cases; 1 without an answer left out.")
    page.click("#clear")
    expect(page.locator("#workbench")).to_be_hidden()
    assert names(page) == []


def test_heat_window_zoom_and_sides(visit, pictures):
    page = visit().page
    choose(page, pictures, "halves.png")
    shown(page)
    page.click("#overlay")
    seen = picture_of(page)
    height, width = seen.shape[:2]
    above, below = seen[height // 4, width // 2], seen[3 * height // 4, width // 2]
    assert above.tolist() == [60] * 3 and below.tolist() == [200] * 3

    # Letterboxed into 16 by 24, the picture is the middle 8 columns: with them undone, the heat of
    # PNEUMONIA is the brightness of the place, and its colour the report's.
    page.select_option("#label", "PNEUMONIA")
    shown(page)
    for opacity in (100, 50):
        slide(page, "opacity", opacity)
        mixed = picture_of(page)
        for share, grey in ((1 / 4, 60), (3 / 4, 200)):
            heat = grey / 255
            colour = np.array(colormaps["inferno"](0.25 + 0.75 * heat)[:3]) * 255
            alpha = opacity / 100 * heat**0.8
            wanted = grey * (1 - alpha) + colour * alpha
            for across in (0.1, 0.5, 0.9):  # not beside the picture
                found = mixed[int(height * share), int(width * across)]
                assert np.abs(found - wanted).max() < 8, (opacity, grey, found, wanted)
    expect(page.locator("#opacity-value")).to_have_text("50%")
    page.select_option("#label", "NORMAL")  # the other way about: the dark is warm
    expect(page.locator("#heat-note")).to_contain_text("evidence for NORMAL, at blocks.4")
    shown(page)
    other = picture_of(page).astype(int)
    assert np.abs(other - mixed).max() > 40

    slide(page, "opacity", 0)
    place = place_of(pixels(page))
    page.click("#invert")
    inverted = pixels(page)[place].astype(int)
    assert np.abs(inverted - (255 - seen.astype(int))).max() <= 1  # between the halves, rounded
    exact = np.isin(seen, (60, 200))
    assert exact.mean() > 0.9 and (inverted == 255 - seen)[exact].all()
    page.click("#invert")
    slide(page, "level", 60)
    slide(page, "width", 50)
    seen = pixels(page)[place]
    for row, grey in ((height // 4, 60), (3 * height // 4, 200)):
        wanted = round(min(255, max(0, (grey - 2.55 * (60 - 25)) * 2)))
        assert seen[row, width // 2].tolist() == [wanted] * 3
    page.click("#reset")
    page.click("#beside")
    page.click("#overlay")
    page.click("#overlay")
    plain, laid = picture_of(page, "plain"), picture_of(page, "laid")
    assert plain.shape == laid.shape and (plain != laid).any()
    assert plain[plain.shape[0] // 4, 5].tolist() == [60] * 3
    page.click("#beside")
    page.click("#overlay")

    page.locator("#stage").evaluate("e => e.scrollIntoView({ block: 'center' })")
    box = page.locator("#stage").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] * 0.75)
    for _ in range(20):
        page.mouse.wheel(0, -300)
    expect(page.locator("#zoom")).to_have_text("16×")
    assert pixels(page)[:, :, 0].min() == 200  # the lower half stayed under the mouse
    page.mouse.wheel(0, 700)
    expect(page.locator("#zoom")).to_have_text(f"{16 * math.exp(-1.4):.1f}×")
    for _ in range(5):
        page.mouse.move(box["x"] + 200, box["y"] + 20)
        page.mouse.down()
        page.mouse.move(box["x"] + 200, box["y"] + box["height"] - 20, steps=2)
        page.mouse.up()
    assert pixels(page)[:, :, 0].max() == 60  # moved up to the top
    page.mouse.dblclick(box["x"] + 50, box["y"] + 50)
    expect(page.locator("#zoom")).to_have_text("1×")
    page.keyboard.down("Shift")
    page.mouse.move(box["x"] + 100, box["y"] + 100)
    page.mouse.down()
    page.mouse.move(box["x"] + 130, box["y"] + 60, steps=2)
    page.mouse.up()
    page.keyboard.up("Shift")
    expect(page.locator("#width-value")).to_have_text("110%")
    expect(page.locator("#level-value")).to_have_text("40%")


def test_by_keyboard_alone(visit, pictures):
    page = visit().page
    page.on("filechooser", lambda _: None)  # from now on it is caught, not opened
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the pictures")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.locator("#choose-files")).to_be_focused()
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert page.evaluate(outline) == "solid"
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    several = ("grey-040.png", "grey-100.png", "grey-160.png", "grey-220.png")
    chooser.value.set_files([str(pictures / name) for name in several])
    expect(page.locator("#progress")).to_be_hidden()
    for _ in range(30):
        if page.evaluate("document.activeElement.tagName") == "TR":
            break
        page.keyboard.press("Tab")
    expect(page.locator("#rows tr").first).to_be_focused()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    chosen = page.locator("tr[aria-selected=true]")
    expect(chosen).to_be_focused()
    expect(chosen).to_contain_text("grey-160.png")
    expect(page.locator("#case-name")).to_have_text("grey-160.png")
    expect(page.locator("#case-place")).to_have_text("3 of 4")
    expect(page.locator(".bars .chosen .value")).to_have_text(f"{grey_score(160):.3f}")
    page.keyboard.press("o")
    shown(page)
    assert pixels(page)[:, :, 0].max() == 160
    page.keyboard.press("End")
    expect(page.locator("#case-name")).to_have_text("grey-220.png")
    page.keyboard.press("Enter")
    expect(page.locator("#stage")).to_be_focused()
    shown(page)
    page.keyboard.press("i")
    expect(page.locator("#invert")).to_have_attribute("aria-pressed", "true")
    assert picture_of(page)[0, 0].tolist() == [255 - 220] * 3
    page.keyboard.press("+")
    expect(page.locator("#zoom")).to_have_text("1.4×")
    page.keyboard.press("0")
    expect(page.locator("#zoom")).to_have_text("1×")
    page.keyboard.press("l")
    expect(page.locator("#label")).to_have_value("NORMAL")
    for key in ("[", "[", "]"):
        page.keyboard.press(key)
    expect(page.locator("#opacity-value")).to_have_text("60%")
    page.keyboard.press("s")
    expect(page.locator("#plain")).to_be_visible()
    page.keyboard.press("r")
    expect(page.locator("#invert")).to_have_attribute("aria-pressed", "false")
    page.keyboard.press("PageUp")
    expect(page.locator("#case-name")).to_have_text("grey-160.png")
    page.keyboard.press("Escape")
    expect(chosen).to_be_focused()


def test_on_a_phone(visit, pictures):
    size = {"width": 360, "height": 740}
    options = {"has_touch": True, "is_mobile": True, "device_scale_factor": 2}
    page = visit(viewport=size, color_scheme="dark", **options).page
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(16, 20, 24)"
    wide = "document.documentElement.scrollWidth <= 360"
    assert page.evaluate(wide)
    choose(page, pictures, "grey-220.png", "broken.png", "grey-040.png", "radiograph.dcm")
    assert page.evaluate(wide)
    page.locator("#rows tr").nth(2).tap()
    expect(page.locator("#case-name")).to_have_text("grey-220.png")
    expect(page.locator("#stage")).to_be_in_viewport()  # brought back up to the picture
    page.locator("#beside").tap()
    shown(page)
    one, two = page.locator("#plain").bounding_box(), page.locator("#laid").bounding_box()
    assert one["x"] == two["x"] and two["y"] >= one["y"] + one["height"]
    assert page.evaluate(wide)
    session = page.context.new_cdp_session(page)
    x, y = two["x"] + two["width"] / 2, two["y"] + two["height"] / 2
    for kind, gap in (("touchStart", 20), ("touchMove", 40), ("touchMove", 60)):
        points = [{"x": x - gap, "y": y, "id": 0}, {"x": x + gap, "y": y, "id": 1}]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    expect(page.locator("#zoom")).to_have_text("3×")
    small = """[...document.querySelectorAll("main button, main select")].filter(
        e => e.checkVisibility() && !e.closest("th") && e.getBoundingClientRect().height < 32)"""
    assert page.evaluate(f"{small}.length") == 0


def test_a_key_is_asked_for_and_kept_in_the_session_only(visit, pictures):
    page = visit(key=KEY).page
    dialog = page.locator("#key")
    expect(dialog).to_be_visible()
    expect(page.locator("#key-input")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator("#notice-text")).to_contain_text("key")
    page.click("#notice-button")
    page.fill("#key-input", "wrong")
    page.keyboard.press("Enter")
    expect(page.locator("#key-wrong")).to_contain_text("does not accept")
    page.fill("#key-input", "schlüssel")
    page.keyboard.press("Enter")
    expect(page.locator("#key-wrong")).to_contain_text("plain letters")
    page.fill("#key-input", KEY)
    page.keyboard.press("Enter")
    expect(dialog).to_be_hidden()
    expect(page.locator("h1")).to_have_text("chest <b>radiographs</b>")
    choose(page, pictures, "grey-220.png")
    assert rows(page)[0][2] == "PNEUMONIA"
    stored = "[JSON.stringify(sessionStorage), localStorage.length, document.cookie]"
    kept, local, cookies = page.evaluate(stored)
    assert (list(json.loads(kept).values()), local, cookies) == ([KEY], 0, "")
    page.reload()
    expect(page.locator("h1")).to_have_text("chest <b>radiographs</b>")
    expect(dialog).to_be_hidden()


def test_many_labels_without_explanation_and_a_paste(visit, pictures):
    page = visit("multilabel", explained=False).page
    content = base64.b64encode((pictures / "grey-220.png").read_bytes()).decode()
    page.evaluate(
        """text => {
          const bytes = Uint8Array.from(atob(text), c => c.charCodeAt(0));
          const data = new DataTransfer();
          data.items.add(new File([bytes], "image.png", { type: "image/png" }));
          document.dispatchEvent(new ClipboardEvent("paste", { clipboardData: data }));
        }""",
        content,
    )
    expect(page.locator("#download")).to_be_enabled()
    assert names(page) == ["pasted-1.png"]
    slopes = np.linspace(8, -8, 14)
    scores = [grey_score(220, slope) for slope in slopes]
    assert page.locator(".bars .value").all_inner_texts() == [f"{score:.3f}" for score in scores]
    decided = [f"Finding {k}" for k, score in enumerate(scores, 1) if score >= 0.4]
    expect(page.locator(".headline")).to_have_text(", ".join(decided))
    expect(page.locator(".reason")).to_contain_text(f"{len(decided)} of 14 labels reach their")
    assert len(page.locator(".bars .chosen").all()) == len(decided)
    marks = page.locator(".bars b").evaluate_all("all => all.map(e => e.style.left)")
    assert marks == ["40%"] * 14
    assert rows(page)[0][3] == f"{max(scores):.3f}"
    page.select_option("#column", "Finding 14")
    assert rows(page)[0][3] == f"{scores[-1]:.3f}"
    page.locator("summary", has_text="Label by label").click()
    shown(page)  # the picture is there all the same
    assert picture_of(page)[0, 0].tolist() == [220] * 3
    expect(page.locator("#heat-note")).to_contain_text("it ends in trees")
    expect(page.locator("#heat-controls")).to_be_hidden()
    expect(page.locator(".plain tbody tr")).to_have_count(14)
    expect(page.locator(".plain tbody tr").nth(4)).to_contain_text("0.820 0.800 to 0.830")


def test_a_busy_server_is_waited_for_and_a_queue_can_be_stopped(visit, pictures):
    """Small requests, few at a time; 429 is obeyed; what was cancelled goes on."""
    visited = visit()
    page = visited.page
    page.clock.install()
    sent: list[int] = []
    answers = [{"status": 429, "headers": {"Retry-After": "7"}, "body": "{}"}]

    def handle(route):
        sent.append(route.request.post_data_buffer.count(b'name="files"'))
        if answers:
            route.fulfill(**answers.pop())
        elif sent.count(-1):
            pass  # never answered
        else:
            route.continue_()

    page.route("**/v1/predict", handle)
    content = (pictures / "grey-220.png").read_bytes()
    many = [{"name": f"{k:02}.png", "mimeType": "image/png", "buffer": content} for k in range(20)]
    page.set_input_files("#files", many)
    expect(page.locator("#progress-text")).to_contain_text("The server is busy; on again in")
    expect(page.locator("#download")).to_have_text("Download CSV (8)")  # the other one in flight
    assert sent == [8, 8]
    page.clock.run_for(8000)
    expect(page.locator("#download")).to_have_text("Download CSV (20)")
    assert sent == [8, 8, 8, 4]
    sent.append(-1)
    page.set_input_files("#files", many[:3])
    expect(page.locator("#progress-text")).to_have_text("20 of 23 pictures…")
    page.click("#cancel")
    expect(page.locator("#progress-text")).to_have_text("Cancelled. 3 pictures not answered.")
    expect(page.locator("#said")).to_have_text("Cancelled. 3 pictures not answered.")
    page.select_option("#filter-result", label="not answered yet")
    assert names(page) == ["00.png", "01.png", "02.png"]
    sent.clear()
    page.click("#cancel")
    expect(page.locator("#progress")).to_be_hidden()
    assert sent == [3]


def test_a_server_that_goes_and_comes_back_with_another_model(visit, pictures):
    page = visit().page
    page.clock.install()
    page.route("**/v1/predict", lambda route: route.abort())
    one, two = (
        {"name": f"{k}.png", "mimeType": "image/png", "buffer": (pictures / name).read_bytes()}
        for k, name in enumerate(("grey-220.png", "grey-040.png"))
    )
    page.set_input_files("#files", one)
    for seconds in (1, 2, 4):
        expect(page.locator("#progress-text")).to_contain_text("The server was not reached")
        page.clock.run_for(1000 * seconds + 50)
    expect(page.locator("#progress-text")).to_contain_text("The server can not be reached")
    expect(page.locator("#cancel")).to_have_text("Go on")
    page.unroute("**/v1/predict")
    page.click("#cancel")
    expect(page.locator("#progress")).to_be_hidden()
    assert rows(page)[0][2] == "PNEUMONIA"
    page.evaluate(
        """() => {
          const data = new DataTransfer();
          data.items.add(new File([new Uint8Array(65e6)], "huge.dcm"));
          document.dispatchEvent(new ClipboardEvent("paste", { clipboardData: data }));
        }"""
    )
    expect(page.locator("#rows tr").nth(1)).to_contain_text(
        "The file has 65 MB; this server takes 64 MB. Send a smaller picture."
    )

    def other(route):
        response = route.fetch()
        said = response.json()
        (said.get("model") or said).update(id="0123456789ab", name="the new one")
        route.fulfill(response=response, json=said)

    page.route(re.compile("/v1/(model|predict)"), other)
    page.set_input_files("#files", two)
    expect(page.locator("#notice-text")).to_contain_text(
        "another model, the new one (0123456789ab)"
    )
    expect(page.locator("#notice-text")).to_contain_text(
        "1 case here was answered by the one before"
    )
    with page.expect_request("**/v1/predict") as asked:
        page.click("#notice-button")
    assert asked.value.post_data_buffer.count(b"0.png") == 1
    expect(page.locator("h1")).to_have_text("the new one")


def flat(grey):
    """A PNG of one grey that fills the network's input."""
    out = io.BytesIO()
    Image.fromarray(np.full((32, 48), grey, np.uint8)).save(out, "PNG")
    return out.getvalue()


def test_hundreds_of_pictures_in_order(visit):
    """Small requests in order, only what is in sight laid out, a few pictures fetched."""
    page = visit().page
    greys = {f"{k:03}.png": 37 * k % 256 for k in range(200)}
    sent, flying = [], [0]

    def asked(route):
        body = route.request.post_data_buffer
        sent.append([name.decode() for name in re.findall(rb'filename="([^"]+)"', body)])
        flying.append(flying[-1] + 1)
        route.continue_()

    def answered(request):
        if request.url.endswith("/v1/predict"):
            flying.append(flying[-1] - 1)

    page.route("**/v1/predict", asked)
    page.on("requestfinished", answered)
    page.evaluate(
        """() => {
          window.made = [];
          const make = URL.createObjectURL;
          URL.createObjectURL = (blob) => { made.push(blob.type); return make.call(URL, blob); };
        }"""
    )
    files = [
        {"name": n, "mimeType": "image/png", "buffer": flat(grey)} for n, grey in greys.items()
    ]
    page.set_input_files("#files", files)
    expect(page.locator("#download")).to_have_text("Download CSV (200)")
    assert [name for request in sent for name in request] == list(greys)
    assert {len(request) for request in sent} == {8} and max(flying) <= 2
    said = {name: f"{grey_score(grey):.3f}" for name, grey in greys.items()}
    assert [(row[1], row[3]) for row in rows(page)] == list(said.items())
    in_sight = """all => all.map(e => e.checkVisibility({ contentVisibilityAuto: true }))"""
    laid_out = page.locator("#rows th").evaluate_all(in_sight)
    assert laid_out[0] and sum(laid_out) < 60
    page.locator("#rows tr").first.click()
    page.keyboard.press("End")
    expect(page.locator("#rows tr").last).to_be_focused()
    expect(page.locator("#rows tr").last).to_be_in_viewport(ratio=0.99)
    page.locator("thead").get_by_role("button", name="Probability").click()
    falling = sorted(greys, key=lambda name: (-greys[name], name))
    assert names(page) == falling
    expect(page.locator("#case-name")).to_have_text("199.png")  # the choice stays
    expect(page.locator("#case-place")).to_have_text(f"{falling.index('199.png') + 1} of 200")
    page.wait_for_function(
        """() => {
          const [list, row] = ["#list", "tr[aria-selected=true]"].map(
            (name) => document.querySelector(name).getBoundingClientRect());
          return list.top <= row.top && row.bottom <= list.bottom + 1;
        }"""
    )
    with page.expect_download() as waiting:
        page.click("#download")
    found = list(csv.reader(io.StringIO(waiting.value.path().read_text(), newline="")))[1:]
    assert [row[0] for row in found] == list(greys)
    for name, _, pneumonia, _ in found:
        assert float(pneumonia) == pytest.approx(grey_score(greys[name]), abs=2e-6)
    assert page.evaluate("made") == ["text/csv;charset=utf-8"]  # no address of a picture


def test_few_pictures_are_kept(visit, pictures):
    """Twelve, or fewer large ones: 24 million pixels together."""
    page = visit().page
    choose(page, pictures, "grey-220.png")
    large = io.BytesIO()
    Image.new("L", (2500, 2400), 90).save(large, "PNG")
    asked = []

    def answer(route):
        if not route.request.url.endswith(("size=100", "size=2500")):  # the page's own
            return route.continue_()
        content = large if "size=2500" in route.request.url else io.BytesIO(flat(90))
        asked.append(route.request.url)
        said = {"picture": base64.b64encode(content.getvalue()).decode(), "heat": None}
        route.fulfill(json={"predictions": [{"label": "NORMAL", "cut": None, **said}]})

    page.route("**/v1/explain*", answer)
    fetched = """async ([size, numbers]) => {
      const { Pictures } = await import("./static/pictures.js");
      window.kept ??= new Pictures();
      const model = { id: "m", preprocessing: { letterbox: false } };
      for (const number of numbers) {
        const item = { number, name: "a.png", file: new File(["x"], "a.png") };
        await kept.get(item, { label: "", size, model }, new AbortController().signal);
      }
    }"""
    for size, numbers, requests in (
        (100, list(range(13)), 13),
        (100, list(range(1, 13)), 0),  # kept
        (100, [0], 1),  # was the oldest
        (2500, [20, 21, 22, 23], 4),  # 6 million pixels each: the small ones had to go
        (2500, [20, 21, 22, 23], 0),
        (2500, [24, 20], 2),
        (100, [12], 1),
    ):
        asked.clear()
        page.evaluate(fetched, [size, numbers])
        assert len(asked) == requests, (size, numbers)


def test_how_long_it_takes_is_said_when_it_can_be_judged(visit):
    page = visit().page
    expect(page.locator("h1")).to_have_text("chest <b>radiographs</b>")
    page.clock.install()
    shown_of = """async ([all, done]) => {
      const { Progress } = await import("./static/progress.js");
      window.measured ??= new Progress({ cancel() {}, resume() {} });
      const state = (k) => ({ state: k < done ? "done" : "waiting" });
      measured.show(Array.from({ length: all }, (_, k) => state(k)), { stopped: null, pause: 0 });
      return document.getElementById("progress-text").textContent;
    }"""
    assert page.evaluate(shown_of, [1200, 0]) == "0 of 1,200 pictures…"
    page.clock.run_for(3000)
    assert page.evaluate(shown_of, [1200, 20]) == "20 of 1,200 pictures…"
    page.clock.run_for(7000)  # 50 in 10 s: 1150 in 230 s
    assert page.evaluate(shown_of, [1200, 50]).endswith("pictures… About 4 min left.")
    page.clock.run_for(10000)  # 1000 in 20 s: 200 in 4 s
    assert page.evaluate(shown_of, [1200, 1000]).endswith("pictures… About 5 s left.")
    page.clock.run_for(10000)  # 600 in 30 s: 600 in 30 s
    assert page.evaluate(shown_of, [1200, 600]).endswith("pictures… About 30 s left.")
