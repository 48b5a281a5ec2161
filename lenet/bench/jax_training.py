"""The training of a configuration in JAX: a jitted step, for networks like LeNet-5.

The network is that of :mod:`lenet.targets.torch.twin`, by the names of PyTorch's classes:
convolution, pooling without padding, affine layers and their activations, with SGD. As in PyTorch,
the images are scaled, padded and stored as floats in advance, and neither loss nor accuracy is
recorded.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lenet.bench.measured_processes import peak_memory
from lenet.config.schema import Config
from lenet.errors import ConfigError
from lenet.system.extras import require
from lenet.targets.torch.twin import TorchObject, Twin, load_twin

Answer = Callable[[dict[str, Any]], None]

FUNCTIONS = {"ReLU": "relu", "Tanh": "tanh", "Sigmoid": "sigmoid"}
"""Modules of PyTorch, and the functions of ``jax.nn`` that they are."""

PLAIN_POOLING = {"padding": (0, 0), "dilation": (1, 1), "ceil_mode": False}
PLAIN_CONVOLUTION = {"groups": 1, "dilation": (1, 1)}


def check_jax(twin: Twin) -> None:
    """Refuse a network or an optimizer that this page does not translate."""
    for module in twin.modules:
        plain = {
            "Conv2d": PLAIN_CONVOLUTION,
            "MaxPool2d": PLAIN_POOLING,
            "AvgPool2d": PLAIN_POOLING,
        }
        if module.name not in {*plain, *FUNCTIONS, "Flatten", "Linear"}:
            raise _not_translated("model", module.name)
        for option, value in plain.get(module.name, {}).items():
            if module.options.get(option, value) != value:
                raise _not_translated("model", f"{module.name} with {option}")
    if twin.optimizer.name != "SGD":
        raise _not_translated("optimizer.name", twin.optimizer.name)
    if twin.loss.options["label_smoothing"]:
        raise _not_translated("train.label_smoothing", "label smoothing")


def _not_translated(key: str, what: str) -> ConfigError:
    return ConfigError(
        f"{what} is not translated to JAX",
        remedy="use a network like LeNet-5 and SGD, or leave out --against",
        key=key,
    )


def train_jax(answer: Answer, config: dict[str, Any], layout: str, workers: int) -> None:
    """Train the network's twin on the same number of batches, and answer after every epoch.

    The process may use as many cores as ``OMP_NUM_THREADS`` names threads: JAX itself has no limit.
    """
    threads = int(os.environ["OMP_NUM_THREADS"])
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    jax = require("jax", extra="jax")
    settings = Config.from_dict(config)
    twin, images, labels = load_twin(settings)
    jax.config.update("jax_enable_x64", twin.dtype == "float64")
    if layout == "channels_last":
        images = images.transpose(0, 2, 3, 1)
    x, y = jax.numpy.asarray(images), jax.numpy.asarray(labels.astype(np.int32))
    parameters = initial_parameters(twin, settings.seed)
    velocity = jax.tree.map(np.zeros_like, parameters)
    step = jitted_step(jax, twin, layout)
    rng = np.random.default_rng(settings.seed)
    for _ in range(settings.train.epochs):
        start = time.perf_counter()
        order = rng.permutation(len(images))
        for first in range(0, len(images), settings.train.batch_size):
            part = order[first : first + settings.train.batch_size]
            parameters, velocity = step(parameters, velocity, x, y, part)
        jax.block_until_ready(parameters)
        answer({"images_per_second": len(images) / (time.perf_counter() - start)})
    answer({"peak_bytes": peak_memory(workers)})


def initial_parameters(twin: Twin, seed: int) -> list[tuple[Any, ...]]:
    """Return (weight, bias) of every module in PyTorch's shapes, and () where there are none."""
    rng = np.random.default_rng(seed)
    parameters: list[tuple[Any, ...]] = []
    for name, options in ((module.name, module.options) for module in twin.modules):
        if name == "Conv2d":
            shape = (options["out_channels"], options["in_channels"], *options["kernel_size"])
        elif name == "Linear":
            shape = (options["out_features"], options["in_features"])
        else:
            parameters.append(())
            continue
        weight = rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
        parameters.append((weight.astype(twin.dtype), np.zeros(shape[0], twin.dtype)))
    return parameters


def jitted_step(jax: Any, twin: Twin, layout: str) -> Callable[..., Any]:  # noqa: ANN401 - a module
    """Return the compiled step: parameters and velocity, images, labels and indices of a batch."""
    options = twin.optimizer.options
    lr, momentum, decay = options["lr"], options["momentum"], options["weight_decay"]
    nesterov = options.get("nesterov", False)

    def loss(parameters: Any, x: Any, y: Any) -> Any:  # noqa: ANN401 - of JAX
        z = scores(jax, twin.modules, parameters, x, layout)
        chosen = jax.numpy.take_along_axis(z, y[:, None], axis=1)[:, 0]
        return (jax.nn.logsumexp(z, axis=1) - chosen).mean()

    def step(w: Any, v: Any, x: Any, y: Any, part: Any) -> Any:  # noqa: ANN401 - of JAX
        g = jax.grad(loss)(w, x[part], y[part])
        g = jax.tree.map(lambda g, w: g + decay * w, g, w)
        v = jax.tree.map(lambda v, g: momentum * v + g, v, g)
        s = jax.tree.map(lambda v, g: g + momentum * v, v, g) if nesterov else v
        return jax.tree.map(lambda w, s: w - lr * s, w, s), v

    return jax.jit(step, donate_argnums=(0, 1))  # type: ignore[no-any-return]


def scores(
    jax: Any,  # noqa: ANN401 - a module
    modules: Sequence[TorchObject],
    parameters: Sequence[tuple[Any, ...]],
    x: Any,  # noqa: ANN401 - of JAX
    layout: str,
) -> Any:  # noqa: ANN401 - of JAX
    """Return the scores (N, classes) of images in the order of the layout."""
    order, spatial = ("NCHW", (2, 3)) if layout == "channels_first" else ("NHWC", (1, 2))

    def windows(pair: tuple[int, int]) -> list[int]:
        """Return a pair as one number per axis, 1 for those of images and channels."""
        sizes = [1, 1, 1, 1]
        for axis, size in zip(spatial, pair, strict=True):
            sizes[axis] = size
        return sizes

    for module, own in zip(modules, parameters, strict=True):
        options = module.options
        if module.name == "Conv2d":
            padding = [(p, p) for p in options["padding"]]
            names = (order, "OIHW", order)
            x = jax.lax.conv_general_dilated(
                x, own[0], options["stride"], padding, dimension_numbers=names
            )
            x += own[1].reshape(-1, 1, 1) if layout == "channels_first" else own[1]
        elif module.name == "MaxPool2d":
            sizes = windows(options["kernel_size"]), windows(options["stride"])
            x = jax.lax.reduce_window(x, -np.inf, jax.lax.max, *sizes, "VALID")
        elif module.name == "AvgPool2d":
            sizes = windows(options["kernel_size"]), windows(options["stride"])
            x = jax.lax.reduce_window(x, 0.0, jax.lax.add, *sizes, "VALID")
            x = x / np.prod(options["kernel_size"])
        elif module.name == "Flatten":
            x = x.reshape(len(x), -1)
        elif module.name == "Linear":
            x = x @ own[0].T + own[1]
        else:
            x = getattr(jax.nn, FUNCTIONS[module.name])(x)
    return x
