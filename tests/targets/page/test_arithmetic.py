"""The page of ``lenet play`` computes what this package computes, in Node and in a browser."""

from __future__ import annotations

import numpy as np
import pytest
from engines import NODE, in_node
from networks import (
    colour_stack,
    dense_stack,
    max_stack,
    mean_stack,
    normalised_stack,
    padded_stack,
)
from numpy.testing import assert_allclose, assert_array_equal
from shown import of, python_probabilities, subsampling_stack, table_stack

from lenet import load_data
from lenet.checkpoint.restore import read_checkpoint
from lenet.data.strokes import draw
from lenet.nn.convolution import Convolution
from lenet.nn.losses import SoftmaxCrossEntropy
from lenet.predict import planes
from lenet.targets.networks import exported_network
from lenet.targets.page.html import in_16_bits, page_data

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
        scale = planes.BOX / max(places[-1] + 1 - places[0] for places in inked)
        A, B = (planes.placement(ink.sum(axis=axis), scale) for axis in (1, 0))
        assert_allclose(image, 255 * np.clip(A @ ink @ B.T, 0, 1), atol=1)
    centres = (found.sum(axis=2) @ np.arange(28)) / found.sum(axis=(1, 2))
    assert_allclose(centres, 14, atol=0.6)
    assert not np.any(in_node("return Array.from(normalised(new Float64Array(9), 3, 3, [4, 4]));"))
