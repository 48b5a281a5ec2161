"""The summary, against the derivation, the slides, and the gradient's own reach."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner
from oracles import EXAMPLES
from untrained import untrained

from lenet.checkpoint.checkpoint import save_checkpoint
from lenet.cli import cli
from lenet.config.schema import Config, to_yaml
from lenet.errors import ConfigError
from lenet.models.lenet5 import lenet5_layers
from lenet.nn.activations import Activation
from lenet.nn.convolution import Convolution
from lenet.nn.linear import Linear
from lenet.nn.network import Network
from lenet.nn.pooling import AveragePooling, MaxPooling
from lenet.nn.subsampling import Subsampling
from lenet.nn.summary import receptive_field, summarize, to_table
from lenet.nn.transposed import TransposedConvolution
from lenet.nn.unpooling import RepeatUnpooling

SLIDES = EXAMPLES["receptive_field"]


def rows(layers=None, shape=(1, 32, 32)):
    return {row.layer: row for row in summarize(layers or lenet5_layers(), shape)}


def test_the_shapes_and_patch_matrices_of_the_derivation():
    found = rows()
    assert list(found) == ["C1", "S2", "C3", "S4", "C5", "F6", "F7"]
    shapes = [[size for size in row.output_shape if size > 1] for row in found.values()]
    assert shapes == EXAMPLES["lenet5_shapes"][1:]
    assert {name: row.patch_matrix for name, row in found.items()} == {
        "C1": (784, 25),
        "S2": (1176, 4),
        "C3": (100, 150),
        "S4": (400, 4),  # 2×2 windows
        "C5": (1, 400),
        "F6": (1, 120),
        "F7": (1, 84),
    }


def test_weights_and_multiply_adds():
    found = rows()
    counts = {name: row.weights for name, row in found.items() if row.weights}
    assert {**counts, "total": sum(counts.values())} == EXAMPLES["parameters"]["lenet5"]
    assert {name: row.multiply_adds for name, row in found.items() if row.multiply_adds} == {
        "C1": 6 * 25 * 784,
        "C3": 16 * 150 * 100,
        "C5": 120 * 400,
        "F6": 84 * 120,
        "F7": 10 * 84,
    }


# --- The receptive field ------------------------------------------------------------------------


def test_the_receptive_fields_of_the_slides():
    windows = [((k, k), (s, s)) for _, k, s in SLIDES["layers"]]
    chain = [receptive_field(windows[i:])[0] for i in reversed(range(len(windows)))]
    assert chain == SLIDES["from_the_last_layer_down"]
    on_the_input = [receptive_field(windows[: i + 1]) for i in range(len(windows))]
    assert on_the_input == [(size, size) for size in SLIDES["on_the_input"].values()]


def test_the_receptive_fields_of_lenet5():
    found = rows()
    for layer, size in SLIDES["lenet5_on_the_input"].items():
        assert found[layer].receptive_field == (size, size)
    assert found["F7"].receptive_field == (32, 32)


def mixed():
    """Rectangles, strides, overlaps, and a linear layer that reads an image."""
    return [
        Convolution("C1", 2, (3, 2), stride=(1, 2)),
        Activation("C1.activation", "tanh"),
        AveragePooling("S2", 3, stride=2),
        Convolution("C3", 2, (2, 3)),
        Linear("F4", 2),
        Linear("F5", 2),
    ]


def enlarging():
    """Layers that make an image larger, with gaps and dilation, between those that shrink it."""
    return [
        Convolution("C1", 2, (3, 2), dilation=(2, 3)),
        AveragePooling("S2", 3, stride=2, dilation=(1, 2)),
        RepeatUnpooling("U3", (2, 3)),
        TransposedConvolution("T4", 2, (3, 2), stride=2, padding=(1, 0)),
        Subsampling("S5", 3, stride=2),
    ]


def test_the_receptive_field_of_enlarging_layers():
    """By the largest reach of the gradient of any output, far from the edges."""
    shape = (1, 40, 41)
    expected = rows(enlarging(), shape)
    layers = enlarging()
    network = Network(layers, shape, np.float64)
    layers[0].needs_dx = True
    network.parameters[...] = 1
    y = np.ones((*shape, 1))
    for i, layer in enumerate(layers):
        layer.allocate(1, np.float64)
        y = layer.forward(y)
        reaches = []
        for k in range(6):
            dy = np.zeros_like(y)
            dy[0, y.shape[1] // 2 + k, y.shape[2] // 2 + k] = 1
            for below in reversed(layers[: i + 1]):
                dy = below.backward(dy)
            seen = np.abs(dy).sum(axis=(0, 3)) > 0
            reaches.append([np.ptp(np.flatnonzero(seen.any(axis=axis))) + 1 for axis in (1, 0)])
        assert tuple(np.max(reaches, axis=0)) == expected[layer.name].receptive_field


@pytest.mark.parametrize("make", [mixed, lambda: lenet5_layers(pooling="average")[:9]])
def test_an_output_depends_on_its_receptive_field_and_on_nothing_else(make):
    """The gradient of one output reaches exactly the pixels of its receptive field."""
    shape = (1, 33, 36)
    expected = rows(make(), shape)
    layers = make()
    network = Network(layers, shape, np.float64)
    layers[0].needs_dx = True
    network.initialize(np.random.default_rng(0))
    y = np.random.default_rng(1).uniform(1, 2, (*shape, 1))
    for i, layer in enumerate(layers):
        layer.allocate(1, np.float64)
        y = layer.forward(y)
        if layer.name not in expected:
            continue
        dy = np.zeros_like(y)
        dy[(slice(None), *[0] * (y.ndim - 1))] = 1
        for below in reversed(layers[: i + 1]):
            if isinstance(below, Activation):
                continue  # a positive factor: it changes the size of the gradient, not its reach
            dy = below.backward(dy)
        reach = np.abs(dy).sum(axis=(0, 3)) > 0
        height, width = expected[layer.name].receptive_field
        assert reach.sum() == height * width
        assert reach[:height, :width].all()


# --- The table and the command ------------------------------------------------------------------


def test_the_table_is_aligned():
    lines = to_table(summarize(lenet5_layers(), (1, 32, 32))).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert "N·1176 × 4" in lines[2]
    assert " N × 400 " in lines[5]
    assert lines[-1].split() == ["total", "61,706", "416,520"]


def test_pooling_alone_has_no_weights():
    [row] = summarize([MaxPooling("S", 2)], (3, 5, 7))
    assert (row.output_shape, row.patch_matrix, row.weights) == ((3, 2, 3), (18, 4), 0)


def run(*arguments):
    return CliRunner().invoke(cli, ["summary", *arguments])


def test_the_command():
    result = run()
    assert result.exit_code == 0
    assert result.stdout.startswith("LeNet-5 of 1×32×32 images, relu, max pooling\n\nlayer ")
    assert "61,706" in result.stdout


def test_json():
    result = run("--json", "--set", "model.channels=[4,8]", "--set", "model.input_size=36")
    found = json.loads(result.stdout)
    assert found["schema_version"] == 1
    assert found["model"]["channels"] == [4, 8]
    assert found["layers"][2] == {
        "name": "C3",
        "layer": "C3",
        "type": "Convolution",
        "output_shape": [8, 12, 12],
        "patch_matrix": [144, 100],
        "weights": 808,
        "receptive_field": [14, 14],
        "multiply_adds": 144 * 100 * 8,
        "connections": 144 * 101 * 8,
    }
    assert found["layers"][5]["receptive_field"] == [36, 36]
    for key, total in found["totals"].items():
        assert total == sum(layer[key] for layer in found["layers"])


def test_a_configuration_file(tmp_path):
    file = tmp_path / "wide.yaml"
    file.write_text("model: {units: [200, 100], activation: tanh}")
    result = run("--config", str(file))
    assert "tanh" in result.stdout
    assert "200×1×1" in result.stdout


def test_a_checkpoint_needs_nothing_else(tmp_path):
    save_checkpoint(tmp_path / "best.npz", untrained(model__channels=(3, 5)))
    result = run(str(tmp_path / "best.npz"), "--json")
    assert json.loads(result.stdout)["model"]["channels"] == [3, 5]


@pytest.mark.parametrize(
    ("name", "parameters", "connections"),
    [("lenet5", 61_706, None), ("lenet5-1998", 60_000, 340_908), ("caffe-lenet", 431_080, None)],
)
def test_a_packaged_network_by_its_name(name, parameters, connections):
    found = json.loads(run(name, "--json").stdout)
    assert found["parameters"] == parameters
    assert connections in (None, found["totals"]["connections"])


def test_a_network_written_out_is_the_same(tmp_path):
    text = to_yaml(Config().with_values({"model.name": "caffe-lenet"}).with_layers())
    (tmp_path / "mine.yaml").write_text(text)
    found, packaged = (json.loads(run(source, "--json").stdout)
                       for source in (str(tmp_path / "mine.yaml"), "caffe-lenet"))  # fmt: skip
    assert found["layers"] == packaged["layers"]


def test_what_is_refused(tmp_path):
    result = run("best.npz", "--set", "model.classes=3")
    assert result.exit_code == 2
    assert "CHECKPOINT contains its own network: leave out --config and --set" in result.output
    result = run("--set", "model.input_size=28")
    assert isinstance(result.exception, ConfigError)
    assert str(result.exception).startswith("layer C5: a window of 5 does not fit 4 pixels")
    result = run(str(tmp_path / "missing.npz"))
    assert result.exception.exit_code == 3


@pytest.mark.parametrize("channels", ["[1,1]", "[4096,4096]"])
def test_the_size_of_the_network_does_not_matter(channels):
    assert run("--set", f"model.channels={channels}").exit_code == 0
