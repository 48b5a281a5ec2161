"""Plots of a network: their numbers against definitions, and that nothing is cut off."""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from networks import (
    STACKS,
    colour_stack,
    dense_stack,
    enlarging_stack,
    first_lenet5,
    max_stack,
    mean_stack,
    normalised_stack,
    padded_stack,
)
from numpy.testing import assert_allclose, assert_array_equal
from oracles import batch_first, batch_last, correlate, max_pooling, patches
from scipy.signal import convolve2d, correlate2d
from tiny import bars, write_bars
from untrained import untrained, untrained_colour

from lenet.checkpoint import restore
from lenet.checkpoint.checkpoint import save_checkpoint
from lenet.checkpoint.restore import restore_network
from lenet.cli import cli
from lenet.data.preprocessing import Preprocessing
from lenet.errors import ConfigError, ImageError, SystemFailure
from lenet.evaluation.metrics import Evaluation, reliability_bins
from lenet.inspect import canvas, inspection, plots, products, responses, units
from lenet.inspect.choices import IMAGE, PLOTS
from lenet.inspect.responses import embedding
from lenet.models.lenet5 import lenet5
from lenet.nn.convolution import Convolution
from lenet.nn.linear import Linear
from lenet.nn.network import Network
from lenet.nn.pooling import MaxPooling


def network(**options):
    """A small network of plain layers in float64, with random weights and biases."""
    made = lenet5(fused=False, dtype=np.float64, channels=(2, 3), units=(5, 4), **options)
    rng = np.random.default_rng(7)
    made.initialize(rng)
    made.parameters += 0.1 * rng.standard_normal(made.parameters.size)
    return made


def image(S=32, seed=0):
    return any_image((1, S, S), seed)


def any_image(shape, seed=0):
    return np.random.default_rng([8, seed]).standard_normal((*shape, 1))


def value(made, name):
    return next(p.value for p in made.parameter_list if p.name == name)


# --- The output of every layer --------------------------------------------------------------------


@pytest.mark.parametrize("pooling", ["max", "average"])
def test_the_plain_network_has_the_scores_of_the_checkpoint(pooling):
    checkpoint = untrained(model__pooling=pooling)
    images, _ = bars(1, seed=3)
    x = Preprocessing().prepare(images, np.float32)
    outputs = responses.activations(restore.plain_network(checkpoint), x)
    names = "C1 C1.activation S2 C3 C3.activation S4 C5 C5.activation F6 F6.activation F7"
    assert " ".join(outputs) == names
    assert [outputs[name].shape for name in ("C1", "S4", "C5", "F7")] == [
        (3, 28, 28), (4, 5, 5), (6, 1, 1), (10,),
    ]  # fmt: skip
    as_trained = restore_network(checkpoint).forward(x)[:, 0]
    assert_allclose(outputs["F7"], as_trained, rtol=1e-5, atol=1e-5)


def test_an_unknown_layer_is_refused_with_the_names_of_all():
    with pytest.raises(ConfigError, match="no layer C4; choose one of C1, C1"):
        responses.find_layer(network(), "C4")
    with pytest.raises(ConfigError, match="S2 is not a convolution; choose one of C1, C3, C5"):
        responses.find_convolution(network(), "S2")


def test_the_layers_that_plots_choose():
    made = network()
    assert responses.convolutions(made) == ["C1", "C3", "C5"]
    assert responses.layers_of_maps(made) == ["C1", "S2", "C3", "S4", "C5"]
    assert (responses.last_pooling(made), responses.last_hidden(made)) == ("S4", "F6.activation")
    made = dense_stack()
    assert responses.layers_of_maps(made) == ["a", "b", "c"]
    assert (responses.last_pooling(made), responses.last_hidden(made)) == ("c", "b")
    with pytest.raises(ConfigError, match="the network has no convolution; "):
        responses.convolutions(made)


# --- Receptive fields -----------------------------------------------------------------------------


@pytest.mark.parametrize("S", [32, 37])
@pytest.mark.parametrize("name", ["C1", "S2", "C3", "S4", "C5", "F6"])
def test_a_unit_sees_its_field_and_nothing_else(name, S):
    # tanh and the mean let every pixel of the field through.
    made = network(activation="tanh", pooling="average", input_size=S)
    x = image(S)
    unit = units.chosen_unit(made, x, name, 1)
    top, left, height, width = unit.field

    def output(x):
        y = np.atleast_2d(responses.activations(made, x)[name][unit.index])
        return y[unit.place].copy()

    before = output(x)
    assert before == unit.value
    outside = image(S, seed=1)
    outside[:, top : top + height, left : left + width] = x[
        :, top : top + height, left : left + width
    ]
    assert_allclose(output(outside), before, rtol=1e-12)
    for i, j in ((0, 0), (0, width - 1), (height - 1, 0), (height - 1, width - 1)):
        changed = x.copy()
        changed[0, top + i, left + j] += 1
        assert abs(output(changed) - before) > 1e-9


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    ("stack", "name"),
    [
        *((colour_stack, name) for name in ("conv-1", "pool", "conv-2", "hidden")),
        *((mean_stack, name) for name in ("plain", "counted", "dilated")),
        *((first_lenet5, name) for name in ("C1", "S2", "C3", "S4", "C5", "F6", "output")),
        *((enlarging_stack, name) for name in ("repeat", "transposed", "class")),
        (padded_stack, "conv"),
    ],
)
def test_the_field_of_a_unit_within_the_image(stack, name, seed):
    """Backpropagation of ones, where no layer stops it, shows which pixels count."""
    made = stack()
    x = any_image(made.input_shape, seed)
    made.parameters[...] = 0.01 * np.abs(made.parameters) + 0.001  # no sum cancels or saturates
    unit = units.chosen_unit(made, x, name, seed)
    top, left, height, width = unit.field
    depends = units.project(made, x, replace(unit, value=1.0)).any(axis=0)
    rows, columns = (np.flatnonzero(depends.any(axis=axis)) for axis in (1, 0))
    assert (rows[0], columns[0]) == (top, left)
    assert (rows[-1], columns[-1]) == (top + height - 1, left + width - 1)


def test_the_fields_of_lenet5():
    fields = [
        units.chosen_unit(network(), image(), n, 0).field[2:]
        for n in ("C1", "S2", "C3", "S4", "C5")
    ]
    assert fields == [(5, 5), (6, 6), (14, 14), (16, 16), (32, 32)]


def test_the_strongest_units():
    made, x = network(), image()
    y = responses.activations(made, x)["S4"].copy()
    first, second = units.strongest_units(made, x, "S4", 2)
    assert first.value == y.max()
    assert y[(first.index, *first.place)] == first.value
    assert second.value == np.delete(y, first.index, axis=0).max()
    with pytest.raises(ConfigError, match="is 3, but S4 has 3 units; give a number from 0 to 2"):
        units.chosen_unit(made, x, "S4", 3)


# --- Deconvolution --------------------------------------------------------------------------------


def test_projection_by_switches():
    """Each step by its definition, on arrays (N,C,H,W): argmax, one paint stroke an entry."""
    made, x = network(), image()
    C1, C3 = value(made, "C1.weight"), value(made, "C3.weight")
    z1 = correlate(batch_first(x), C1, value(made, "C1.bias"), (1, 1), (0, 0), 1)
    y1, source1 = max_pooling(np.maximum(z1, 0), (2, 2), (2, 2))
    z3 = correlate(y1, C3, value(made, "C3.bias"), (1, 1), (0, 0), 1)
    y3, source3 = max_pooling(np.maximum(z3, 0), (2, 2), (2, 2))

    unit = units.strongest_units(made, x, "S4", 1)[0]
    assert_allclose(unit.value, y3.max())
    _, f, i, j = source3[(0, unit.index, *unit.place)]
    maps = np.zeros(y1.shape)
    maps[0, :, i : i + 5, j : j + 5] = unit.value * C3[f]
    expected = np.zeros((32, 32))
    for place, number in np.ndenumerate(maps):
        _, c, i, j = source1[place]
        expected[i : i + 5, j : j + 5] += max(number, 0) * C1[c, 0]

    assert_allclose(units.project(made, x, unit), expected[None], atol=1e-12)


@pytest.mark.parametrize("name", ["C1", "S2", "C3.activation", "S4", "C5", "F6.activation", "F7"])
@pytest.mark.parametrize("S", [32, 37])
def test_projection_through_smooth_layers_is_the_gradient(name, S):
    """With the mean and tanh the way down is backpropagation from the unit, times its value."""
    made = network(activation="tanh", pooling="average", input_size=S)
    x = image(S)
    unit = units.strongest_units(made, x, name, 1)[0]
    pixels = units.project(made, x, unit)
    assert pixels.shape == (1, S, S)

    def output(x):
        return float(np.atleast_2d(responses.activations(made, x)[name][unit.index])[unit.place])

    direction = image(S, seed=2)
    slope = (output(x + 1e-5 * direction) - output(x - 1e-5 * direction)) / 2e-5
    assert_allclose(np.vdot(pixels, direction[..., 0]), unit.value * slope, rtol=1e-6)


@pytest.mark.parametrize("name", ["conv-1", "pool", "act-2", "hidden", "scores"])
def test_projection_through_a_colour_network_is_the_gradient(name):
    made = colour_stack()
    x = any_image(made.input_shape)
    unit = units.strongest_units(made, x, name, 1)[0]
    pixels = units.project(made, x, unit)
    assert pixels.shape == made.input_shape

    def output(x):
        return float(np.atleast_2d(responses.activations(made, x)[name][unit.index])[unit.place])

    direction = any_image(made.input_shape, seed=2)
    slope = (output(x + 1e-5 * direction) - output(x - 1e-5 * direction)) / 2e-5
    assert_allclose(np.vdot(pixels, direction[..., 0]), unit.value * slope, rtol=1e-6)


@pytest.mark.parametrize("name", ["S2", "C3", "C5.activation", "F7"])
def test_the_gradient_of_a_unit(name):
    made, x = network(), image()
    unit = units.strongest_units(made, x, name, 1)[0]
    slopes = units.gradient(made, x, unit)

    def output(x):
        return float(np.atleast_2d(responses.activations(made, x)[name][unit.index])[unit.place])

    direction = image(seed=2)
    slope = (output(x + 1e-6 * direction) - output(x - 1e-6 * direction)) / 2e-6
    assert_allclose(np.vdot(slopes, direction[..., 0]), slope, rtol=1e-5)
    assert output(x + 1e-4 * slopes[..., None]) > unit.value  # what the figure says of it


def test_units_that_are_not_above_zero_are_left_out_of_a_deconvolution():
    made, x = network(), image()
    value(made, "C3.bias")[:2] = -1e6
    found = units.strongest_units(made, x, "C3", 3)
    assert units.above_zero(found) == found[:1]
    with pytest.raises(ConfigError, match=r"unit 0 of C3 is -1e\+06, not above zero"):
        units.above_zero([units.chosen_unit(made, x, "C3", 0)])


def test_the_path_below_a_unit():
    """Every step by its definition: the largest product with a weight, the winner of a window."""
    made, x = network(), image()
    last = units.strongest_units(made, x, "F6", 1)[0]
    found = {unit.layer: unit for unit in units.path(made, x, last)}
    assert list(found) == [layer.name for layer in made.layers[:9]]
    assert found["F6"] == last
    y = {name: array.copy() for name, array in responses.activations(made, x).items()}

    most = (value(made, "F6.weight")[last.index] * y["C5.activation"].ravel()).argmax()
    assert found["C5.activation"].index == found["C5"].index == most
    for name, source in (("C5", "S4"), ("C3", "S2")):
        (i, j), f = found[name].place, found[name].index
        below = y[source][:, i : i + 5, j : j + 5] * value(made, f"{name}.weight")[f]
        c, m, n = np.unravel_index(below.argmax(), below.shape)
        assert (found[source].index, found[source].place) == (c, (i + m, j + n))
        pooled = f"{'C3' if source == 'S4' else 'C1'}.activation"
        window = y[pooled][c, 2 * (i + m) :, 2 * (j + n) :][:2, :2]
        u, v = np.unravel_index(window.argmax(), (2, 2))
        assert found[pooled].place == (2 * (i + m) + u, 2 * (j + n) + v)
        assert found[pooled].index == c


@pytest.mark.parametrize("stack", STACKS.values(), ids=STACKS)
def test_the_fields_of_a_path_are_nested(stack):
    made = stack()
    x = any_image(made.input_shape)
    last = units.strongest_units(made, x, made.layers[-1].name, 1)[0]
    found = units.path(made, x, last)
    assert [unit.layer for unit in found] == [layer.name for layer in made.layers]
    for inner, outer in pairwise(unit.field for unit in found):
        assert outer[0] <= inner[0]
        assert outer[1] <= inner[1]
        assert inner[0] + inner[2] <= outer[0] + outer[2]
        assert inner[1] + inner[3] <= outer[1] + outer[3]


# --- The backward pass ----------------------------------------------------------------------------


def cross_entropy(z, label):
    return np.log(np.exp(z - z.max()).sum()) - z[label] + z.max()


def distances(y, label):
    """The loss of 1998 with j = 1."""
    return y[label] + np.log(np.exp(-1.0) + np.exp(-y).sum())


@pytest.mark.parametrize(
    ("stack", "loss"),
    [
        (colour_stack, cross_entropy),
        (normalised_stack, cross_entropy),
        (padded_stack, cross_entropy),
        (first_lenet5, distances),
    ],
)
def test_gradients_are_the_slopes_of_the_loss(stack, loss):
    """A small change of any layer's output changes the loss as the gradient predicts."""
    made = stack()
    x = any_image(made.input_shape)
    if stack is first_lenet5:
        x = 0.1 * x  # far from saturation
    found = responses.gradients(made, x, 1)
    outputs = {
        responses.INPUT: x,
        **{k: y[..., None] for k, y in responses.activations(made, x).items()},
    }
    assert list(found) == list(outputs)
    outputs = {name: y.copy() for name, y in outputs.items()}
    for k, (name, y) in enumerate(outputs.items()):

        def after(y, k=k):
            for layer in made.layers[k:]:
                y = layer.forward(y)
            return loss(y[:, 0], 1)

        direction = np.random.default_rng(k).standard_normal(y.shape)
        slope = (after(y + 1e-6 * direction) - after(y - 1e-6 * direction)) / 2e-6
        assert_allclose(np.vdot(found[name], direction[..., 0]), slope, rtol=1e-5, atol=1e-9)


def convolutions_of(stacks):
    return [
        (stack, layer.name)
        for stack in stacks
        for layer in stack().layers
        if isinstance(layer, Convolution)
    ]


EVERY_CONVOLUTION = convolutions_of([network, *STACKS.values()])


def image_for(made):
    return any_image(made.input_shape).astype(made.dtype)


@pytest.mark.parametrize(("stack", "name"), EVERY_CONVOLUTION)
def test_col2im_adds_patches_and_counts_them(stack, name):
    """With loops: each chosen patch is added where its pixels come from; padding is dropped."""
    made = stack()
    product = products.backward_product(made, image_for(made), name, 1)
    conv, P = product.conv, product.dz.shape[1]
    (C, H, W), (kh, kw) = conv.shape, conv.kernel
    chosen = np.random.default_rng(0).random(P) < 0.5
    total, counts = np.zeros((C, H, W)), np.zeros((H, W), int)
    for p in np.flatnonzero(chosen):
        i, j = divmod(int(p), conv.Wo)
        column = product.dcols[:, p].reshape(C, kh, kw)
        for m in range(kh):
            for n in range(kw):
                u = i * conv.stride[0] + m * conv.dilation[0] - conv.edges[0]
                v = j * conv.stride[1] + n * conv.dilation[1] - conv.edges[1]
                if 0 <= u < H and 0 <= v < W:
                    total[:, u, v] += column[:, m, n]
                    counts[u, v] += 1
    assert_array_equal(product.counts(chosen), counts)
    assert_allclose(product.add(chosen), total, atol=1e-12)


@pytest.mark.parametrize(("stack", "name"), EVERY_CONVOLUTION)
def test_all_patches_are_the_gradient_of_the_network(stack, name):
    made = stack()
    x = image_for(made)
    product = products.backward_product(made, x, name, 1)
    found = responses.gradients(made, x, 1)
    below = list(found)[list(found).index(name) - 1]
    every = np.ones(product.dz.shape[1], bool)
    assert_allclose(product.add(every), found[below].reshape(product.conv.shape), atol=1e-12)


@pytest.mark.parametrize(("stack", "name"), EVERY_CONVOLUTION)
def test_the_turned_kernel_gives_the_same_gradient(stack, name):
    made = stack()
    product = products.backward_product(made, image_for(made), name, 1)
    whole = product.add(np.ones(product.dz.shape[1], bool))
    for c in range(len(whole)):
        assert_allclose(product.full_convolution(c), whole[c], atol=1e-12)


@pytest.mark.parametrize("name", ["C1", "C3", "C5"])
def test_the_turned_kernel_is_the_full_convolution_of_scipy(name):
    made, x = network(), image()
    product = products.backward_product(made, x, name, 1)
    w, dz = value(made, f"{name}.weight"), product.dz.reshape(-1, product.conv.Ho, product.conv.Wo)
    for c in range(w.shape[1]):
        expected = sum(convolve2d(dz[f], w[f, c], mode="full") for f in range(len(w)))
        assert_allclose(product.full_convolution(c), expected, rtol=1e-5, atol=1e-12)
        assert_array_equal(product.turned(c), w[:, c, ::-1, ::-1])


@pytest.mark.parametrize(
    ("stack", "name"),
    [
        *((max_stack, name) for name in ("first", "second")),
        *((network, name) for name in ("S2", "S4")),
        (padded_stack, "max"),
        (mean_stack, "dilated max"),
    ],
)
def test_the_winners_of_max_pooling(stack, name):
    """With loops: the first largest pixel of every window, which alone gets its gradient."""
    made = stack()
    x = image_for(made)
    found = responses.winners(made, x, name, 1)
    pooling, (C, H, W) = found.pooling, found.x.shape
    expected = np.zeros((C, H, W))
    for c, i, j in np.ndindex(found.y.shape):
        pixels = [
            (u, v)
            for m in range(pooling.kernel[0])
            for n in range(pooling.kernel[1])
            for u in [i * pooling.stride[0] + m * pooling.dilation[0] - pooling.edges[0]]
            for v in [j * pooling.stride[1] + n * pooling.dilation[1] - pooling.edges[1]]
            if 0 <= u < H and 0 <= v < W
        ]
        u, v = max(pixels, key=lambda pixel: found.x[c][pixel])  # the first of equal ones
        assert (found.rows[c, i, j], found.columns[c, i, j]) == (u, v)
        assert found.y[c, i, j] == found.x[c, u, v]
        expected[c, u, v] += found.dy[c, i, j]
    assert_allclose(found.dx, expected, atol=1e-15)


def test_what_has_no_winners_is_named():
    made, x = network(pooling="average"), image()
    for name in (None, "S4"):
        with pytest.raises(ConfigError, match="S4 is average pooling: no pixel wins; train one"):
            responses.winners(made, x, name, 0)
    with pytest.raises(ConfigError, match="C3 is not max pooling: no pixel wins; choose one of S2"):
        responses.winners(network(), x, "C3", 0)
    assert responses.winners(network(), x, None, 0).pooling.name == "S4"


def test_the_labels_of_the_gradient():
    made, x = network(), image()
    scores = made.forward(x)[:, 0]
    order = np.argsort(-scores)
    assert request_of(made, x, right=None).labels() == (order[1], order[0])
    assert request_of(made, x, right=int(order[3])).labels() == (order[0], order[3])
    assert request_of(made, x, right=4, label="class 7").labels() == (7, 4)
    with pytest.raises(ConfigError, match=r"--label: must be .* is 'clas 7'; did you mean class 7"):
        request_of(made, x, label="clas 7").labels()
    with pytest.raises(ConfigError, match="--label: class 4 is the right label"):
        inspection.OF_ONE_IMAGE["gradients"](request_of(made, x, right=4, label="class 4"))


# --- Patches, lines, embeddings -------------------------------------------------------------------


@pytest.mark.parametrize("name", ["C1", "C3", "C5"])
def test_the_product_is_the_convolution(name):
    made, x = network(), image()
    seen = products.product(made, x, name)
    assert_array_equal(seen.patches.T, patches(seen.x[None], (5, 5), (1, 1), (0, 0)))
    z = seen.z.reshape(-1, seen.conv.Ho, seen.conv.Wo) + value(made, f"{name}.bias")[:, None, None]
    assert_allclose(z, responses.activations(made, x)[name], atol=1e-12)


@pytest.mark.parametrize("name", ["conv-1", "conv-2"])
def test_the_product_with_groups_and_turned_kernels(name):
    made = colour_stack()
    x = any_image(made.input_shape)
    product = products.product(made, x, name)
    assert product.weights.shape[1] == len(product.patches)
    z = product.z.reshape(-1, product.conv.Ho, product.conv.Wo)
    z += value(made, f"{name}.bias")[:, None, None]
    assert_allclose(z, responses.activations(made, x)[name], atol=1e-12)


def test_lines_and_poolings():
    (grey,), _ = bars(1, seed=1)
    for kernel in (responses.SOBEL, responses.SOBEL.T):
        found = responses.line_responses(grey, kernel)
        z = correlate2d(grey / 255, kernel, mode="same")
        y = np.maximum(z, 0).reshape(14, 2, 14, 2)
        expected = [z, np.maximum(z, 0), y.max(axis=(1, 3)), y.mean(axis=(1, 3))]
        assert list(found) == ["convolution", "ReLU", "max pooling", "average pooling"]
        for one, other in zip(found.values(), expected, strict=True):
            assert_allclose(one, other, atol=1e-5)


def test_the_embedding_is_that_of_the_covariance():
    made = restore.plain_network(untrained())
    images, _ = bars(300, seed=2)  # more than a batch
    found = embedding(made, Preprocessing(), images, "F6.activation")
    x = batch_last(np.pad(images[:, None] / 255 * 1.275, ((0, 0), (0, 0), (2, 2), (2, 2))) - 0.1)
    made.allocate(300)
    for layer in made.layers[:-1]:
        x = layer.forward(x)
    assert_array_equal(found.predicted, made.layers[-1].forward(x).argmax(axis=0))
    A = x.T.astype(np.float64) - x.mean(axis=1)
    variances, directions = np.linalg.eigh(A.T @ A)
    assert_allclose(found.shares, variances[:-3:-1] / variances.sum(), rtol=1e-4)
    for k in (0, 1):
        along = A @ directions[:, -1 - k]
        assert_allclose(np.abs(found.places[:, k]), np.abs(along), atol=1e-3)


def test_too_few_units_for_two_dimensions():
    made = restore.plain_network(untrained(model__units=[6, 1]))
    with pytest.raises(ConfigError, match="are too few for two dimensions"):
        embedding(made, Preprocessing(), bars(5, seed=0)[0], "F6.activation")


# --- The plots ------------------------------------------------------------------------------------

SIZES = {
    "small": {},
    "large": {"model__channels": [18, 20], "model__units": [40, 30], "model__input_size": 40},
    "single": {"model__channels": [1, 1], "model__pooling": "average", "model__activation": "tanh"},
}
BY_SIZE = ("filters", "maps", "patches")
PICTURES = [
    *((what, "small") for what in PLOTS),
    *((what, size) for what in BY_SIZE for size in ("large", "single")),
]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    pytest.importorskip("matplotlib")
    folder = tmp_path_factory.mktemp("inspect")
    keys = {name.replace(".", "__"): key for name, key in write_bars(folder).items()}
    names = ("$top", "middle$ \x1b", "né ひ")
    for size, settings in SIZES.items():
        save_checkpoint(folder / f"{size}.npz", untrained(class_names=names, **keys, **settings))
    page = np.full((60, 50), 230, np.uint8)
    page[15:45, 22:27] = 20
    np.save(folder / "one $1.npy", page)
    np.save(folder / "blank.npy", np.full((60, 50), 230, np.uint8))
    return folder


def run(*arguments):
    return CliRunner().invoke(cli, ["inspect", *map(str, arguments)])


@pytest.fixture(autouse=True)
def coarse(monkeypatch):
    """Draw pictures with few dots; the layout is in inches."""
    monkeypatch.setitem(canvas.SETTINGS, "savefig.dpi", 30)


@pytest.mark.parametrize(("what", "size"), PICTURES)
def test_every_plot_is_whole(place, tmp_path, monkeypatch, what, size):
    drawn = []
    write = canvas.write_figure

    def watched(path, draw):
        write(path, lambda: drawn.append(draw()) or drawn[0])

    monkeypatch.setattr(canvas, "write_figure", watched)
    out = tmp_path / "picture.png"
    named = [place / "one $1.npy"] if IMAGE in PLOTS[what].takes and size == "small" else []
    result = run(place / f"{size}.npz", what, *named, "--out", out)
    assert result.exit_code == 0, result.exception
    assert result.stdout == f"{out}\n"
    assert out.read_bytes().startswith(b"\x89PNG\r\n")
    width, height = drawn[0].get_size_inches()
    covered = drawn[0].get_tightbbox()
    assert covered.xmin > -0.02
    assert covered.ymin > -0.02
    assert covered.xmax < width + 0.02
    assert covered.ymax < height + 0.02


def request_of(made, x, **given):
    names = [f"class {k}" for k in range(made.output_shape[0])]
    grey = np.zeros(made.input_shape, np.uint8)
    fields = {"layer": None, "unit": None, "label": None, "right": 0, **given}
    return inspection.Request(made, grey, x, "an image", names, **fields)


@pytest.mark.parametrize("stack", STACKS.values(), ids=STACKS)
def test_plots_of_any_network(stack):
    pytest.importorskip("matplotlib")
    made = stack()
    request = request_of(made, any_image(made.input_shape))
    convolution = any(isinstance(layer, Convolution) for layer in made.layers)
    impossible = {
        "patches": not convolution,
        "col2im": not convolution,
        "rotation": not convolution,
        "switches": not any(isinstance(layer, MaxPooling) for layer in made.layers),
    }
    for what, draw in inspection.OF_ONE_IMAGE.items():
        if impossible.get(what):
            with pytest.raises(ConfigError, match=r"the network has no convolution|no pixel wins"):
                draw(request)
            continue
        assert "an image" in draw(request)().get_suptitle()


@pytest.mark.parametrize("what", list(inspection.OF_ONE_IMAGE))
def test_a_picture_for_a_colour_network(tmp_path, what):
    pytest.importorskip("matplotlib")
    np.save(tmp_path / "picture.npy", np.random.default_rng(4).random((30, 20, 3), np.float32))
    draw = inspection.inspect(untrained_colour(), what, file=tmp_path / "picture.npy")
    assert "picture.npy" in draw().get_suptitle()


def test_colour_images_are_drawn_in_colour():
    pytest.importorskip("matplotlib")
    images = np.random.default_rng(3).integers(0, 256, (6, 3, 5, 4), dtype=np.uint8)
    labels = np.array([0, 1, 0, 1, 1, 0], np.uint8)
    figure = plots.samples(images, labels, ("a", "b"), "colours")
    drawn = [axes.images[0].get_array() for axes in figure.axes if axes.images]
    assert len(drawn) == 6
    for picture, index in zip(drawn, [0, 2, 5, 1, 3, 4], strict=True):
        assert_array_equal(picture, images[index].transpose(1, 2, 0))


def test_the_maps_and_the_scores_are_numbered():
    pytest.importorskip("matplotlib")
    made, x = network(), image()
    figure = inspection.OF_ONE_IMAGE["maps"](request_of(made, x))()
    by_title = {axes.get_title("left").split()[0]: axes for axes in figure.axes}
    maps = [label.get_text() for label in by_title["C3"].get_xticklabels()]
    assert maps == ["0", "1", "2"]
    scores = responses.activations(made, x)["F7"]
    assert [text.get_text() for text in by_title["F7"].texts] == [f"{z:.3g}" for z in scores]
    low, high = by_title["C1"].images[0].get_clim()
    assert -low == high == pytest.approx(np.abs(responses.activations(made, x)["C1"]).max())


def test_the_labels_of_other_data_are_matched_by_name(tmp_path):
    pytest.importorskip("matplotlib")
    keys = {name.replace(".", "__"): key for name, key in write_bars(tmp_path).items()}
    names = ("top", "middle", "bottom")
    trained = untrained(class_names=names, **keys)
    _, labels = bars(100, seed=100)
    other = trained.config.with_values({"data.class_names": ["bottom", "top", "middle"]})
    for number in range(3):
        draw = inspection.inspect(replace(trained, config=other), "gradients", number=number)
        right = ["bottom", "top", "middle"][labels[number]]
        figure = draw()
        assert figure.get_suptitle().endswith(f": {right}")
        assert [text.get_text() for text in figure.axes[1].get_legend().get_texts()][1] == (
            f"label {right} (right)"
        )


def test_names_of_layers_are_no_formulas(tmp_path):
    pytest.importorskip("matplotlib")
    layer = Convolution("$\\frac{$", 2, 3)
    made = Network([layer, MaxPooling("$a$ ひ", 2), Linear("$_", 4)], (1, 8, 8), np.float64)
    made.initialize(np.random.default_rng(0))
    request = request_of(made, any_image((1, 8, 8)))
    for draw in inspection.OF_ONE_IMAGE.values():
        canvas.write_figure(tmp_path / "figure.svg", draw(request))


def test_the_sign_of_a_number_can_be_read_in_grey():
    matplotlib = pytest.importorskip("matplotlib.figure")
    axes = matplotlib.Figure().subplots()
    drawn = canvas.show_signed(axes, np.linspace(-2, 2, 41)[None], 2.0)
    grey = drawn.to_rgba(drawn.get_array())[0, :, :3] @ (0.3, 0.59, 0.11)
    assert (np.diff(grey) < 0).all()
    assert grey[0] - grey[20] > 0.1
    assert grey[20] - grey[-1] > 0.1


def test_mistakes_are_ringed(place):
    draw = inspection.inspect(restore.read_checkpoint(place / "small.npz"), "embedding")
    axes = draw().axes[0]
    wrong = int(axes.get_title().split("ringed: ")[1].split()[0])
    assert wrong > 0
    assert len(axes.collections[-1].get_offsets()) == wrong


def test_the_reliability_plot_has_the_accuracy_of_each_bin():
    pytest.importorskip("matplotlib")
    confidence = np.array([0.99, 0.97, 0.95, 0.5])
    correct = np.array([True, True, False, True])
    bins = reliability_bins(confidence, correct)
    figure = plots.reliability(Evaluation(0.1, 4, np.array([[3, 1], [0, 0]]), bins), "digits")
    above, below = figure.axes
    assert [bar.get_height() for bar in above.patches] == pytest.approx([1, 2 / 3])
    assert [bar.get_height() for bar in below.patches][7::7] == [1, 3]
    error = (0.5 + abs(2 - confidence[:3].sum())) / 4
    assert f"{100 * error:.2f} %" in above.get_title()


@pytest.mark.parametrize("what", ["maps", "embedding"])
def test_svg_and_the_same_bytes_again(place, tmp_path, what):
    for name in ("a.svg", "b.svg"):
        assert run(place / "small.npz", what, "--out", tmp_path / name).exit_code == 0
    text = (tmp_path / "a.svg").read_bytes()
    assert text == (tmp_path / "b.svg").read_bytes()
    assert ET.fromstring(text).tag.endswith("}svg")


def test_one_layer_one_unit(place, tmp_path):
    out = tmp_path / "p.png"
    for what, layer in (("filters", "C5"), ("patches", "C3"), ("field", "F6"), ("deconv", "C5")):
        assert run(place / "small.npz", what, "--layer", layer, "--out", out).exit_code == 0
    result = run(place / "small.npz", "deconv", "--layer", "C3", "--unit", "2", "--out", out)
    assert result.exit_code == 0


def test_the_users_matplotlib_style_does_not_matter(place, tmp_path):
    import matplotlib

    for name, size in (("a.png", 10), ("b.png", 30)):
        with matplotlib.rc_context({"font.size": size, "image.cmap": "jet"}):
            assert run(place / "small.npz", "edges", "--out", tmp_path / name).exit_code == 0
            assert matplotlib.rcParams["font.size"] == size
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_the_default_file_name(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(place / "small.npz", "filters").stdout == "filters.png\n"
    assert Path("filters.png").exists()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (["maps", "--index", "100"], ConfigError, "--index: is 100, but there are 100 test images"),
        (["maps", "blank.npy"], ImageError, "no digit found"),
        (["maps", "none.npy"], ImageError, "no such file"),
        (["filters", "--layer", "F6"], ConfigError, "F6 is not a convolution"),
        (["deconv", "--layer", "C3", "--unit", "4"], ConfigError, "--unit: is 4, but C3 has 4"),
        (["field", "--layer", "X"], ConfigError, "no layer X"),
        (["filters", "--out", "x.pdf"], ConfigError, "x.pdf: --out: ends neither in .png nor"),
        (["filters", "--out", "small.npz/x.png"], SystemFailure, "cannot be written"),
    ],
)  # fmt: skip
def test_what_is_refused(place, monkeypatch, arguments, error, message):
    monkeypatch.chdir(place)
    before = sorted(place.iterdir())
    result = run("small.npz", *arguments)
    assert isinstance(result.exception, error)
    assert message in str(result.exception)
    assert sorted(place.iterdir()) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["maps", "--layer", "C1"], "maps takes no --layer"),
        (["filters", "image.png"], "filters takes no IMAGE"),
        (["embedding", "--index", "0"], "embedding takes no IMAGE"),
        (["maps", "image.png", "--index", "1"], "give IMAGE or --index, not both"),
        (["deconv", "--unit", "1"], "--unit is a unit of a --layer: give both"),
        (["everything"], "is not one of"),
    ],
)
def test_wrong_usage(arguments, message):
    result = run("any.npz", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr


def test_without_the_extra(place, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = run(place / "small.npz", "filters", "--out", tmp_path / "x.png")
    assert isinstance(result.exception, SystemFailure)
    assert str(result.exception) == "matplotlib: is not installed; pip install 'lenet[viz]'"
