"""Plots of a network: their numbers against definitions, and that nothing is cut off."""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
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
    mean_stack,
    padded_stack,
)
from numpy.testing import assert_allclose, assert_array_equal
from oracles import batch_first, batch_last, correlate, max_pooling, patches
from scipy.signal import correlate2d
from tiny import bars, write_bars
from untrained import untrained, untrained_colour

from lenet.cli import cli
from lenet.cli.inspect import TAKES
from lenet.data.preprocessing import Preprocessing
from lenet.inspect import figures, inspection, plots, views
from lenet.models.lenet5 import lenet5
from lenet.nn.convolution import Convolution
from lenet.system.errors import ConfigError, ImageError, SystemFailure
from lenet.training import restore
from lenet.training.calibration import reliability_bins
from lenet.training.checkpoint import save_checkpoint
from lenet.training.metrics import Evaluation
from lenet.training.restore import restore_network


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
    outputs = views.activations(restore.plain_network(checkpoint), x)
    names = "C1 C1.activation S2 C3 C3.activation S4 C5 C5.activation F6 F6.activation F7"
    assert " ".join(outputs) == names
    assert [outputs[name].shape for name in ("C1", "S4", "C5", "F7")] == [
        (3, 28, 28), (4, 5, 5), (6, 1, 1), (10,),
    ]  # fmt: skip
    as_trained = restore_network(checkpoint).forward(x)[:, 0]
    assert_allclose(outputs["F7"], as_trained, rtol=1e-5, atol=1e-5)


def test_an_unknown_layer_is_refused_with_the_names_of_all():
    with pytest.raises(ConfigError, match="no layer C4; choose one of C1, C1"):
        views.find_layer(network(), "C4")
    with pytest.raises(ConfigError, match="S2 is not a convolution; choose one of C1, C3, C5"):
        views.find_convolution(network(), "S2")


def test_the_layers_that_plots_choose():
    made = network()
    assert views.convolutions(made) == ["C1", "C3", "C5"]
    assert views.layers_of_maps(made) == ["C1", "S2", "C3", "S4", "C5"]
    assert (views.last_pooling(made), views.last_hidden(made)) == ("S4", "F6.activation")
    made = dense_stack()
    assert views.layers_of_maps(made) == ["a", "b", "c"]
    assert (views.last_pooling(made), views.last_hidden(made)) == ("c", "b")
    with pytest.raises(ConfigError, match="the network has no convolution; "):
        views.convolutions(made)


# --- Receptive fields -----------------------------------------------------------------------------


@pytest.mark.parametrize("S", [32, 37])
@pytest.mark.parametrize("name", ["C1", "S2", "C3", "S4", "C5", "F6"])
def test_a_unit_sees_its_field_and_nothing_else(name, S):
    # tanh and the mean let every pixel of the field through.
    made = network(activation="tanh", pooling="average", input_size=S)
    x = image(S)
    unit = views.chosen_unit(made, x, name, 1)
    top, left, height, width = unit.field

    def output(x):
        y = np.atleast_2d(views.activations(made, x)[name][unit.index])
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
    unit = views.chosen_unit(made, x, name, seed)
    top, left, height, width = unit.field
    depends = views.project(made, x, replace(unit, value=1.0)).any(axis=0)
    rows, columns = (np.flatnonzero(depends.any(axis=axis)) for axis in (1, 0))
    assert (rows[0], columns[0]) == (top, left)
    assert (rows[-1], columns[-1]) == (top + height - 1, left + width - 1)


def test_the_fields_of_lenet5():
    fields = [
        views.chosen_unit(network(), image(), n, 0).field[2:]
        for n in ("C1", "S2", "C3", "S4", "C5")
    ]
    assert fields == [(5, 5), (6, 6), (14, 14), (16, 16), (32, 32)]


def test_the_strongest_units():
    made, x = network(), image()
    y = views.activations(made, x)["S4"].copy()
    first, second = views.strongest_units(made, x, "S4", 2)
    assert first.value == y.max()
    assert y[(first.index, *first.place)] == first.value
    assert second.value == np.delete(y, first.index, axis=0).max()
    with pytest.raises(ConfigError, match="is 3, but S4 has 3 units; give a number from 0 to 2"):
        views.chosen_unit(made, x, "S4", 3)


# --- Deconvolution --------------------------------------------------------------------------------


def test_projection_by_switches():
    """Each step by its definition, on arrays (N,C,H,W): argmax, one paint stroke an entry."""
    made, x = network(), image()
    C1, C3 = value(made, "C1.weight"), value(made, "C3.weight")
    z1 = correlate(batch_first(x), C1, value(made, "C1.bias"), (1, 1), (0, 0), 1)
    y1, source1 = max_pooling(np.maximum(z1, 0), (2, 2), (2, 2))
    z3 = correlate(y1, C3, value(made, "C3.bias"), (1, 1), (0, 0), 1)
    y3, source3 = max_pooling(np.maximum(z3, 0), (2, 2), (2, 2))

    unit = views.strongest_units(made, x, "S4", 1)[0]
    assert_allclose(unit.value, y3.max())
    _, f, i, j = source3[(0, unit.index, *unit.place)]
    maps = np.zeros(y1.shape)
    maps[0, :, i : i + 5, j : j + 5] = unit.value * C3[f]
    expected = np.zeros((32, 32))
    for place, number in np.ndenumerate(maps):
        _, c, i, j = source1[place]
        expected[i : i + 5, j : j + 5] += max(number, 0) * C1[c, 0]

    assert_allclose(views.project(made, x, unit), expected[None], atol=1e-12)


@pytest.mark.parametrize("name", ["C1", "S2", "C3.activation", "S4", "C5", "F6.activation", "F7"])
@pytest.mark.parametrize("S", [32, 37])
def test_projection_through_smooth_layers_is_the_gradient(name, S):
    """With the mean and tanh the way down is backpropagation from the unit, times its value."""
    made = network(activation="tanh", pooling="average", input_size=S)
    x = image(S)
    unit = views.strongest_units(made, x, name, 1)[0]
    pixels = views.project(made, x, unit)
    assert pixels.shape == (1, S, S)

    def output(x):
        return float(np.atleast_2d(views.activations(made, x)[name][unit.index])[unit.place])

    direction = image(S, seed=2)
    slope = (output(x + 1e-5 * direction) - output(x - 1e-5 * direction)) / 2e-5
    assert_allclose(np.vdot(pixels, direction[..., 0]), unit.value * slope, rtol=1e-6)


@pytest.mark.parametrize("name", ["conv-1", "pool", "act-2", "hidden", "scores"])
def test_projection_through_a_colour_network_is_the_gradient(name):
    made = colour_stack()
    x = any_image(made.input_shape)
    unit = views.strongest_units(made, x, name, 1)[0]
    pixels = views.project(made, x, unit)
    assert pixels.shape == made.input_shape

    def output(x):
        return float(np.atleast_2d(views.activations(made, x)[name][unit.index])[unit.place])

    direction = any_image(made.input_shape, seed=2)
    slope = (output(x + 1e-5 * direction) - output(x - 1e-5 * direction)) / 2e-5
    assert_allclose(np.vdot(pixels, direction[..., 0]), unit.value * slope, rtol=1e-6)


# --- Patches, lines, embeddings -------------------------------------------------------------------


@pytest.mark.parametrize("name", ["C1", "C3", "C5"])
def test_the_product_is_the_convolution(name):
    made, x = network(), image()
    seen = views.product(made, x, name)
    assert_array_equal(seen.patches.T, patches(seen.x[None], (5, 5), (1, 1), (0, 0)))
    z = seen.z.reshape(-1, seen.conv.Ho, seen.conv.Wo) + value(made, f"{name}.bias")[:, None, None]
    assert_allclose(z, views.activations(made, x)[name], atol=1e-12)


@pytest.mark.parametrize("name", ["conv-1", "conv-2"])
def test_the_product_with_groups_and_turned_kernels(name):
    made = colour_stack()
    x = any_image(made.input_shape)
    product = views.product(made, x, name)
    assert product.weights.shape[1] == len(product.patches)
    z = product.z.reshape(-1, product.conv.Ho, product.conv.Wo)
    z += value(made, f"{name}.bias")[:, None, None]
    assert_allclose(z, views.activations(made, x)[name], atol=1e-12)


def test_lines_and_poolings():
    (grey,), _ = bars(1, seed=1)
    for kernel in (views.SOBEL, views.SOBEL.T):
        found = views.line_responses(grey, kernel)
        z = correlate2d(grey / 255, kernel, mode="same")
        y = np.maximum(z, 0).reshape(14, 2, 14, 2)
        expected = [z, np.maximum(z, 0), y.max(axis=(1, 3)), y.mean(axis=(1, 3))]
        assert list(found) == ["convolution", "ReLU", "max pooling", "average pooling"]
        for one, other in zip(found.values(), expected, strict=True):
            assert_allclose(one, other, atol=1e-5)


def test_the_embedding_is_that_of_the_covariance():
    made = restore.plain_network(untrained())
    images, _ = bars(300, seed=2)  # more than a batch
    places, shares = views.embedding(made, Preprocessing(), images, "F6.activation")
    x = batch_last(np.pad(images[:, None] / 255 * 1.275, ((0, 0), (0, 0), (2, 2), (2, 2))) - 0.1)
    made.allocate(300)
    for layer in made.layers[:-1]:
        x = layer.forward(x)
    A = x.T.astype(np.float64) - x.mean(axis=1)
    variances, directions = np.linalg.eigh(A.T @ A)
    assert_allclose(shares, variances[:-3:-1] / variances.sum(), rtol=1e-4)
    for k in (0, 1):
        along = A @ directions[:, -1 - k]
        assert_allclose(np.abs(places[:, k]), np.abs(along), atol=1e-3)


def test_too_few_units_for_two_dimensions():
    made = restore.plain_network(untrained(model__units=[6, 1]))
    with pytest.raises(ConfigError, match="are too few for two dimensions"):
        views.embedding(made, Preprocessing(), bars(5, seed=0)[0], "F6.activation")


# --- The plots ------------------------------------------------------------------------------------

SIZES = {
    "small": {},
    "large": {"model__channels": [18, 20], "model__units": [40, 30], "model__input_size": 40},
    "single": {"model__channels": [1, 1], "model__pooling": "average", "model__activation": "tanh"},
}
PICTURES = [
    *((what, "small") for what in TAKES),
    *((what, size) for what in ("filters", "maps", "patches") for size in ("large", "single")),
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
    monkeypatch.setitem(figures.SETTINGS, "savefig.dpi", 30)


@pytest.mark.parametrize(("what", "size"), PICTURES)
def test_every_plot_is_whole(place, tmp_path, monkeypatch, what, size):
    drawn = []
    write = figures.write_figure

    def watched(path, draw):
        write(path, lambda: drawn.append(draw()) or drawn[0])

    monkeypatch.setattr(figures, "write_figure", watched)
    out = tmp_path / "picture.png"
    named = [place / "one $1.npy"] if "IMAGE" in TAKES[what] and size == "small" else []
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


@pytest.mark.parametrize("stack", STACKS.values(), ids=STACKS)
def test_plots_of_any_network(tmp_path, stack):
    pytest.importorskip("matplotlib")
    made = stack()
    x = any_image(made.input_shape)
    names = [f"class {k}" for k in range(made.output_shape[0])]
    units = [views.strongest_units(made, x, n, 1)[0] for n in views.layers_of_maps(made)]
    strongest = views.strongest_units(made, x, views.last_pooling(made), 4)
    drawn = {
        "maps": lambda: plots.maps(made, x, names, "an image"),
        "field": lambda: plots.field(made, x, units, "an image"),
        "deconv": lambda: plots.deconv(made, x, strongest, "an image"),
    }
    if any(isinstance(layer, Convolution) for layer in made.layers):
        convs = views.convolutions(made)
        drawn["filters"] = lambda: plots.filters(made, convs)
        drawn["patches"] = lambda: plots.patches(made, x, convs[-1], "an image")
    for what, draw in drawn.items():
        figures.write_figure(tmp_path / f"{what}.png", draw)
        assert (tmp_path / f"{what}.png").read_bytes().startswith(b"\x89PNG\r\n")


@pytest.mark.parametrize("what", ["maps", "patches", "deconv", "field", "edges"])
def test_a_picture_for_a_colour_network(tmp_path, what):
    pytest.importorskip("matplotlib")
    np.save(tmp_path / "picture.npy", np.random.default_rng(4).random((30, 20, 3), np.float32))
    draw = inspection.inspect(untrained_colour(), what, file=tmp_path / "picture.npy")
    figures.write_figure(tmp_path / "figure.svg", draw)
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


def test_the_reliability_plot_has_the_accuracy_of_each_bin():
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
    for what, layer in (("filters", "C5"), ("patches", "C3"), ("field", "F6"), ("deconv", "F7")):
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
        (["maps", "--digit", "100"], ConfigError, "--digit: is 100, but there are 100 test images"),
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
        (["embedding", "--digit", "0"], "embedding takes no IMAGE"),
        (["maps", "image.png", "--digit", "1"], "give IMAGE or --digit, not both"),
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
