"""The page of ``lenet play``: one file, its views in a browser, by mouse, touch and keyboard."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from importlib.resources import files

import numpy as np
import pytest
from click.testing import CliRunner
from networks import (
    first_lenet5,
    max_stack,
    normalised_stack,
    padded_stack,
    randomized,
)
from numpy.testing import assert_allclose
from shown import of, python_probabilities, subsampling_stack, written
from untrained import untrained, untrained_colour

from lenet.checkpoint.checkpoint import save_checkpoint
from lenet.checkpoint.restore import read_checkpoint
from lenet.cli import cli
from lenet.data.strokes import draw
from lenet.errors import ConfigError
from lenet.nn.linear import Linear
from lenet.nn.network import Network
from lenet.nn.pooling import MaxPooling
from lenet.nn.unpooling import MaxUnpooling
from lenet.targets.networks import exported_network
from lenet.targets.page.html import page_data, to_html

# --- The page ------------------------------------------------------------------------------------


def test_the_page_of_lenet5_is_one_small_file_that_uses_no_network(tmp_path):
    out = tmp_path / "play.html"
    result = CliRunner().invoke(cli, ["play", "pretrained", "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert result.output.startswith(f"{out}: ")
    page = out.read_text(encoding="utf-8")
    assert out.stat().st_size <= 500_000
    policy = re.search(r'http-equiv="Content-Security-Policy"\s+content="([^"]+)"', page)[1]
    assert policy.startswith("default-src 'none'; ")
    for tag, directive in (("script", "script-src"), ("style", "style-src")):
        content = re.search(rf"<{tag}>(.*?)</{tag}>", page, re.S)[1]
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}'" in policy
    assert not re.search(r"""(src|href)=["'](?!#)|https?:|@import|url\(|fetch\(|style=""", page)
    assert "{{" not in page


def test_names_cannot_end_the_data(tmp_path):
    checkpoint = untrained(class_names=("</script><b>", *map(str, range(9))))
    page = to_html(exported_network(checkpoint))
    assert "</script><b>" not in page
    data = re.search(r'<script type="application/json"[^>]*>(.*?)</script>', page, re.S)[1]
    assert json.loads(data)["classes"][0] == "</script><b>"


def test_a_colour_network_has_a_page():
    data = page_data(exported_network(untrained_colour()))
    assert data["input"] == (3, 12, 16)
    assert data["size"] == (12, 16)


def test_a_layer_that_cannot_be_shown_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"layer output: the page cannot show RBF; "):
        page_data(of(first_lenet5()))
    with pytest.raises(ConfigError, match=r"U: the page cannot show MaxUnpooling; "):
        page_data(of(unpooled()))


def unpooled():
    pooling = MaxPooling("S", 2)
    return Network([pooling, MaxUnpooling("U", pooling), Linear("F", 3)], (1, 6, 6))


def test_a_refusal_exits_with_2(tmp_path):
    checkpoint = untrained(
        model__layers=[
            {"type": "convolution", "filters": 2, "kernel": 5},
            {"type": "repeat_unpooling", "kernel": 2},
            {"type": "linear", "units": 10},
        ]
    )
    save_checkpoint(tmp_path / "unpooled.npz", checkpoint)
    result = CliRunner().invoke(cli, ["play", str(tmp_path / "unpooled.npz")])
    assert isinstance(result.exception, ConfigError)
    assert result.exception.exit_code == 2


# --- In a browser --------------------------------------------------------------------------------

IN_PAGE = """
const network = networkOf(JSON.parse(document.getElementById("network").textContent));
return input.images.map((image) => {
  const passes = forward(network, inputOf(network, image));
  return Array.from(softmax(passes[passes.length - 1].y));
});
"""
EVERY_LAYER = """
const { layers } = JSON.parse(document.getElementById("network").textContent);
let visited = 0;
for (const view of ["forward", "backward"])
  for (const { name } of layers)
    for (const mode of ["", "/matrix"]) {
      location.hash = `#${view}/${encodeURIComponent(name)}/0/0/0${mode}?label=1`;
      await new Promise((resolve) => setTimeout(resolve, 10));
      const shown = !document.getElementById(`${view}-view`).hidden;
      if (shown && document.getElementById(`${view}-unit`).textContent) visited++;
    }
return visited === 4 * layers.length;
"""


def test_digits_are_drawn_with_mouse_finger_pen_and_keys(browser, lenet5_page):
    browser.window(390, 844, phone=True)
    browser.open(lenet5_page)
    assert browser.text("#answer b") == "8"
    for pointer in ("mouse", "touch", "pen"):
        browser.click("#clear")
        browser.stroke("#pad", [(0.5, 0.15), (0.5, 0.5), (0.5, 0.85)], pointer)
        assert browser.text("#answer b") == "1", pointer
    browser.evaluate("document.getElementById('pad').focus()")
    browser.press("Delete")
    browser.press(" ")
    browser.press("ArrowDown", times=16)
    assert browser.text("#answer b") == "1"
    assert browser.problems() == []


@pytest.mark.parametrize("stack", [padded_stack, normalised_stack, subsampling_stack, max_stack])
def test_every_layer_is_shown_in_both_directions(browser, tmp_path, stack):
    browser.open(written(of(stack()), tmp_path))
    assert browser.run(EVERY_LAYER)
    assert browser.problems() == []


def test_the_browser_computes_what_python_computes(browser, lenet5_page):
    images, _ = draw(30, seed=13)
    browser.open(lenet5_page)
    found = browser.run(IN_PAGE, images=images.reshape(len(images), -1).tolist())
    exported = exported_network(read_checkpoint("pretrained"))
    assert_allclose(found, python_probabilities(exported, images), atol=1e-3)


@pytest.mark.parametrize("width", [390, 1366, 1920])
def test_nothing_is_wider_than_the_window(browser, lenet5_page, width):
    browser.window(width, 800)
    for address in (
        "#draw",
        "#forward/C3/2/4/5/matrix",
        "#backward/C3/2/0/8",
        "#im2col/7/7/3/4/1/2",
    ):
        browser.open(lenet5_page, address)
        assert browser.evaluate("document.documentElement.scrollWidth") <= width, address


def test_the_policy_of_the_page_refuses_the_network(browser, tmp_path):
    browser.open(written(exported_network(untrained()), tmp_path))
    call = 'fetch("http://127.0.0.1:9/").then(() => "reached", () => "refused")'
    assert browser.evaluate(call) == "refused"
    assert any("Content Security Policy" in problem for problem in browser.problems())


def test_strange_addresses_show_something(browser, lenet5_page):
    for address in (
        "#%",
        "#forward/none/9/9/9",
        "#draw/C1",
        "#backward/C1/99/-1/x?label=length&digit=33",
    ):
        browser.open(lenet5_page, address)
        assert (
            browser.evaluate(
                "[...document.querySelectorAll('section')].filter(s => !s.hidden).length"
            )
            == 1
        )
        assert browser.problems() == []
    browser.open(lenet5_page, "#im2col/99/4/1/4/1/x")
    assert "Ho = ⌊(7 + 2·0 − 4)/1⌋ + 1 = 4, Wo = 1" in browser.text("#im2col-result")


# --- Faults that a class found --------------------------------------------------------------------


def focused(browser):
    return browser.evaluate("document.activeElement.getAttribute('aria-label') ?? ''")


def test_typing_keeps_the_focus(browser, lenet5_page):
    browser.open(lenet5_page, "#im2col/4/4/1/2/2/0")
    first = "#im2col-result input[aria-label='image x, row 0, column 0']"
    browser.run(
        "const e = document.querySelector(input.first); e.focus(); e.select();", first=first
    )
    for digit in "1010":
        browser.send("Input.insertText", text=digit)
        browser.press("Tab")
    assert focused(browser) == "image x, row 1, column 0"
    row = "[...document.querySelectorAll(\"[aria-label^='image x, row 0']\")].map((e) => e.value)"
    assert browser.evaluate(row) == list("1010")


def test_the_loss_of_a_drawing_waits_for_its_label(browser, lenet5_page):
    browser.open(lenet5_page)
    browser.click("#clear")
    assert browser.text("#answer b") == "Nothing is drawn."
    browser.stroke("#pad", [(0.25, 0.15), (0.75, 0.15), (0.45, 0.85)])
    browser.click("#views a:nth-child(3)")
    assert browser.text("#loss b") == "What did you draw?"
    assert browser.text("#backward-maps") == ""
    browser.click("#loss button", label="7")
    assert "log p(7)" in browser.text("#loss b")
    assert browser.text("#backward-maps") != ""
    assert browser.problems() == []


def test_another_layer_keeps_the_place(browser, lenet5_page):
    browser.open(lenet5_page, "#backward/C1.activation/3/8/14?label=3")
    browser.choose("#backward-unit select", "0")
    assert browser.evaluate("location.hash") == "#backward/C1/3/8/14?label=3"
    browser.choose("#backward-unit select", "2")
    assert browser.evaluate("location.hash") == "#backward/S2/3/4/7?label=3"


def test_changed_weights_are_reported_in_every_view(browser, lenet5_page):
    browser.open(lenet5_page, "#backward?label=3")
    browser.click("#descent button", label="Take one step")
    for view in range(1, 5):
        browser.click(f"#views a:nth-child({view})")
        assert "steps taken: 1" in browser.text("#notice")
    browser.click("#reset")
    assert browser.text("#notice") == ""


def test_the_pen_of_the_keyboard_is_visible(browser, lenet5_page):
    browser.open(lenet5_page)
    browser.evaluate("document.getElementById('pad').focus()")
    pen = "document.getElementById('pen')"
    place = f"[{pen}.hidden, {pen}.className, {pen}.style.left, {pen}.style.top]"
    raised = browser.evaluate(place)
    assert raised[:2] == [False, ""]
    browser.press("ArrowLeft", times=3)
    browser.press(" ")
    lowered = browser.evaluate(place)
    assert lowered[1] == "down"
    assert lowered[2] != raised[2]
    assert "pen down" in browser.evaluate(
        "document.getElementById('pad').getAttribute('aria-label')"
    )


def test_a_reload_keeps_drawing_label_and_steps(browser, lenet5_page):
    browser.open(lenet5_page)
    browser.click("#clear")
    browser.stroke("#pad", [(0.5, 0.15), (0.5, 0.85)])
    browser.click("#views a:nth-child(3)")
    browser.click("#loss button", label="4")
    browser.click("#descent button", label="Take one step")
    before = browser.text("#loss") + browser.text("#notice")
    browser.send("Page.reload")
    browser.run(
        "while (!document.querySelector('#loss b')) await new Promise((r) => setTimeout(r, 20));"
    )
    assert browser.text("#loss") + browser.text("#notice") == before


def test_two_fingers_draw_no_line_between_them(browser, lenet5_page):
    browser.window(390, 844, phone=True)
    browser.open(lenet5_page)
    browser.click("#clear")
    (x, y), (X, Y) = browser.place("#pad", 0.2, 0.2), browser.place("#pad", 0.8, 0.8)
    for kind, fingers in (
        ("touchStart", [{"x": x, "y": y, "id": 1}, {"x": X, "y": Y, "id": 2}]),
        ("touchMove", [{"x": x, "y": y + 9, "id": 1}, {"x": X, "y": Y - 9, "id": 2}]),
        ("touchEnd", []),
    ):
        browser.send("Input.dispatchTouchEvent", type=kind, touchPoints=fingers)
    middle = "document.getElementById('pad').getContext('2d').getImageData(140, 140, 1, 1).data[0]"
    assert browser.evaluate(middle) == 0
    corner = middle.replace("140, 140", "56, 58")
    assert browser.evaluate(corner) == 255


def test_results_are_above_the_fold_of_a_laptop(browser, lenet5_page):
    browser.window(1366, 768)
    bottom = "(selector) => document.querySelector(selector).getBoundingClientRect().bottom"
    for address, selector in (
        ("#draw", "#probabilities"),
        ("#draw", "#examples"),
        ("#forward/C1/3/8/14", "#forward-unit .formula"),
        ("#forward/C3/2/4/5", "#forward-unit .formula"),
        ("#forward/C1/3/8/14/matrix", "#forward-unit canvas.exact"),
        ("#backward?label=3", "#backward-maps .diagram"),
        ("#im2col", "#im2col-result .three"),
    ):
        browser.open(lenet5_page, address)
        assert browser.evaluate(f"({bottom})('{selector}')") <= 768, (address, selector)


# --- One number ----------------------------------------------------------------------------------


def test_a_number_is_followed_there_and_back(browser, lenet5_page):
    browser.window(1366, 768)
    browser.open(lenet5_page, "#forward/C1/3/8/14?digit=8&label=3")
    assert "C1 map 3 (8, 14) = −2.046 = Σ w·x + b" in browser.text("#spoken")
    names = "[...document.querySelectorAll('#path ol:first-child b')].map((b) => b.textContent)"
    path = browser.evaluate(names)
    assert path[0].startswith("pixel")
    assert path[1] == "C1·3 (8, 14)"
    assert len(path) == 12
    assert (
        browser.evaluate("document.querySelectorAll('#path ol:nth-child(2) button').length") == 12
    )
    browser.click("#path ol:first-child li:nth-child(4) button")  # S2
    assert browser.evaluate("location.hash") == "#forward/S2/3/4/7?label=3"
    assert browser.evaluate(names) == path  # the path stays
    browser.click("#forward-unit td .number")
    assert browser.evaluate("location.hash") == "#forward/C1.activation/3/8/14?label=3"
    assert browser.problems() == []


def test_maps_are_grids_with_arrow_keys_and_spoken_values(browser, lenet5_page):
    browser.window(1366, 768)
    browser.open(lenet5_page, "#forward/C1/3/8/14")
    browser.evaluate("document.querySelector('#forward-view [data-cell=\"0/3\"]').focus()")
    assert focused(browser).startswith("row 8, column 14: −2.046")
    browser.press("ArrowRight")
    browser.run("await new Promise((r) => setTimeout(r, 100));")
    assert focused(browser).startswith("row 8, column 15: ")
    assert "C1 map 3 (8, 15)" in browser.text("#spoken")
    browser.press("Enter")
    assert browser.evaluate("location.hash") == "#forward/C1/3/8/15"


def test_the_texts_are_complete_in_five_languages():
    texts = (files("lenet.targets.page") / "texts.js").read_text("utf-8")
    found = re.findall(r"^  (\w+): (\[.*\]),$", texts, re.M)
    assert len(found) > 200
    for key, line in found:
        versions = json.loads(line)
        assert len(versions) == 5, key
        places = [sorted(re.findall(r"\{\d\}", version)) for version in versions]
        assert all(place == places[0] for place in places), key


def test_the_language_can_be_changed(browser, lenet5_page):
    browser.open(lenet5_page)
    for code, text in (
        ("zh", "绘制"),
        ("de", "Zeichnen"),
        ("fr", "Dessiner"),
        ("es", "Dibujar"),
        ("en", "Draw"),
    ):
        browser.choose("#language", code)
        assert text in browser.text("#views")
        assert browser.evaluate("document.documentElement.lang") == code
    assert browser.problems() == []


def test_an_address_that_names_nothing_is_reported(browser, lenet5_page):
    for address, text in (
        ("#forward/none/9/9/9", "does not have: none"),
        ("#forward/C1/99/0/0", "does not exist: C1/99/0/0. The last is map 5, row 27, column 27."),
        ("#cinema", "no view: cinema"),
        ("#draw?digit=33", "no example of 33"),
        ("#backward?label=x", "no class x"),
    ):
        browser.open(lenet5_page, address)
        assert text in browser.text("#notice [role=alert]"), address


def test_more_than_30_classes_are_refused():
    network = randomized(Network([Linear("F1", 31)], (1, 5, 4), np.float64))
    with pytest.raises(ConfigError, match=r"F1: the page shows at most 30 classes"):
        page_data(of(network))


def test_weights_that_are_not_finite_are_reported(browser, lenet5_page, tmp_path):
    page = lenet5_page.read_text("utf-8")
    broken = tmp_path / "broken.html"
    broken.write_text(re.sub(r'"scales":\[[0-9.e-]+', '"scales":[1e999', page, count=1), "utf-8")
    assert broken.read_text("utf-8") != page
    browser.open(broken)
    assert "not all finite numbers" in browser.text("#notice [role=alert]")
