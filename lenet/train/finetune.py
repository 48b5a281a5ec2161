"""Training from the weights of a checkpoint: what fits is taken over, what does not is new.

A layer is taken over if the new network has the same arrays in a layer of its name: all but the
last layer for other classes, all but the first for other channels. The last layer is new as well
if the classes have other names.
"""

from __future__ import annotations

from collections.abc import Callable

from lenet.arrays import Shape
from lenet.checkpoint.checkpoint import Checkpoint
from lenet.checkpoint.restore import build_network
from lenet.config.schema import Config
from lenet.data.dataset import Split
from lenet.data.measure import ImageFacts
from lenet.data.preprocessing import image_shape
from lenet.errors import ConfigError
from lenet.nn.network import Network
from lenet.system.text import listed
from lenet.train.build import initialize


def with_outputs(config: Config, shape: Shape, classes: int) -> Config:
    """Return a configuration whose ``model.layers`` take images (C,H,W) of so many classes."""
    model = config.model
    assert model.layers is not None  # noqa: S101 - of the callers
    *layers, last = model.layers
    (C, H, W), (_, h, w) = shape, model.specification().input_shape
    values: dict[str, object] = {"model.input": (C, max(H, h), max(W, w))}
    if last["type"] == "linear" and last["units"] != classes:
        values |= {"model.layers": (*layers, {**last, "units": classes})}
        values["model.classes"] = classes
    return config.with_values(values)


def with_start(
    config: Config,
    start: Checkpoint,
    found: Split,
    facts: ImageFacts,
    say: Callable[[str], None],
) -> tuple[Config, Network]:
    """Return the configuration to train the network of a checkpoint on images, and the network.

    ``train.layer_rates`` then has ``train.start_rate`` for every layer that is taken over. Ink is
    dark on light in the input if it was in training, whatever it is in the images.

    Raises
    ------
    ConfigError
        No layer fits.
    """
    C, H, W = image_shape(found.images)
    made = start.model
    scale, shift = start.preprocessing.scale, start.preprocessing.shift
    paper = None if start.images is None else start.images.paper
    if paper is not None and facts.paper is not None and (paper > 127) != facts.dark_on_light:
        scale, shift = -scale, shift + 255 * scale
    config = config.with_values(
        {
            "model.name": "lenet5",  # has no effect
            "model.layers": made.layers,
            "model.input": made.input_shape,
            "model.classes": None,
            "model.scale": scale,
            "model.shift": shift,
            "model.initializer": made.initializer,
        }
    )
    config = with_outputs(config, (C, H, W), len(found.class_names))
    network = build_network(config)
    initialize(network, config)
    stored, own = {**start.parameters, **start.state}, network.state_dict()
    with_arrays = [p.name.rpartition(".")[0] for p in network.parameter_list]
    last = with_arrays[-1]
    taken = [
        layer.name
        for layer in network.layers
        if (arrays := [name for name in own if name.rpartition(".")[0] == layer.name])
        and all(name in stored and stored[name].shape == own[name].shape for name in arrays)
        and (layer.name != last or found.class_names == start.class_names)
    ]
    if not taken:
        raise ConfigError(
            "none of its layers fits the new network",
            remedy="start from a network for images of this kind",
            key="train.start",
        )
    new = [name for name in dict.fromkeys(with_arrays) if name not in taken]
    own |= {name: stored[name] for name in own if name.rpartition(".")[0] in taken}
    network.load_state_dict(own)
    rate = config.train.start_rate
    rates = dict.fromkeys(taken, rate) | dict(config.train.layer_rates or {})
    say(
        f"from {config.train.start}: {listed(taken, 'and')} are taken over, with {rate:g} of the "
        f"learning rate; new: {listed(new, 'and') if new else 'nothing'}"
    )
    return config.with_values({"train.layer_rates": rates}), network
