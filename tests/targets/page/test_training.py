"""The page trains as this package does, in Node and in the worker of a browser."""

import base64
import zlib

import numpy as np
import pytest
from engines import NODE, in_node
from numpy.testing import assert_allclose, assert_array_equal

from lenet.data.strokes import draw
from lenet.models.lenet5 import specification
from lenet.models.specification import Specification, build_layers, expanded
from lenet.nn.losses import SoftmaxCrossEntropy
from lenet.nn.network import Network
from lenet.optim.optimizers import SGD
from lenet.targets.page.html import DIGITS_SEED, NEAT, TEST, TRAINING, packed_digits

needs_node = pytest.mark.skipif(NODE is None, reason="Node is not installed")
RATE, MOMENTUM, BATCH, STEPS = 0.05, 0.9, 16, 10

TRAIN = """
const digits = input.images.map((levels, n) => ({ levels, label: input.labels[n] }));
const network = newNetwork(input.kind, 5);
const weights = () => network.layers.flatMap(({ W, b }) => (W ? [...W, ...b] : []));
const before = weights();
const { rate, momentum, batch, faults } = input;
const trainer = trainerOf(network, digits, { rate, momentum, batch, faults });
const losses = [];
for (let k = 0; k < input.steps; k++)
  losses.push(trainer.step(Array.from({ length: batch }, (_, n) => k * batch + n)).E);
return { before, losses, after: weights(), accuracy: trainer.evaluate(digits).accuracy };
"""


def digits():
    images, labels = draw(BATCH * STEPS, seed=3)
    return {"images": images.reshape(len(images), -1).tolist(), "labels": labels.tolist()}


def settings(kind="lenet5", **faults):
    values = {"rate": RATE, "momentum": MOMENTUM, "batch": BATCH, "steps": STEPS}
    return {**digits(), **values, "kind": kind, "faults": faults}


def small():
    return [
        {"type": "convolution", "name": "C1", "filters": 4, "kernel": 5, "activation": "relu"},
        {"type": "max_pooling", "name": "S2"},
        {"type": "linear", "name": "F3", "units": 10},
    ]


def python_network(kind):
    """The same network, with the plain layers and 64 bits."""
    given = specification() if kind == "lenet5" else Specification((1, 32, 32), expanded(small()))
    return Network(build_layers(given.layers), (1, 32, 32), np.float64)


def trained_by_python(kind, before):
    """Losses and weights of ten steps with the same weights and batches."""
    network, loss = python_network(kind), SoftmaxCrossEntropy(10)
    network.parameters[:] = before
    given, sgd = digits(), SGD(len(before), np.float64, momentum=MOMENTUM)
    images = np.array(given["images"], float).reshape(-1, 28, 28) * 0.005
    x = np.pad(images, ((0, 0), (2, 2), (2, 2))).transpose(1, 2, 0)[None] - 0.1
    labels, losses = np.array(given["labels"]), []
    for k in range(STEPS):
        batch = slice(k * BATCH, (k + 1) * BATCH)
        losses.append(loss.forward(network.forward(x[..., batch].copy()), labels[batch]))
        network.backward(loss.backward())
        sgd.step(network.parameters, network.gradients, RATE, t=k + 1)
    return losses, network.parameters


@needs_node
@pytest.mark.parametrize("kind", ["lenet5", "small"])
def test_ten_steps_are_those_of_python(kind):
    found = in_node(TRAIN, **settings(kind))
    losses, weights = trained_by_python(kind, found["before"])
    assert_allclose(found["losses"], losses, rtol=1e-9)
    assert_allclose(found["after"], weights, atol=1e-9)
    assert np.abs(np.subtract(found["after"], found["before"])).max() > 1e-2


def test_ten_steps_in_a_browser_are_those_of_python(browser, lenet5_page):
    browser.open(lenet5_page)
    found = browser.run(TRAIN, **settings())
    losses, weights = trained_by_python("lenet5", found["before"])
    assert_allclose(found["losses"], losses, rtol=1e-4)
    assert_allclose(found["after"], weights, atol=1e-4)


@needs_node
def test_random_weights_are_those_of_he():
    found = in_node(
        "return newNetwork('lenet5', 2).layers.filter((l) => l.W).map((l) => [...l.W]);"
    )
    for weights, K in zip(found, (25, 150, 400, 120, 84), strict=True):
        n = len(weights)
        assert abs(np.mean(weights)) < 4 * np.sqrt(2 / K / n)
        assert np.std(weights) == pytest.approx(np.sqrt(2 / K), rel=3 / np.sqrt(n))


@needs_node
@pytest.mark.parametrize("fault", ["summed", "overwrite", "unmasked"])
def test_a_fault_changes_the_training(fault):
    sound, broken = in_node(TRAIN, **settings()), in_node(TRAIN, **settings(**{fault: True}))
    assert broken["losses"][0] == sound["losses"][0]  # a fault of the backward pass
    assert abs(broken["losses"][-1] - sound["losses"][-1]) > 1e-3


@needs_node
def test_summed_gradients_are_as_many_times_larger_as_the_batch_has_images():
    one = settings(summed=True) | {"steps": 1, "momentum": 0}
    summed, averaged = in_node(TRAIN, **one), in_node(TRAIN, **one | {"faults": {}})
    steps = [np.subtract(run["after"], run["before"]) for run in (summed, averaged)]
    assert_allclose(steps[0], BATCH * steps[1], atol=1e-12)


@needs_node
def test_overwriting_in_col2im_keeps_the_last_patch():
    code = """
    const g = { ...square(1, 1), kernel: [1, 2], input: [1, 1, 3], output: [1, 1, 2] };
    return [false, true].map((overwrite) => Array.from(col2im([1, 2, 4, 8], g, { overwrite })));
    """
    assert in_node(code) == [[1, 6, 8], [1, 4, 8]]


def test_the_digits_of_the_page_are_the_built_in_ones():
    data = packed_digits()
    packed = np.frombuffer(zlib.decompress(base64.b64decode(data["images"])), np.uint8)
    levels = np.stack([packed >> shift & 3 for shift in (0, 2, 4, 6)], axis=1) * 85
    images, labels = draw(TRAINING + TEST, DIGITS_SEED, hand=NEAT)
    assert np.abs(levels.reshape(images.shape) - images.astype(int)).max() <= 43
    assert_array_equal([int(c) for c in data["labels"]], labels)
    assert len(data["images"]) <= 150_000


# --- The view ------------------------------------------------------------------------------------

STATUS = "(document.getElementById('train-status')?.textContent ?? '')"


def wait(browser, condition):
    browser.run(f"while (!({condition})) await new Promise((r) => setTimeout(r, 50));")


def numbers(browser):
    """Step, images, and the test accuracy in percent."""
    text = browser.evaluate(STATUS)
    parts = text.replace("−", "-").replace(",", "").split()
    return int(parts[1]), int(parts[2]), float(parts[parts.index("Test:") + 4])


def test_one_step_play_and_pause(browser, lenet5_page):
    browser.window(1366, 768)
    browser.open(lenet5_page, "#train")
    wait(browser, f"{STATUS}.includes('Step 0')")
    browser.click("#train-step")
    wait(browser, f"{STATUS}.includes('Step 1,')")
    assert numbers(browser)[:2] == (1, 32)
    browser.choose("#train-kind", "small")
    wait(browser, f"{STATUS}.includes('Step 0')")
    browser.click("#train-play")
    wait(browser, f"Number({STATUS}.match(/[0-9]+/)[0]) > 120")
    browser.click("#train-play")
    step, images, accuracy = numbers(browser)
    assert step <= images / 30
    assert accuracy > 60
    assert browser.evaluate("document.querySelectorAll('.wrong canvas').length") <= 12
    assert browser.problems() == []


def test_a_trained_network_is_used_in_all_views(browser, lenet5_page):
    browser.open(lenet5_page, "#train")
    wait(browser, f"{STATUS}.includes('Step 0')")
    browser.choose("#train-kind", "small")
    browser.click("#train-step")
    wait(browser, f"{STATUS}.includes('Step 1,')")
    browser.click("#train-result button", label="Use this network in all views")
    assert "trained in the page" in browser.text("#notice")
    assert browser.evaluate("document.querySelectorAll('#live .column').length") == 5
    browser.click("#reset")
    assert browser.text("#notice") == ""
    assert browser.text("#answer b") == "8"
    assert browser.problems() == []


def test_without_workers_one_sentence_is_shown(browser, lenet5_page):
    browser.open(lenet5_page)
    browser.evaluate("delete window.Worker; location.hash = '#train'; 0")
    wait(browser, "document.querySelector('#train-result [role=alert]')")
    assert "no Web Worker" in browser.text("#train-result [role=alert]")
