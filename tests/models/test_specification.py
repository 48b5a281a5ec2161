"""Specifications: lists of layers that are read, built, written and refused."""

from __future__ import annotations

import re
import tracemalloc

import numpy as np
import pytest
from command import ERROR

from lenet.config.schema import Config
from lenet.errors import ConfigError
from lenet.models.registry import LAYERS
from lenet.models.specification import (
    MAX_LAYERS,
    build_layers,
    built_layers,
    class_count,
    expanded,
    layers_from,
    specification_of,
)
from lenet.nn.convolution import Convolution
from lenet.nn.dropout import Dropout
from lenet.nn.linear import Linear
from lenet.nn.network import Network
from lenet.nn.pooling import MaxPooling

HEAD = {"type": "linear", "units": 3}
CONV = {"type": "convolution", "filters": 2, "kernel": 3}


def test_names_are_letters_and_places():
    entries = expanded(
        [
            {**CONV, "activation": "relu"},
            {"type": "batch_normalization"},
            {"type": "dropout"},
            {"type": "dropout"},
            {"type": "average_pooling"},
            {"type": "tanh"},
            {**HEAD, "name": "scores"},
        ]
    )
    assert [entry["name"] for entry in entries] == [
        "C1",
        "C1.activation",
        "C1.batch_normalization",
        "C1.dropout",
        "C1.dropout2",
        "S2",
        "S2.activation",
        "scores",
    ]


def test_every_type_is_built_and_read_back():
    """Each with its required options; the others have their defaults and are left out."""
    required = {
        "convolution": {"filters": 2, "kernel": 3},
        "transposed_convolution": {"filters": 2, "kernel": 3},
        "linear": {"units": 3},
        "max_unpooling": {"pooling": "P"},
    }
    for name in LAYERS:
        entry = {"type": name, "name": "it", **required.get(name, {})}
        entries = expanded([{"type": "max_pooling", "name": "P"}, entry])
        shape = (84, 2, 2) if name == "rbf" else (2, 8, 8)
        if name == "rbf":
            entries = expanded([entry])
            shape = (84, 1, 1)
        network = Network(build_layers(entries), shape)
        assert specification_of(network).layers[-1] == entry


def test_layers_of_ones_own_among_entries():
    class Own(Linear):
        pass

    own = Own("own", 4)
    layers = layers_from([CONV, MaxPooling("P", 2), Dropout("D"), own, {"type": "relu"}, HEAD])
    assert [layer.name for layer in layers] == ["C1", "P", "D", "own", "P.activation", "F3"]
    assert layers[3] is own
    network = Network(layers, (1, 9, 9))
    with pytest.raises(ConfigError, match="layer own: its class Own is not registered"):
        specification_of(network)


def test_the_count_of_classes():
    assert class_count((3,), "F") == 3
    for shape in ((1,), (3, 1, 1), (3, 2)):
        with pytest.raises(ConfigError, match="layer F: has outputs of the shape"):
            class_count(shape, "F")


BAD = {
    "model.layers: must be null or a list of layers": [],
    r"model.layers\[1\]: must be a layer, is 'linear'": ["linear"],
    r"model.layers\[2\]: has no type; types are convolution, ": [CONV, {"units": 3}],
    r"model.layers\[2\]: type: must be .*, is 'liner'; did you mean linear\?": [
        CONV,
        {"type": "liner", "units": 3},
    ],
    r"model.layers\[1\]: type: must be .*, is \['linear'\]": [{"type": ["linear"]}],
    r"model.layers\[1\]: filter: unknown option of convolution; did you mean filters\?": [
        {"type": "convolution", "filter": 2, "kernel": 3},
        HEAD,
    ],
    r"model.layers\[2\]: kernel: unknown option of linear; its options are name, activ": [
        CONV,
        {**HEAD, "kernel": 3},
    ],
    r"model.layers\[1\]: convolution needs kernel; add kernel": [
        {"type": "convolution", "filters": 2},
        HEAD,
    ],
    r"model.layers\[1\]: activation: must be .* did you mean relu\?": [
        {**CONV, "activation": "rellu"},
        HEAD,
    ],
    r"model.layers\[2\]: the name A is given twice": [{**CONV, "name": "A"}, {**HEAD, "name": "A"}],
    r"model.layers\[2\]: the name A.activation is given twice": [
        {**CONV, "name": "A", "activation": "relu"},
        {"type": "relu", "name": "A.activation"},
        HEAD,
    ],
    r"model.layers\[1\]: name: must be 1 to 60 letters": [{**HEAD, "name": "a/b"}],
    r"model.layers\[1\]: name: must be .*, is 3": [{**HEAD, "name": 3}],
    # A shape that does not fit
    "layer C1: a window of 30 does not fit 28 pixels": [{**CONV, "kernel": 30}, HEAD],
    "layer S2: takes images .*, is given the shape .3,.": [HEAD, {"type": "max_pooling"}, HEAD],
    "layer C1: 2 groups do not divide 1 channels": [{**CONV, "groups": 2}, HEAD],
    "layer R1: has centres of 84 numbers, is given 784": [{"type": "rbf"}],
    "layer U1: pooling: needs the switches of a max_pooling layer": [
        {"type": "max_unpooling", "pooling": "S9"},
        HEAD,
    ],
    "layer U2: pooling: must be S1, is 'S9'": [
        {"type": "max_pooling"},
        {"type": "max_unpooling", "pooling": "S9"},
        HEAD,
    ],
    # Outputs
    "layer C1: has outputs of the shape 2×26×26, not one score for each class": [CONV],
    "layer F1: has outputs of the shape 1, not": [{"type": "linear", "units": 1}],
    # Tables
    "layer C1: table: has 1 rows for 2 filters": [{**CONV, "table": [[0]]}, HEAD],
    r"layer C1: table: filter 1 has \(1,\); give .* channels from 0 to 0": [
        {**CONV, "table": [[0], [1]]},
        HEAD,
    ],
    r"layer C1: table: filter 0 has \(\)": [{**CONV, "table": [[], [0]]}, HEAD],
    r"layer C1: table: filter 1 has \('a',\)": [{**CONV, "table": [[0], ["a"]]}, HEAD],
    "layer C1: table: must be a list, is 7": [{**CONV, "table": 7}, HEAD],
    # Types of options
    "layer C1: filters: must be an integer of 1 or more, is 'two'": [
        {**CONV, "filters": "two"},
        HEAD,
    ],
    "layer C1: filters: must be an integer of 1 or more, is 0": [{**CONV, "filters": 0}, HEAD],
    "layer C1: kernel: ": [{**CONV, "kernel": [1, 2, 3]}, HEAD],
    "layer C1: stride: ": [{**CONV, "stride": 1.5}, HEAD],
    "layer C1: padding: ": [{**CONV, "padding": -1}, HEAD],
    "layer C1: initializer: must be .* did you mean he": [{**CONV, "initializer": "hee"}, HEAD],
    "layer C1: lr_mult: must be one or two numbers": [{**CONV, "lr_mult": [1, 2, 3]}, HEAD],
    r"model.layers\[1\]: lr_mult: takes no true": [{**CONV, "lr_mult": True}, HEAD],
    r"model.layers\[1\]: flip: must be true or false, is 'yes'": [{**CONV, "flip": "yes"}, HEAD],
    r"model.layers\[1\]: flip: must be true or false, is \[\]": [{**CONV, "flip": []}, HEAD],
    r"model.layers\[1\]: stride: is too large": [{**CONV, "stride": [1, 10**30]}, HEAD],
    "layer dropout: rate: ": [{"type": "dropout", "rate": 1}, HEAD],
    # Sizes
    "model.layers: has 10,000 layers; use at most 1,000": [*[{"type": "relu"}] * 9_999, HEAD],
    "layer F1: makes a network of more than .* weights": [{"type": "linear", "units": 10**12}],
    "layer C2: makes a network of more than .* weights": [
        {**CONV, "filters": 10**5, "kernel": 28},
        {**CONV, "filters": 10**6, "kernel": 1},
        HEAD,
    ],
    "layer U1: makes a network of more than .* activations": [
        {"type": "repeat_unpooling", "kernel": 10**5},
        HEAD,
    ],
}


@pytest.mark.parametrize("problem", BAD)
def test_a_list_that_is_wrong_is_one_line(problem):
    with pytest.raises(ConfigError, match=f"^{problem}") as caught:
        Config().with_values({"model.layers": BAD[problem], "model.input": [1, 28, 28]})
    assert "\n" not in str(caught.value)


LARGE = [problem for problem in BAD if "makes a network" in problem or "10,000" in problem]


@pytest.mark.parametrize("problem", LARGE)
def test_what_is_too_large_takes_no_memory(problem):
    tracemalloc.start()
    try:
        with pytest.raises(ConfigError, match=problem):
            built_layers(expanded(BAD[problem]), (1, 28, 28))
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


def test_the_largest_number_of_layers():
    layers = [*[{"type": "relu"}] * (MAX_LAYERS - 1), HEAD]
    config = Config().with_values({"model.layers": layers, "model.input": [1, 2, 2]})
    network = config.model.specification().build()
    assert len(network.layers) == MAX_LAYERS
    assert network.predict(np.zeros((1, 1, 2, 2))).shape == (1, 3)


FILES = {
    "type": (
        "- {type: convolutoin, filters: 2, kernel: 3}",
        "model.layers[1]: type: must be convolution",
    ),
    "option": (
        "- {type: linear, units: 3, activaton: relu}",
        "model.layers[1]: activaton: unknown option of linear; did you mean activation?",
    ),
    "shape": (
        "- {type: convolution, filters: 2, kernel: 40}\n    - {type: linear, units: 3}",
        "layer C1: a window of 40 does not fit 28 pixels",
    ),
    "output": ("- {type: linear, units: 1}", "layer F1: has outputs of the shape 1"),
    "size": ("- {type: linear, units: 1000000000000}", "layer F1: makes a network of more than"),
    "layer": ("- linear", "model.layers[1]: must be a layer, is 'linear'"),
    "line": ("- {type: linear, units: }}", ""),
}


@pytest.mark.parametrize("command", ["summary", "train"])
@pytest.mark.parametrize("what", FILES)
def test_a_file_that_is_wrong_is_one_line_and_exit_code_2(lenet, tmp_path, command, what):
    layers, problem = FILES[what]
    file, output = tmp_path / "net.yaml", tmp_path / "run"
    file.write_text(f"model:\n  input: [1, 28, 28]\n  layers:\n    {layers}\n")
    options = ["--output", output] if command == "train" else []
    ended = lenet(command, "--config", file, *options)
    assert ended.code == 2
    assert ERROR.fullmatch(ended.err)
    assert ended.err.startswith(f"lenet: error: {file}: {problem}")
    assert not output.exists()


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"model.classes": 4}, "model.classes: is 4, but the last of model.layers gives 3 scores"),
        ({"model.channels": [3, 4]}, "model.channels: is an option of lenet5, but model.layers"),
        ({"model.input": [1, 28]}, "model.input: must be null or a list of three values"),
        ({"model.input": [0, 28, 28]}, "model.input: must be"),
    ],
)
def test_keys_that_contradict_the_list(keys, problem):
    with pytest.raises(ConfigError, match=f"^{re.escape(problem)}"):
        Config().with_values({"model.layers": [HEAD], "model.input": [1, 28, 28], **keys})


def test_convolutions_that_are_built_keep_their_table():
    network = Network([Convolution("C", 2, kernel=3, table=[[0], [0, 1]])], (2, 4, 4))
    assert specification_of(network).layers[0]["table"] == [[0], [0, 1]]


def test_an_unpooling_layer_needs_a_max_pooling_layer_before_it():
    with pytest.raises(ConfigError, match=r"^layer U1: pooling: needs the switches"):
        build_layers(expanded([{"type": "max_unpooling", "pooling": "S9"}]))
    entries = [{"type": "max_pooling"}, {"type": "max_unpooling", "pooling": "S9"}]
    with pytest.raises(ConfigError, match=r"^layer U2: pooling: must be S1, is 'S9'"):
        build_layers(expanded(entries))


def test_a_refused_value_names_the_option_as_it_is_written():
    entries = expanded([{"type": "convolution", "filters": "3", "kernel": 3}])
    with pytest.raises(ConfigError, match=r"^layer C1: filters: must be an integer"):
        build_layers(entries)
