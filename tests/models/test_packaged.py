"""The packaged networks, layer by layer, against the papers and the derivation."""

from __future__ import annotations

import json

import numpy as np
import pytest

from lenet.errors import ConfigError
from lenet.models.packaged import MODELS, TABLE_I, packaged_model
from lenet.models.specification import (
    build_layers,
    expanded,
    specification_of,
)
from lenet.nn.summary import summarize

WEIGHTS = {
    # docs/derivation.md
    "lenet5": {
        "C1": 156, "S2": 0, "C3": 2_416, "S4": 0, "C5": 48_120, "F6": 10_164, "F7": 850,
    },
    # Y. LeCun et al. (1998), section II-B
    "lenet5-1998": {
        "C1": 156, "S2": 12, "C3": 1_516, "S4": 32, "C5": 48_120, "F6": 10_164, "output": 0,
    },
    # Caffe's examples/mnist/lenet_train_test.prototxt: (K + 1) weights for each filter or unit
    "caffe-lenet": {
        "C1": 520, "S2": 0, "C3": 25_050, "S4": 0, "F5": 400_500, "F6": 5_010,
    },
    # 9·C·F + F for a convolution, 2·C for a batch normalisation
    "mini-vgg": {
        "C1": 160, "S2": 0, "S2.batch_normalization": 32,
        "C3": 4_640, "S4": 0, "S4.batch_normalization": 64,
        "C5": 18_496, "S6": 0, "S6.batch_normalization": 128,
        "C7": 36_928, "C7.batch_normalization": 128, "S8": 0, "F9": 650,
    },
}  # fmt: skip


TOTALS = {"lenet5": 61_706, "lenet5-1998": 60_000, "caffe-lenet": 431_080, "mini-vgg": 61_226}


# As the paper states them for C1 to F6, and 84 for each class; 340,908 in all.
CONNECTIONS_1998 = {
    "C1": 122_304, "S2": 5_880, "C3": 151_600, "S4": 2_000, "C5": 48_120, "F6": 10_164,
    "output": 840,
}  # fmt: skip


def test_the_biases_of_caffes_network_learn_twice_as_fast_and_decay():
    network = packaged_model("caffe-lenet").build()
    parameters = [p for layer in network.layers for p in layer.parameters]
    rates = {p.name.split(".")[1]: (p.lr_mult, p.decays, p.decay_mult) for p in parameters}
    assert rates == {"weight": (1, True, 1), "bias": (2, True, 1)}


def test_the_weights_of_caffes_network_have_the_variance_of_its_filler():
    """XavierFiller: uniform in ±√(3 / fan_in), with the weights of one filter or unit as fan_in."""
    made = packaged_model("caffe-lenet")
    network = made.build()
    network.initialize(np.random.default_rng(0), made.initializer)
    values = {p.name: p.value for layer in network.layers for p in layer.parameters}
    for name, fan_in in {"C1": 25, "C3": 500, "F5": 800, "F6": 500}.items():
        bound = (3 / fan_in) ** 0.5
        assert 0.97 * bound < np.abs(values[f"{name}.weight"]).max() <= bound
        assert not values[f"{name}.bias"].any()


def rows(name):
    made = packaged_model(name)
    return summarize(build_layers(made.layers), made.input_shape)


def test_every_packaged_network_has_its_counts_here():
    assert set(WEIGHTS) == set(TOTALS) == set(MODELS)


@pytest.mark.parametrize("name", MODELS)
def test_weights_layer_by_layer(name):
    found = {row.layer: row.weights for row in rows(name)}
    assert found == WEIGHTS[name]
    assert sum(found.values()) == TOTALS[name] == packaged_model(name).build().parameters.size


def test_the_connections_of_1998():
    found = {row.layer: row.connections for row in rows("lenet5-1998")}
    assert found == CONNECTIONS_1998
    assert sum(found.values()) == 340_908


def test_the_table_of_1998_is_that_of_the_paper():
    """Table I, its columns written down: the maps of S2 for each map of C3."""
    columns = "012 123 234 345 045 015 0123 1234 2345 0345 0145 0125 0134 1245 0235 012345"
    assert " ".join("".join(map(str, row)) for row in TABLE_I) == columns


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("fused", [False, True], ids=["plain", "fused"])
def test_a_packaged_network_is_data_again(name, fused):
    made = packaged_model(name)
    found = specification_of(made.build(fused=fused), made.scale, made.shift, made.initializer)
    assert found.parameter_shapes() == made.parameter_shapes()
    assert expanded(found.layers) == found.layers
    # Written twice, it is the same: nothing is lost on the way.
    again = specification_of(found.build(), made.scale, made.shift, made.initializer)
    assert again == found
    assert json.loads(json.dumps(found.layers)) == list(found.layers)


@pytest.mark.parametrize("name", MODELS)
def test_summary_has_these_counts(lenet, name):
    ended = lenet("summary", name, "--json")
    found = json.loads(ended.out)
    assert found["parameters"] == TOTALS[name]
    assert {row["name"]: row["weights"] for row in found["layers"]} == WEIGHTS[name]


def test_options_of_a_packaged_network_are_its_own():
    with pytest.raises(ConfigError, match=r"^model.filters: is not an option of lenet5"):
        packaged_model("lenet5", {"filters": 3})
    with pytest.raises(ConfigError, match=r"^model.classes: is not an option .*; it has none"):
        packaged_model("lenet5-1998", {"classes": 3})
    with pytest.raises(ConfigError, match=r"^model.name: .* did you mean caffe-lenet\?"):
        packaged_model("cafe-lenet")
