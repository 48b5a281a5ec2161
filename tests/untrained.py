"""A checkpoint of random weights: what a network looks like does not hang on what it has learnt."""

from __future__ import annotations

import numpy as np

from lenet.config.schema import Config
from lenet.training.build import build_network
from lenet.training.checkpoint import Checkpoint


def untrained(seed: int = 0, class_names: tuple[str, ...] = (), **settings: object) -> Checkpoint:
    """A checkpoint of a small network; ``settings`` with __ for the dots."""
    values: dict[str, object] = {"model.channels": [3, 4], "model.units": [6, 5]}
    values |= {name.replace("__", "."): value for name, value in settings.items()}
    config = Config().with_values(values)
    network = build_network(config)
    network.initialize(np.random.default_rng([seed, 0]), "he")
    rng = np.random.default_rng([seed, 1])
    for p in network.parameter_list:
        if not p.decays:
            p.value[...] = 0.2 * rng.standard_normal(p.shape)
    size = config.model.input_size
    return Checkpoint(
        config=config,
        parameters={p.name: p.value for p in network.parameter_list},
        preprocessing={"scale": 1.275 / 255, "shift": -0.1, "input_size": size},
        class_names=class_names or tuple(map(str, range(config.model.classes))),
        dataset=config.data.name,
        step=41,
        epoch=3,
        metrics={},
        training=None,
        facts={},
    )
