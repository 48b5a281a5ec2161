"""A checkpoint of random weights, for what does not depend on training."""

from __future__ import annotations

import numpy as np

from lenet.checkpoint.checkpoint import Checkpoint
from lenet.checkpoint.restore import build_network
from lenet.config.schema import Config
from lenet.evaluation.images import build_preprocessing


def untrained(seed: int = 0, class_names: tuple[str, ...] = (), **settings: object) -> Checkpoint:
    """A checkpoint of a small network; ``settings`` with __ for the dots."""
    values = {name.replace("__", "."): value for name, value in settings.items()}
    if values.get("model.name", "lenet5") == "lenet5" and "model.layers" not in values:
        values = {"model.channels": [3, 4], "model.units": [6, 5], **values}
    config = Config().with_values(values)
    network = build_network(config)
    network.initialize(np.random.default_rng([seed, 0]), "he")
    rng = np.random.default_rng([seed, 1])
    for p in network.parameter_list:
        if not p.decays:
            p.value[...] = 0.2 * rng.standard_normal(p.shape)
    return Checkpoint(
        config=config,
        model=config.model.specification(),
        parameters={p.name: p.value for p in network.parameter_list},
        state={name: array.copy() for name, array in network.state_arrays().items()},
        preprocessing=build_preprocessing(config),
        class_names=class_names or tuple(map(str, range(config.model.specification().classes()))),
        dataset=config.data.name,
        step=41,
        epoch=3,
        metrics={},
        training=None,
        facts={},
    )


def untrained_colour(channels: int = 3, **settings: object) -> Checkpoint:
    """A checkpoint of a network with 3 classes for images of 12×16 pixels."""
    layers = [
        {"type": "convolution", "filters": 4, "kernel": 3, "activation": "tanh"},
        {"type": "max_pooling"},
        {"type": "linear", "units": 3},
    ]
    model = {"model__layers": layers, "model__input": [channels, 12, 16], "model__classes": 3}
    return untrained(class_names=("red", "green", "blue"), **model, **settings)
