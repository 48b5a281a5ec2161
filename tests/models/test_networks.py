"""Random networks from specifications: trained, saved, loaded, resumed, exported, with workers."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from runs import StopAfter, assert_same_state, checkpoint, log, timeless

from lenet.checkpoint.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from lenet.checkpoint.restore import build_network, restore_network
from lenet.config.schema import Config
from lenet.data.formats.idx import write_idx
from lenet.data.preprocessing import Preprocessing
from lenet.errors import ConfigError
from lenet.evaluation.images import build_preprocessing
from lenet.models.packaged import MODELS, packaged_model
from lenet.models.specification import build_layers, expanded, specification_of
from lenet.nn.activations import FUNCTIONS
from lenet.nn.network import Network
from lenet.targets.networks import exported_network
from lenet.targets.onnx.check import compare
from lenet.targets.onnx.export import onnx_model
from lenet.train.build import initialize
from lenet.train.run import run_training

# --- Random specifications ------------------------------------------------------------------------

small = st.integers(1, 3)
pairs = st.one_of(small, st.lists(small, min_size=2, max_size=2))
sides = st.one_of(st.integers(0, 2), st.lists(st.integers(0, 2), min_size=4, max_size=4))
functions = st.sampled_from(sorted(FUNCTIONS))
multipliers = st.sampled_from([1.0, 0.5, [1, 2]])


def entry(kind: str, required: dict | None = None, **optional: st.SearchStrategy):
    """An entry of a type; each optional key is there or not."""
    return st.fixed_dictionaries({"type": st.just(kind), **(required or {})}, optional=optional)


convolutions = entry(
    "convolution",
    {"filters": st.sampled_from([2, 4]), "kernel": pairs},
    stride=pairs, padding=sides, dilation=pairs, flip=st.booleans(), activation=functions,
    initializer=st.sampled_from(["glorot", "lecun"]), lr_mult=multipliers, decay_mult=multipliers,
)  # fmt: skip
poolings = st.sampled_from(["max_pooling", "average_pooling"]).flatmap(
    lambda kind: entry(
        kind, kernel=pairs, stride=pairs, round_up=st.booleans(), activation=functions
    )
)
enlarging = st.one_of(
    entry(
        "transposed_convolution",
        {"filters": st.sampled_from([2, 3]), "kernel": pairs},
        stride=pairs, activation=functions,
    ),
    entry("repeat_unpooling", kernel=st.integers(1, 2)),
)  # fmt: skip
others = st.one_of(
    entry("batch_normalization"),
    entry("dropout", rate=st.sampled_from([0.25, 0.5])),
    entry("subsampling"),
    functions.map(lambda name: {"type": name}),
)
hidden = entry("linear", {"units": st.integers(2, 6)}, activation=functions, lr_mult=multipliers)
stacks = st.builds(
    lambda maps, vectors, classes: [*maps, *vectors, {"type": "linear", "units": classes}],
    st.lists(st.one_of(convolutions, convolutions, poolings, enlarging, others), max_size=4),
    st.lists(st.one_of(hidden, others.filter(lambda e: e["type"] != "subsampling")), max_size=1),
    st.integers(2, 5),
)
inputs = st.tuples(st.sampled_from([1, 3]), st.integers(6, 11), st.integers(6, 11))


def configured(layers: object, shape: tuple[int, int, int], **settings: object) -> Config:
    values = {name.replace("__", "."): value for name, value in settings.items()}
    return Config().with_values({"model.layers": layers, "model.input": shape, **values})


def batch(shape: tuple[int, int, int], classes: int, N: int = 6):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (N, *shape), dtype=np.uint8)
    return images, rng.integers(0, classes, N)


def train_a_step(network: Network, images: np.ndarray, labels: np.ndarray) -> float:
    """One step of gradient descent; the loss before it."""
    loss = network.default_loss()
    network.set_step(seed=1, step=3)
    x = Preprocessing(network.input_shape).prepare(images, network.dtype)
    before = loss.forward(network.forward(x), labels)
    network.backward(loss.backward())
    network.parameters -= 0.01 * network.gradients
    return before


def stored(config: Config, network: Network) -> Checkpoint:
    return Checkpoint(
        config=config,
        model=config.model.specification(),
        parameters={p.name: p.value for p in network.parameter_list},
        state=network.state_arrays(),
        preprocessing=build_preprocessing(config),
        class_names=tuple(map(str, range(config.model.classes))),
        dataset="strokes",
        step=1,
        epoch=0,
        metrics={},
        training=None,
        facts={},
    )


@settings(
    max_examples=30,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow],
)
@given(stacks, inputs)
def test_random_networks(tmp_path_factory, layers, shape):
    try:
        config = configured(layers, shape)
    except ConfigError as error:
        assume("fit" not in str(error))  # a kernel is larger than what is left of the image
        raise
    network = build_network(config)
    initialize(network, config)

    # As data: the entries of a network that is built, and the network of these entries.
    entries = expanded(layers)
    assert expanded(entries) == entries
    made = specification_of(network)
    assert expanded(made.layers) == made.layers
    again = specification_of(Network(build_layers(made.layers), shape))
    assert again == made
    assert {**made.parameter_shapes()} == config.model.specification().parameter_shapes()
    assert Config.from_dict(config.to_dict()) == config

    # A step, in both forms.
    images, labels = batch(shape, config.model.classes)
    plain = network.rebuilt(fused=False)
    loss = train_a_step(network, images, labels)
    assert math.isfinite(loss)
    assert train_a_step(plain, images, labels) == pytest.approx(loss, rel=1e-4)
    np.testing.assert_allclose(network.parameters, plain.parameters, rtol=1e-3, atol=1e-4)

    # Saved and loaded.
    path = tmp_path_factory.mktemp("network") / "network.npz"
    save_checkpoint(path, stored(config, network))
    loaded = load_checkpoint(path)
    x = build_preprocessing(config).prepare(images).transpose(3, 0, 1, 2)
    expected = network.predict(x)
    np.testing.assert_array_equal(restore_network(loaded).predict(x), expected)
    np.testing.assert_allclose(expected.sum(axis=1), 1, rtol=1e-5)

    # Exported.
    pytest.importorskip("onnx")
    exported = exported_network(loaded)
    compare(onnx_model(exported), exported, images)  # raises where the scores differ


# --- Fixed networks: whole runs -------------------------------------------------------------------

DROPOUT = [
    {"type": "convolution", "filters": 4, "kernel": 3, "padding": 1, "activation": "tanh"},
    {"type": "average_pooling"},
    {"type": "dropout", "rate": 0.3},
    {"type": "linear", "units": 8, "activation": "relu"},
    {"type": "dropout"},
    {"type": "linear", "units": 3},
]
NORMALISED = [
    {"type": "convolution", "filters": 4, "kernel": 3, "lr_mult": [1, 2], "decay_mult": [1, 0.5]},
    {"type": "batch_normalization"},
    {"type": "relu"},
    {"type": "max_pooling", "kernel": 3, "stride": 2, "round_up": True},
    {"type": "linear", "units": 3},
]
OF_1998 = [
    {"type": "convolution", "filters": 4, "kernel": 3, "activation": "lecun_tanh"},
    {"type": "subsampling", "activation": "lecun_tanh"},
    {"type": "convolution", "filters": 3, "kernel": 2, "table": [[0, 1], [1, 2, 3], [0, 3]]},
    {"type": "linear", "units": 5, "activation": "lecun_tanh"},
    {"type": "rbf", "centres": [[1, 1, -1, 1, -1], [-1, 1, 1, 1, 1], [1, -1, 1, -1, 1]]},
]
STACKS = {"dropout": DROPOUT, "normalised": NORMALISED, "1998": OF_1998}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Images whose class is where they are bright; IDX files, grey, 10×9."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 3, 90).astype(np.uint8)
    images = rng.integers(0, 100, (90, 10, 9), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[:, 3 * label : 3 * label + 3] += 120
    for split in ("train", "test"):
        write_idx(folder / f"{split}_images", images)
        write_idx(folder / f"{split}_labels", labels)
    return {
        "data.name": "idx",
        **{f"data.{file.name}": str(file) for file in folder.iterdir()},
        "data.validation": 20,
        "train.batch_size": 14,
        "train.epochs": 2,
        "train.workers": 1,
        "optimizer.lr": 0.01,
    }


def run_configuration(files, stack, output, **settings) -> Config:
    values = {name.replace("__", "."): value for name, value in settings.items()}
    return configured(STACKS[stack], (1, 10, 9)).with_values(
        {**files, "output.dir": str(output), **values}
    )


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("when", [{"epoch": 1}, {"step": 7}], ids=["epoch", "step"])
def test_a_resumed_run_has_the_bits_of_one_without_a_stop(files, stack, when, tmp_path):
    settings = {"train__average": 0.9 if stack == "dropout" else 0.0}
    whole = run_configuration(files, stack, tmp_path / "whole", **settings)
    stopped = run_configuration(files, stack, tmp_path / "stopped", **settings)
    run_training(whole)
    assert run_training(stopped, callbacks=[StopAfter(**when)]).signal is not None
    assert checkpoint(stopped).step < checkpoint(whole).step
    run_training(stopped, resume=True)
    assert_same_state(checkpoint(stopped), checkpoint(whole))
    for name, array in checkpoint(whole).state.items():
        np.testing.assert_array_equal(checkpoint(stopped).state[name], array)
    assert timeless(log(stopped)) == timeless(log(whole))


@pytest.mark.parametrize("stack", ["dropout", "1998"])
def test_two_workers_train_as_one(files, stack, tmp_path):
    """They drop the same units, so that float64 leaves a difference of rounding only."""
    runs = [
        run_configuration(
            files, stack, tmp_path / str(workers), train__workers=workers,
            train__precision="float64",
        )
        for workers in (1, 2)
    ]  # fmt: skip
    for config in runs:
        run_training(config)
    one, two = map(checkpoint, runs)
    for name, weights in one.parameters.items():
        np.testing.assert_allclose(two.parameters[name], weights, rtol=1e-9, atol=1e-12)
    assert two.metrics == pytest.approx(one.metrics, rel=1e-9)


def test_two_workers_normalise_their_own_parts(files, tmp_path):
    """The state that is stored is that of rank 0, and all evaluate with it."""
    config = run_configuration(files, "normalised", tmp_path, train__workers=2)
    run_training(config)
    last = checkpoint(config)
    assert last.metrics["val_accuracy"] == log(config)[-1]["val_accuracy"]
    assert all(np.isfinite(array).all() for array in last.state.values())


@pytest.mark.parametrize("name", MODELS)
def test_a_packaged_network_is_the_one_of_its_written_list(name):
    """Its weights for a seed, and its outputs, are those of the list in a configuration."""
    packaged = Config().with_values({"model.name": name})
    listed = packaged.with_layers()
    networks = []
    for config in (packaged, listed):
        network = build_network(config)
        initialize(network, config)
        networks.append(network)
    np.testing.assert_array_equal(networks[0].parameters, networks[1].parameters)
    x = np.random.default_rng(0).normal(size=(2, *networks[0].input_shape))
    np.testing.assert_array_equal(networks[0].predict(x), networks[1].predict(x))
    made = packaged_model(name)
    found = specification_of(networks[0], made.scale, made.shift, made.initializer)
    # The paper's output names its bitmaps, which are the default: "centres: digits".
    defaults = [{**entry} for entry in made.layers]
    if name == "lenet5-1998":
        assert defaults[-1].pop("centres") == "digits"
    assert found == replace(made, layers=tuple(defaults))
