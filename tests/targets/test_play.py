"""The page of ``lenet play`` computes what this package computes, in Node and in a browser."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from engines import CHROMIUM, NODE, Browser, in_node
from networks import (
    colour_stack,
    dense_stack,
    first_lenet5,
    max_stack,
    mean_stack,
    normalised_stack,
    padded_stack,
    randomized,
)
from numpy.testing import assert_allclose, assert_array_equal
from untrained import untrained, untrained_colour

from lenet import load_data
from lenet.checkpoint.checkpoint import save_checkpoint
from lenet.checkpoint.restore import read_checkpoint
from lenet.cli import cli
from lenet.data.preprocessing import Preprocessing
from lenet.data.strokes import draw
from lenet.errors import ConfigError
from lenet.nn.activations import Activation
from lenet.nn.convolution import Convolution
from lenet.nn.dropout import Dropout
from lenet.nn.linear import Linear
from lenet.nn.losses import SoftmaxCrossEntropy
from lenet.nn.network import Network
from lenet.nn.pooling import AveragePooling, MaxPooling
from lenet.nn.subsampling import Subsampling
from lenet.nn.unpooling import MaxUnpooling
from lenet.predict import redraw
from lenet.targets.exported import ExportedNetwork, exported_network
from lenet.targets.page.html import in_16_bits, page_data, to_html

ROOT = Path(__file__).resolve().parents[2]
needs_node = pytest.mark.skipif(NODE is None, reason="Node is not installed")

FORWARD = """
const network = networkOf(input.data);
return input.images.map((image) => {
  const passes = forward(network, inputOf(network, image));
  return Array.from(softmax(passes[passes.length - 1].y));
});
"""
BACKWARD = """
const network = networkOf(input.data), x = Float64Array.from(input.x);
const passes = forward(network, x);
const { E, dz } = crossEntropy(passes[passes.length - 1].y, input.label);
const gradients = backward(network, passes, dz);
const after = forward(descend(network, gradients, 1e-6), x);
return {
  E, dx: Array.from(gradients[0].dx),
  step: crossEntropy(after[after.length - 1].y, input.label).E - E,
  dW: gradients.filter((g) => g.dW).map((g) => Array.from(g.dW)),
  db: gradients.filter((g) => g.db).map((g) => Array.from(g.db)),
  turned: gradients.flatMap((g, l) => {
    if (network.layers[l].type !== "convolution") return [];
    const full = fullConvolution(g.dy, network.layers[l]);
    return [Math.max(...full.map((v, q) => Math.abs(v - g.dx[q])))];
  }),
};
"""


def of(network):
    """Make a network ready for the page, without scaling."""
    classes = tuple(map(str, range(network.output_shape[0])))
    size = network.input_shape[1:]
    preprocessing = Preprocessing(network.input_shape, scale=1 / 255, shift=0.0)
    return ExportedNetwork(network, size, preprocessing, classes, "a test")


def softmax(z):
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def python_probabilities(exported, images):
    return softmax(exported.scores(images[:, None]).astype(np.float64))


# --- The arithmetic of the scripts ---------------------------------------------------------------


@needs_node
def test_the_page_recognises_mnist_as_python_does(mnist_dir):
    images = load_data("mnist", "test", directory=mnist_dir).images[:300]
    exported = exported_network(read_checkpoint("pretrained"))
    data = page_data(exported)
    found = np.array(in_node(FORWARD, data=data, images=images.reshape(len(images), -1).tolist()))
    expected = python_probabilities(exported, images)
    assert_array_equal(found.argmax(axis=1), expected.argmax(axis=1))
    assert_allclose(found, expected, atol=1e-3)


@needs_node
def test_the_page_recognises_drawn_digits_as_python_does():
    images, _ = draw(60, seed=11)
    exported = exported_network(read_checkpoint("pretrained"))
    data = page_data(exported)
    found = np.array(in_node(FORWARD, data=data, images=images.reshape(len(images), -1).tolist()))
    expected = python_probabilities(exported, images)
    assert_array_equal(found.argmax(axis=1), expected.argmax(axis=1))
    assert_allclose(found, expected, atol=1e-3)


def table_stack():
    """A table of connections, groups, and kernels turned by 180°."""
    layers = [
        Convolution("C1", 4, 3, padding=1),
        Activation("a", "lecun_tanh"),
        Convolution("C2", 3, (2, 3), table=((0, 1), (3,), (0, 1, 2, 3))),
        Activation("b", "sigmoid"),
        AveragePooling("S3", 2),
        Dropout("S3.dropout"),
        Linear("F4", 4),
    ]
    return randomized(Network(layers, (1, 11, 12), np.float64))


def subsampling_stack():
    layers = [
        Subsampling("S1", 2, stride=(1, 2)),
        Activation("S1.activation", "lecun_tanh"),
        Convolution("C2", 3, 3, stride=2),
        Subsampling("S3", 2),
        Linear("F4", 3),
    ]
    return randomized(Network(layers, (2, 12, 13), np.float64))


STACKS = {
    "groups, strides, turned kernels": colour_stack,
    "a table of connections": table_stack,
    "overlapping maxima": max_stack,
    "averages with padding": mean_stack,
    "padding that differs, dilation": padded_stack,
    "linear layers": dense_stack,
    "batch normalisation": normalised_stack,
    "trainable subsampling": subsampling_stack,
}


@needs_node
@pytest.mark.parametrize("stack", STACKS.values(), ids=STACKS)
def test_gradients_of_every_layer_are_those_of_python(stack):
    exported = of(stack())
    network = exported.network
    network.training = False
    round_weights(network)
    x = np.random.default_rng(2).standard_normal((*network.input_shape, 1))
    compare_gradients(exported, x, label=1, tolerance=1e-6)


def round_weights(network):
    """Round the weights as the page stores them, so that both compute with the same numbers."""
    for layer in network.layers:
        if not layer.parameters:
            continue
        value, F = layer.weight.value, layer.bias.value.size
        table = getattr(layer, "table", None)
        rows = layer.connected[0] if table else np.arange(F).repeat(len(value) // F)
        for f in range(F):
            levels, scales = in_16_bits(value[rows == f].reshape(1, -1))
            value[rows == f] = (levels * scales[0]).reshape(value[rows == f].shape)


@needs_node
def test_gradients_of_lenet5_are_those_of_python():
    exported = exported_network(read_checkpoint("pretrained"))
    round_weights(exported.network)  # or a ReLU near zero may be open here and closed there
    images, labels = draw(5, seed=12)
    for image, label in zip(images, labels, strict=True):
        wrong = (int(label) + 3) % 10  # a label for which the gradient is not almost zero
        compare_gradients(exported, exported.preprocessing.prepare(image[None]), wrong)


def compare_gradients(exported, x, label, tolerance=1e-4):
    """Compare to 1e-3; ``tolerance`` is for numbers near zero, as a part of the largest."""
    network, loss = exported.network, SoftmaxCrossEntropy(exported.network.output_shape[0])
    E = loss.forward(network.forward(x), np.array([label]))
    network.backward(loss.backward())
    found = in_node(BACKWARD, data=page_data(exported), x=x.ravel().tolist(), label=label)
    assert_allclose(found["E"], E, rtol=1e-3)
    assert found["step"] < 0
    assert max(found["turned"], default=0) < 1e-12
    layers = [layer for layer in network.layers if layer.parameters]
    assert len(found["dW"]) == len(found["db"]) == len(layers)
    for layer, dW, db in zip(layers, found["dW"], found["db"], strict=True):
        scale = np.abs(layer.weight.gradient).max()
        expected = dense(layer, layer.weight.gradient)
        assert_allclose(dW, expected.ravel(), rtol=1e-3, atol=tolerance * scale)
        assert_allclose(db, layer.bias.gradient, rtol=1e-3, atol=tolerance * scale)


def dense(layer, gradient):
    """Return a gradient (F,C,kh,kw) as the page has it: turned, and 0 without a connection."""
    if not isinstance(layer, Convolution):
        return gradient
    result = np.zeros((layer.F, layer.shape[0], *layer.kernel))
    if layer.table is not None:
        for k, (f, c) in enumerate((f, c) for f, row in enumerate(layer.table) for c in row):
            result[f, c] = gradient[k]
        return result
    per_group, C = layer.F // layer.groups, layer.shape[0] // layer.groups
    for f in range(layer.F):
        group = f // per_group
        result[f, group * C : (group + 1) * C] = gradient[f]
    return result[:, :, ::-1, ::-1] if layer.flip else result


@needs_node
def test_the_gradient_of_the_input_by_finite_differences():
    exported = of(table_stack())
    x = np.random.default_rng(3).standard_normal(exported.network.input_shape).ravel()
    found = in_node(BACKWARD, data=page_data(exported), x=x.tolist(), label=2)
    loss = """
    const network = networkOf(input.data);
    return input.xs.map((x) => {
      const passes = forward(network, Float64Array.from(x));
      return crossEntropy(passes[passes.length - 1].y, 2).E;
    });
    """
    steps = 1e-5 * np.eye(len(x))[::17]
    shifted = [*(x + steps).tolist(), *(x - steps).tolist()]
    E = np.array(in_node(loss, data=page_data(exported), xs=shifted)).reshape(2, -1)
    assert_allclose(found["dx"][::17], (E[0] - E[1]) / 2e-5, rtol=1e-4, atol=1e-9)


@needs_node
def test_a_drawing_is_prepared_as_mnist_was():
    images, _ = draw(10, seed=5)
    large = np.roll(images.repeat(8, axis=1).repeat(8, axis=2) / 255, (9, -12), axis=(1, 2))
    code = "return input.inks.map((ink) => Array.from(normalised(ink, 224, 224, [28, 28])));"
    found = np.array(in_node(code, inks=large.reshape(10, -1).round(4).tolist())).reshape(
        10, 28, 28
    )
    for image, ink in zip(found, large.astype(np.float32), strict=True):
        inked = [np.flatnonzero((ink > 0.3).any(axis=axis)) for axis in (0, 1)]
        scale = redraw.BOX / max(places[-1] + 1 - places[0] for places in inked)
        A, B = (redraw.placement(ink.sum(axis=axis), scale) for axis in (1, 0))
        assert_allclose(image, 255 * np.clip(A @ ink @ B.T, 0, 1), atol=1)
    centres = (found.sum(axis=2) @ np.arange(28)) / found.sum(axis=(1, 2))
    assert_allclose(centres, 14, atol=0.6)
    assert not np.any(in_node("return Array.from(normalised(new Float64Array(9), 3, 3, [4, 4]));"))


# --- The page ------------------------------------------------------------------------------------


def test_the_page_of_lenet5_is_one_small_file_that_uses_no_network(tmp_path):
    out = tmp_path / "play.html"
    result = CliRunner().invoke(cli, ["play", "pretrained", "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert result.output.startswith(f"{out}: ")
    page = out.read_text(encoding="utf-8")
    assert out.stat().st_size <= 400_000
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
      location.hash = `#${view}/${encodeURIComponent(name)}/1/1/1${mode}`;
      await new Promise((resolve) => setTimeout(resolve, 10));
      const shown = !document.getElementById(`${view}-view`).hidden;
      if (shown && document.getElementById(`${view}-unit`).textContent) visited++;
    }
return visited === 4 * layers.length;
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    with Browser(tmp_path_factory.mktemp("profile")) as running:
        yield running


@pytest.fixture(scope="module")
def lenet5_page(tmp_path_factory):
    return written(exported_network(read_checkpoint("pretrained")), tmp_path_factory.mktemp("page"))


def written(exported, folder):
    """Write a page, as it is, and return its path."""
    file = folder / "play.html"
    file.write_text(to_html(exported), encoding="utf-8")
    return file


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
    browser.open(lenet5_page, "#im2col/99/x/1/4/1/0")
    assert "Ho = ⌊(7 + 2·0 − 4)/1⌋ + 1 = 4, Wo = 1" in browser.text("#im2col-result")


# --- docs/lesson.md, click by click ---------------------------------------------------------------


class Lesson:
    """A person at the page: what is read there must also be in the answers of the lesson."""

    def __init__(self, browser, page):
        self.browser, self.page = browser, page
        self.text = (ROOT / "docs" / "lesson.md").read_text(encoding="utf-8")

    def visit(self, address):
        assert f"`play.html{address}`" in self.text
        self.browser.open(self.page, address)

    def reads(self, selector, *strings, answer=True):
        shown = self.browser.text(selector).replace("−", "-")
        for string in strings:
            assert string in shown, (string, shown)
            assert not answer or string in self.text, string


@pytest.fixture
def lesson(browser, lenet5_page):
    browser.window(1366, 768)
    person = Lesson(browser, lenet5_page)
    yield person
    assert browser.problems() == []


def test_lesson_forward(lesson, browser):
    lesson.visit("#draw")  # task 1
    browser.click("#clear")
    browser.stroke("#pad", [(0.5, 0.15), (0.5, 0.85)])
    lesson.reads("#answer", "1 with p", answer=False)
    browser.stroke("#pad", [(0.15, 0.15), (0.5, 0.15)])
    lesson.reads("#answer", "7 with p", answer=False)

    lesson.visit("#im2col/3/3/1/2/1/0")  # task 2
    lesson.reads("#im2col-result table.numbers:not(:has(caption))", "25314349", answer=False)
    browser.click("#im2col-result th button", label="3")
    lesson.reads("#im2col-result", "0·5 + 1·6 + 2·8 + 3·9 = 49", answer=False)
    lesson.visit("#im2col/5/5/1/3/2/1")  # task 3
    lesson.reads("#im2col-result .formula", "Ho = ⌊(5 + 2·1 - 3)/2⌋ + 1 = 3", answer=False)
    lesson.visit("#im2col/6/6/1/2/3/0")
    lesson.reads("#im2col-result .formula", "+ 1 = 2, Wo = 2", answer=False)

    lesson.visit("#forward/C1/3/8/14")  # task 4
    lesson.reads("#forward-unit .formula", "-1.933", "0.113", "-2.046", "y = max(z, 0) = 0")
    lesson.reads("#forward-unit", "20 of 25")
    browser.click("#forward-unit button", label="▶")
    assert browser.evaluate("location.hash") == "#forward/C1/3/8/15"
    browser.click("#forward-unit button", label="◀")
    browser.click("#forward-unit button", label="Unfold into columns: the matrix view")
    assert browser.evaluate("location.hash") == "#forward/C1/3/8/14/matrix"
    lesson.reads("#forward-unit", "238")
    browser.click("#forward-maps .layer:nth-child(5) canvas:nth-child(3)", 0.55, 0.45)  # C3
    assert browser.evaluate("location.hash") == "#forward/C3/2/4/5/matrix"
    browser.click("#slide")
    browser.run("await new Promise((resolve) => setTimeout(resolve, 700))")
    browser.click("#slide")
    row, column = map(int, browser.evaluate("location.hash").split("/")[3:5])
    assert 10 * row + column > 45


def test_lesson_backward(lesson, browser):
    lesson.visit("#backward?label=3")  # task 6
    lesson.reads("#loss", "5.3848", answer=False)
    lesson.reads("#loss", "0.0046", "-0.9954")
    browser.choose("#loss select", "8")
    lesson.reads("#loss", "E = -log p(8) = 0.0099", answer=False)
    assert browser.evaluate("location.hash") == "#backward"
    lesson.visit("#backward/F7/3?label=3")  # task 7
    lesson.reads("#backward-unit", "-0.9954 · 4.3288", answer=False)
    lesson.reads("#backward-unit", "-0.9954", "4.32")

    lesson.visit("#backward/C3/12/0/1?label=3")  # task 8
    lesson.reads("#backward-unit", "2 of 100", "dz = 0.", answer=False)
    browser.click("#backward-unit button", label="+1")
    lesson.reads("#backward-unit output", "3 of 100", answer=False)
    browser.click("#backward-unit button", label="▶ play")
    browser.run("await new Promise((resolve) => setTimeout(resolve, 400))")
    browser.click("#backward-unit button", label="❚❚ stop")
    assert int(browser.text("#backward-unit output").split()[0]) > 3

    lesson.visit("#im2col/5/5/1/3/2/0")  # task 9
    counts = "#im2col-result .row:nth-child(3) table:nth-child(2)"
    lesson.reads(counts, "1121111211224221121111211", answer=False)
    lesson.visit("#backward/C1/3/8/14?label=3")  # task 10
    lesson.reads("#backward-unit", "dz = 0 ×", "turned by 180°", answer=False)
    lesson.reads("#backward-unit", "Largest difference of the two: ", "e-15", answer=False)


def test_lesson_pooling_and_a_step(lesson, browser):
    lesson.visit("#im2col/4/4/1/2/2/0")  # task 11
    four = ["1", "0", "1", "0", "2", "1", "3", "2", "1", "2", "0", "4", "2", "2", "3", "0"]
    for place, value in enumerate(four):
        cell = f"tr:nth-child({place // 4 + 1}) td:nth-child({place % 4 + 1}) input"
        browser.write(f"#im2col-result .row:nth-child(2) table:nth-child(1) {cell}", value)
    pooling = "#im2col-result > div:nth-child(2) .row:last-child"
    lesson.reads(f"{pooling} table:nth-child(2)", "y2324", answer=False)
    lesson.reads(f"{pooling} table:nth-child(3)", "dx0000101001010000", answer=False)

    for rate, p3, digits, answers in (
        (0.01, "0.9987", "0123456789", "0123456339"),
        (1, "1.0000", "059", "333"),
    ):
        lesson.visit("#backward?label=3")  # task 12
        browser.write("#descent input", str(rate))
        browser.click("#descent button", label="Take one step")
        lesson.reads("#descent summary", f"p(3) 0.0046 → {p3}", answer=False)
        browser.click("#views a:nth-child(1)")
        found = ""
        for digit in digits:
            browser.click(f"#examples button:nth-child({int(digit) + 1})")
            found += browser.text("#answer b")
        assert found == answers
        assert f"{' '.join(answers)}]" in lesson.text
    browser.click("#views a:nth-child(3)")
    browser.click("#descent button", label="Go back")
    browser.click("#views a:nth-child(1)")
    browser.click("#examples button:nth-child(9)")
    lesson.reads("#answer", "8 with p = 0.9901", answer=False)
