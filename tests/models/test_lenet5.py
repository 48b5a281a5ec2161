"""LeNet-5: the shapes and counts of the derivation, its options, and PyTorch's step."""

from __future__ import annotations

import numpy as np
import pytest
from oracles import EXAMPLES

from lenet.errors import ConfigError
from lenet.models.lenet5 import lenet5, lenet5_layers

COUNTS = dict(EXAMPLES["parameters"]["lenet5"])


@pytest.mark.parametrize("fused", [False, True], ids=["plain", "fused"])
def test_the_parameter_counts_of_the_paper(fused):
    network = lenet5(fused=fused)
    counts = {}
    for p in network.parameter_list:
        layer = p.name.split(".")[0]
        counts[layer] = counts.get(layer, 0) + p.size
    assert {**counts, "total": network.parameters.size} == COUNTS


def test_the_shapes_of_the_derivation():
    network = lenet5(fused=False)
    network.initialize(np.random.default_rng(0))
    y = np.zeros((1, 32, 32, 3), np.float32)
    shapes = [list(y.shape[:-1])]
    for layer in network.layers:
        layer.allocate(3, np.float32)
        y = layer.forward(y)
        if not layer.name.endswith(".activation"):
            shapes.append([size for size in y.shape[:-1] if size > 1])
    assert shapes == EXAMPLES["lenet5_shapes"]


def test_the_patch_matrices_of_the_derivation():
    """C1 (N·784)×25, C3 (N·100)×150, C5 N×400."""
    layers = {layer.name: layer for layer in lenet5(fused=False).layers}
    matrices = {name: layers[name].patch_matrix for name in ("C1", "C3", "C5")}
    assert matrices == {"C1": (784, 25), "C3": (100, 150), "C5": (1, 400)}


@pytest.mark.parametrize("fused", [False, True], ids=["plain", "fused"])
def test_options(fused):
    network = lenet5(
        fused=fused,
        input_size=36,
        channels=(4, 8),
        units=(20, 12),
        classes=3,
        activation="tanh",
        pooling="average",
        dtype=np.float64,
    )
    assert network.dtype == np.float64
    assert [p.shape for p in network.parameter_list if p.decays] == [
        (4, 1, 5, 5),
        (8, 4, 5, 5),
        (20, 8, 5, 5),
        (12, 20 * 2 * 2),
        (3, 12),
    ]


def test_larger_images():
    """At 48 pixels C5 sees 9×9 and becomes a map of 5×5, which F6 reads whole."""
    network = lenet5(input_size=48)
    assert network.forward(np.zeros((1, 48, 48, 2), np.float32)).shape == (10, 2)
    assert network.parameter_list[6].shape == (84, 120 * 5 * 5)


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (4, "layer C1: a window of 5 does not fit 4"),
        (5, "layer S2: a window of 2 does not fit 1"),
        (12, "layer C3: a window of 5 does not fit 4"),
        (28, "layer C5: a window of 5 does not fit 4"),
    ],
)
@pytest.mark.parametrize("fused", [False, True], ids=["plain", "fused"])
def test_an_input_that_is_too_small_is_refused_by_the_layer_that_it_fails_at(size, message, fused):
    with pytest.raises(ConfigError, match=f"^{message} pixels .*; change the input size"):
        lenet5(input_size=size, fused=fused)


def test_the_list_is_new_every_time():
    first, second = lenet5_layers(), lenet5_layers()
    assert not {id(layer) for layer in first} & {id(layer) for layer in second}
