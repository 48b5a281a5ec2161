"""The page of ``lenet play``: its scripts, run in Node, compute what this package computes."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import shutil
import subprocess
from importlib.resources import files

import numpy as np
import pytest
from click.testing import CliRunner
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
from lenet.cli import cli
from lenet.data.preprocessing import Preprocessing
from lenet.data.strokes import draw
from lenet.export.exported import ExportedNetwork, exported_network
from lenet.nn.activations import Activation
from lenet.nn.convolution import Convolution
from lenet.nn.dropout import Dropout
from lenet.nn.linear import Linear
from lenet.nn.losses import SoftmaxCrossEntropy
from lenet.nn.network import Network
from lenet.nn.pooling import AveragePooling, MaxPooling
from lenet.nn.subsampling import Subsampling
from lenet.nn.unpooling import MaxUnpooling
from lenet.play.page import in_16_bits, page_data, to_html
from lenet.predict import finder
from lenet.system.errors import ConfigError
from lenet.training.checkpoint import save_checkpoint
from lenet.training.restore import read_checkpoint

NODE = shutil.which("node")
BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
in_node = pytest.mark.skipif(NODE is None, reason="Node is not installed")
in_browser = pytest.mark.skipif(BROWSER is None, reason="Chromium is not installed")

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


def run(code, **values):
    """Return what a script on top of the page's arithmetic returns."""
    parts = [files("lenet.play").joinpath(name).read_text("utf-8") for name in SCRIPTS]
    call = (
        f"const input = {json.dumps(values)};\nconsole.log(JSON.stringify((() => {{{code}}})()));"
    )
    done = subprocess.run(
        [NODE, "-"],
        input="\n".join([*parts, call]),
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert not done.stderr, done.stderr
    return json.loads(done.stdout)


SCRIPTS = ("network.js", "prepare.js")  # those that need no browser


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


@in_node
def test_the_page_recognises_mnist_as_python_does(mnist_dir):
    images = load_data("mnist", "test", directory=mnist_dir).images[:300]
    exported = exported_network(read_checkpoint("pretrained"))
    data = page_data(exported)
    found = np.array(run(FORWARD, data=data, images=images.reshape(len(images), -1).tolist()))
    expected = python_probabilities(exported, images)
    assert_array_equal(found.argmax(axis=1), expected.argmax(axis=1))
    assert_allclose(found, expected, atol=1e-3)


@in_node
def test_the_page_recognises_drawn_digits_as_python_does():
    images, _ = draw(60, seed=11)
    exported = exported_network(read_checkpoint("pretrained"))
    data = page_data(exported)
    found = np.array(run(FORWARD, data=data, images=images.reshape(len(images), -1).tolist()))
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


@in_node
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
        rows = layer.filters if table else np.arange(F).repeat(len(value) // F)
        for f in range(F):
            levels, scales = in_16_bits(value[rows == f].reshape(1, -1))
            value[rows == f] = (levels * scales[0]).reshape(value[rows == f].shape)


@in_node
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
    found = run(BACKWARD, data=page_data(exported), x=x.ravel().tolist(), label=label)
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


@in_node
def test_the_gradient_of_the_input_by_finite_differences():
    exported = of(table_stack())
    x = np.random.default_rng(3).standard_normal(exported.network.input_shape).ravel()
    found = run(BACKWARD, data=page_data(exported), x=x.tolist(), label=2)
    loss = """
    const network = networkOf(input.data);
    return input.xs.map((x) => {
      const passes = forward(network, Float64Array.from(x));
      return crossEntropy(passes[passes.length - 1].y, 2).E;
    });
    """
    steps = 1e-5 * np.eye(len(x))[::17]
    shifted = [*(x + steps).tolist(), *(x - steps).tolist()]
    E = np.array(run(loss, data=page_data(exported), xs=shifted)).reshape(2, -1)
    assert_allclose(found["dx"][::17], (E[0] - E[1]) / 2e-5, rtol=1e-4, atol=1e-9)


@in_node
def test_a_drawing_is_prepared_as_mnist_was():
    images, _ = draw(10, seed=5)
    large = np.roll(images.repeat(8, axis=1).repeat(8, axis=2) / 255, (9, -12), axis=(1, 2))
    code = "return input.inks.map((ink) => Array.from(normalised(ink, 224, 224, [28, 28])));"
    found = np.array(run(code, inks=large.reshape(10, -1).round(4).tolist())).reshape(10, 28, 28)
    for image, ink in zip(found, large.astype(np.float32), strict=True):
        inked = [np.flatnonzero((ink > 0.3).any(axis=axis)) for axis in (0, 1)]
        scale = finder.BOX / max(places[-1] + 1 - places[0] for places in inked)
        A, B = (finder._placement(ink.sum(axis=axis), scale) for axis in (1, 0))
        assert_allclose(image, 255 * np.clip(A @ ink @ B.T, 0, 1), atol=1)
    centres = (found.sum(axis=2) @ np.arange(28)) / found.sum(axis=(1, 2))
    assert_allclose(centres, 14, atol=0.6)
    assert not np.any(run("return Array.from(normalised(new Float64Array(9), 3, 3, [4, 4]));"))


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

# Refused requests and errors are counted, the test's code runs, and its value is left in the page.
DRIVER = """
const problems = [], input = {values};
addEventListener("error", (event) => problems.push(event.message));
addEventListener("securitypolicyviolation", (event) => problems.push(event.violatedDirective));
const $ = (selector) => document.querySelector(selector);
const pause = () => new Promise((resolve) => setTimeout(resolve, 20));
const visit = (hash) => {{ location.hash = hash; return pause(); }};
const set = (element, value) => {{
  element.value = value;
  element.dispatchEvent(new Event("input"));
  element.dispatchEvent(new Event("change"));
}};
const press = (key) => $("#pad").dispatchEvent(new KeyboardEvent("keydown", {{ key }}));
const best = () => $("#probabilities .best b").textContent;
(async () => {{ {code} }})().catch((error) => problems.push(String(error))).then((value) => {{
  const result = document.createElement("pre");
  result.id = "result";
  result.textContent = JSON.stringify({{ value, problems }});
  document.body.append(result);
}});
"""

LESSON = """
const found = { first: best() };
const button = (place, label) =>
  [...document.querySelectorAll(`${place} button`)].find((b) => b.textContent === label);
$("#examples button:nth-child(8)").click();
found.example = best();
$("#clear").click();
const box = $("#pad").getBoundingClientRect();
$("#pad").setPointerCapture = () => {};
for (const [type, y] of [["down", 40], ["move", 140], ["move", 240], ["up", 240]])
  $("#pad").dispatchEvent(new PointerEvent(`pointer${type}`,
    { pointerId: 1, clientX: box.left + 140, clientY: box.top + y }));
found.drawn = best();
press("Delete");
press(" ");
for (let k = 0; k < 22; k++) press("ArrowDown");
found.keys = best();

await visit("#forward");
const map = $("#forward-maps .layer:nth-child(2) canvas:nth-child(3)");
const place = map.getBoundingClientRect();
map.dispatchEvent(new MouseEvent("click",
  { clientX: place.left + 0.52 * place.width, clientY: place.top + 0.3 * place.height }));
found.unit = location.hash;
found.formula = $("#forward-unit .formula").textContent;
button("#forward-unit", "Unfold into columns: the matrix view").click();
found.matrix = location.hash;
found.chinese = $("#forward-unit").textContent.includes("矩阵乘法");

await visit("#backward/C1/2/8/14");
const loss = () => Number($("#loss .fields b").textContent.split("= ").pop());
set($("#loss select"), 7);
found.losses = [loss()];
for (const label of ["Take one step", "Go back"]) {
  button("#descent", label).click();
  found.losses.push(loss());
}
set($("#backward-unit input[type=range]"), 100);
found.steps = $("#backward-unit output").textContent;

await visit("#im2col");
set(document.querySelectorAll("#im2col-sizes input")[3], 3);
set(document.querySelectorAll("#im2col-sizes input")[5], 1);
found.im2col = $("#im2col-result .formula").textContent;
await visit("#%");
found.shown = [...document.querySelectorAll("section")].filter((s) => !s.hidden).map((s) => s.id);
return found;
"""

EVERY_LAYER = """
const { layers } = JSON.parse($("#network").textContent);
let visited = 0;
for (const view of ["forward", "backward"])
  for (const { name } of layers)
    for (const mode of ["", "/matrix"]) {
      await visit(`#${view}/${encodeURIComponent(name)}/1/1/1${mode}`);
      if ($(`#${view}-unit`).textContent && !$(`#${view}-view`).hidden) visited++;
    }
return visited === 4 * layers.length;
"""

IN_PAGE = """
const network = networkOf(JSON.parse($("#network").textContent));
return input.images.map((image) => {
  const passes = forward(network, inputOf(network, image));
  return Array.from(softmax(passes[passes.length - 1].y));
});
"""


def drive(page, code, tmp_path, **values):
    """Return what code returns on the page; the policy gets the hash of the longer script."""
    script = re.search(r"<script>(.*?)</script>", page, re.S)[1]
    longer = script + DRIVER.format(values=json.dumps(values), code=code)
    old, new = (
        base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for text in (script, longer)
    )
    file = tmp_path / "play.html"
    file.write_text(page.replace(script, longer).replace(old, new), encoding="utf-8")
    done = subprocess.run(
        [
            *(BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"),
            *("--disable-background-networking", f"--user-data-dir={tmp_path / 'profile'}"),
            *("--window-size=1280,800", "--virtual-time-budget=60000", "--dump-dom", file.as_uri()),
        ],
        capture_output=True,
        encoding="utf-8",
        check=True,
        timeout=120,
    )
    result = json.loads(html.unescape(re.search(r'<pre id="result">(.*?)</pre>', done.stdout)[1]))
    return result.get("value"), result["problems"]


@in_browser
def test_a_lesson_in_the_browser(tmp_path):
    page = to_html(exported_network(read_checkpoint("pretrained")))
    found, problems = drive(page, LESSON, tmp_path)
    assert problems == []
    assert [found[key] for key in ("first", "example", "drawn", "keys")] == ["8", "7", "1", "1"]
    assert found["unit"] == "#forward/C1/2/8/14"
    assert found["matrix"] == "#forward/C1/2/8/14/matrix"
    assert re.search(r"Σ x·w = .*z = .*C1\.activation: y = max\(z, 0\)", found["formula"])
    assert found["chinese"]
    before, after, back = found["losses"]
    assert after < before == back
    assert found["steps"] == "100 of 784"
    assert found["im2col"].endswith(
        "Ho = ⌊(4 + 2·1 − 3)/1⌋ + 1 = 4, Wo = 4, K = C·k·k = 9, P = Ho·Wo = 16"
    )
    assert found["shown"] == ["draw-view"]


@in_browser
@pytest.mark.parametrize("stack", [padded_stack, normalised_stack, subsampling_stack])
def test_every_layer_is_shown_in_both_directions(tmp_path, stack):
    found, problems = drive(to_html(of(stack())), EVERY_LAYER, tmp_path)
    assert (found, problems) == (True, [])


@in_browser
def test_the_browser_computes_what_python_computes(tmp_path):
    images, _ = draw(30, seed=13)
    exported = exported_network(read_checkpoint("pretrained"))
    flat = images.reshape(len(images), -1).tolist()
    found, problems = drive(to_html(exported), IN_PAGE, tmp_path, images=flat)
    assert problems == []
    assert_allclose(found, python_probabilities(exported, images), atol=1e-3)


@in_browser
def test_the_policy_of_the_page_refuses_the_network(tmp_path):
    code = """
    const answer = await fetch("http://127.0.0.1:9/").then(() => "reached", () => "refused");
    await pause();
    return answer;
    """
    page = to_html(exported_network(untrained()))
    found, problems = drive(page, code, tmp_path)
    assert (found, problems) == ("refused", ["connect-src"])
