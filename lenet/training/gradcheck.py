"""Checking the mathematics: gradients against central differences, and the documents' identities.

Everything runs in float64 on random images, with the network of a configuration. For an output y,
a fixed random r and E = ⟨r, y⟩, the backward pass is given r and must return

    ∂E/∂θ  ≈  ⟨r, y(θ + h) − y(θ − h)⟩ / 2h

for every entry θ of its inputs and parameters, of which some are drawn. A kink between θ − h and
θ + h, a ReLU at zero or a maximum that changes, makes the right side meaningless. As Caffe's
gradient checker does, such entries are left out; here a kink shows in that the differences of h
and of h/2 disagree.

The identities:

* adjoint: ⟨im2col(x), c⟩ = ⟨x, col2im(c)⟩;
* rotated kernel: ∂E/∂x = col2im(Wᵀ·dZ) is the full convolution of dZ with W, which slides the
  kernel turned by 180° over dZ (docs/derivation.md, 8), with scipy.signal as the witness;
* fused = plain: the fused layer has the outputs and gradients of the three that it stands for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from lenet.config.schema import Config
from lenet.nn.convolution import Convolution
from lenet.nn.fused import FusedConvolution
from lenet.nn.im2col import Array, col2im, im2col
from lenet.nn.layer import Layer, Shape
from lenet.nn.losses import SoftmaxCrossEntropy
from lenet.nn.network import Network
from lenet.system.errors import ConfigError
from lenet.training.build import build_network

TOLERANCE: Final = 1e-6
ROUNDING: Final = 1e-10
STEP: Final = 1e-5
ENTRIES: Final = 25  # drawn from every array
N: Final = 3
WITNESSED: Final = 8  # channels of an input for which SciPy is asked


@dataclass(frozen=True)
class Gradient:
    """How well a backward pass agrees with central differences.

    Attributes
    ----------
    layer, kind
        The layer's name and its class.
    array
        Where the error is largest: ``input`` or the name of a parameter.
    error
        The largest |analytic − numeric|, relative to the larger of the two, but to no less than
        the root mean square of the array's gradient.
    checked, kinks
        How many entries were compared, and how many were left out.
    """

    layer: str
    kind: str
    array: str
    error: float
    checked: int
    kinks: int

    @property
    def passed(self) -> bool:
        """The error is within the tolerance, and kinks are the exception."""
        return self.error <= TOLERANCE and self.kinks <= self.checked


@dataclass(frozen=True)
class Identity:
    """How well the two sides of an identity agree: the largest difference, relative to the size."""

    name: str
    layer: str
    error: float

    @property
    def passed(self) -> bool:
        """The two sides differ by no more than rounding."""
        return self.error <= ROUNDING


def check_gradients(config: Config, layer: str | None = None) -> list[Gradient]:
    """Check every layer by itself, then the loss and the network as it trains.

    Parameters
    ----------
    config
        Of the network; its precision is not used.
    layer
        Check only the layers of this name.

    Raises
    ------
    ConfigError
        The network has no layer of this name.

    Examples
    --------
    >>> [check.passed for check in check_gradients(Config(), layer="F7")]
    [True]
    """
    plain, trained = _networks(config)
    fused = [step for step in trained.layers if isinstance(step, FusedConvolution)]
    shapes = _input_shapes(plain)
    if layer not in (None, *shapes):
        raise ConfigError(
            f"the network has no layer {layer}",
            remedy="choose one of " + ", ".join(shapes),
            key="--layer",
        )
    rng = np.random.default_rng([config.seed, 1])
    found = [
        _check_layer(step, shapes[step.name], rng)
        for step in (*plain.layers, *fused)
        if layer in (None, step.name)
    ]
    if layer is None:
        found += [_check_loss(config, rng), _check_network(trained, rng)]
    return found


def check_identities(config: Config, layer: str | None = None) -> list[Identity]:
    """Check the identities for every convolution, or only for that of the name ``layer``."""
    plain, trained = _networks(config)
    rng = np.random.default_rng([config.seed, 2])
    convolutions = [step for step in plain.layers if isinstance(step, Convolution)]
    found = [
        *(Identity("adjoint", conv.name, _adjoint(conv, rng)) for conv in convolutions),
        *(Identity("rotated kernel", conv.name, _rotated(conv, rng)) for conv in convolutions),
        *_fused_and_plain(plain, trained, rng),
    ]
    return [identity for identity in found if layer in (None, identity.layer)]


def to_dict(check: Gradient | Identity) -> dict[str, Any]:
    """Return the figures of a check and its verdict as JSON knows them."""
    return {**asdict(check), "passed": check.passed}


def _networks(config: Config) -> tuple[Network, Network]:
    """Return the network of plain layers and the one that trains, with the same parameters."""
    values = {"train.precision": "float64"}
    trained = build_network(config.with_values(values))
    plain = build_network(config.with_values({**values, "model.fuse": "off"}))
    rng = np.random.default_rng([config.seed, 0])
    plain.initialize(rng, config.model.initializer)
    for p in plain.parameter_list:
        if not p.decays:
            p.value[...] = 0.1 * rng.standard_normal(p.shape)  # a bias of zero would hide much
    np.copyto(trained.parameters, plain.parameters)
    for layer in (*plain.layers, *trained.layers):
        layer.needs_dx = True
    return plain, trained


def _input_shapes(network: Network) -> dict[str, Shape]:
    """Return the shape of every layer's input, the N images included."""
    network.allocate(N)
    x, shapes = np.zeros((*network.input_shape, N)), {}
    for layer in network.layers:
        shapes[layer.name] = x.shape
        x = layer.forward(x)
    return shapes


# --- Gradients ------------------------------------------------------------------------------------


def _check_layer(layer: Layer, shape: Shape, rng: np.random.Generator) -> Gradient:
    x = rng.standard_normal(shape)
    layer.allocate(N, np.float64)
    r = rng.standard_normal(layer.forward(x).shape)
    dx = layer.backward(r)
    assert dx is not None  # noqa: S101 - every layer was told that its gradient is needed
    arrays = {"input": (x, dx.copy())}
    arrays |= {p.name: (p.value, p.gradient.copy()) for p in layer.parameters}
    return _compare(layer.name, layer, lambda: layer.forward(x), r, arrays, rng)


def _check_loss(config: Config, rng: np.random.Generator) -> Gradient:
    classes = config.model.classes
    loss = SoftmaxCrossEntropy(classes, config.train.label_smoothing)
    z, labels = rng.standard_normal((classes, N)), rng.integers(classes, size=N)
    loss.forward(z, labels)
    arrays = {"input": (z, loss.backward().copy())}
    return _compare(
        "loss", loss, lambda: np.array(loss.forward(z, labels)), np.ones(()), arrays, rng
    )


def _check_network(network: Network, rng: np.random.Generator) -> Gradient:
    x = rng.standard_normal((*network.input_shape, N))
    r = rng.standard_normal(network.forward(x).shape)
    network.backward(r)
    arrays = {p.name: (p.value, p.gradient.copy()) for p in network.parameter_list}
    return _compare("network", network, lambda: network.forward(x), r, arrays, rng)


def _compare(
    name: str,
    thing: object,
    forward: Callable[[], Array],
    r: Array,
    arrays: Mapping[str, tuple[Array, Array]],
    rng: np.random.Generator,
) -> Gradient:
    """Hold the gradients of E = ⟨r, forward()⟩ with respect to arrays to central differences."""
    errors, checked, kinks = {}, 0, 0
    for array, (value, gradient) in arrays.items():
        entries = rng.permutation(value.size)[:ENTRIES]
        analytic = gradient.reshape(-1)[entries]
        long, short = (_slopes(forward, r, value, entries, h) for h in (STEP, STEP / 2))
        least = np.sqrt(np.mean(gradient * gradient))
        size = np.maximum(np.maximum(np.abs(analytic), np.abs(short)), least)
        size[size == 0] = 1  # both sides are zero
        smooth = ~(np.abs(long - short) > TOLERANCE / 5 * size)
        errors[array] = np.max(np.abs(short - analytic) / size, where=smooth, initial=0)
        checked += int(smooth.sum())
        kinks += int((~smooth).sum())
    # A NaN is the largest error there can be.
    worst = max(errors, key=lambda array: np.nan_to_num(errors[array], nan=np.inf))
    return Gradient(name, type(thing).__name__, worst, float(errors[worst]), checked, kinks)


def _slopes(
    forward: Callable[[], Array], r: Array, value: Array, entries: Array, h: float
) -> Array:
    """Return ⟨r, forward(θ + h) − forward(θ − h)⟩ / 2h for the entries θ of value."""
    flat, slopes = value.reshape(-1), np.empty(len(entries))
    for k, entry in enumerate(entries):
        theta = flat[entry]
        flat[entry] = theta + h
        above = forward().copy()
        flat[entry] = theta - h
        slopes[k] = np.vdot(r, above - forward()) / (2 * h)
        flat[entry] = theta
    return slopes


# --- Identities -----------------------------------------------------------------------------------


def _adjoint(conv: Convolution, rng: np.random.Generator) -> float:
    """Compare ⟨im2col(x), c⟩ and ⟨x, col2im(c)⟩."""
    window = (conv.kernel, conv.stride, conv.padding)
    x = rng.standard_normal((N, *conv.shape))
    cols = im2col(x, *window)
    c = rng.standard_normal(cols.shape)
    forth, back = np.vdot(cols, c), np.vdot(x, col2im(c, x.shape, *window))
    return float(abs(forth - back) / max(abs(forth), abs(back)))


def _rotated(conv: Convolution, rng: np.random.Generator) -> float:
    """Compare col2im(Wᵀ·dZ) and Σ_f dZ_f ∗ W_f, the full convolution."""
    from scipy.signal import convolve

    conv.allocate(1, np.float64)
    z = conv.forward(rng.standard_normal((*conv.shape, 1)))
    dz = rng.standard_normal(z.shape)
    dx = conv.backward(dz)
    assert dx is not None  # noqa: S101 - every layer was told that its gradient is needed
    witness = np.array(
        [
            sum(convolve(dz[f, :, :, 0], kernels[c]) for f, kernels in enumerate(conv.weight.value))
            for c in range(min(conv.shape[0], WITNESSED))
        ]
    )
    return _difference(dx[:WITNESSED, :, :, 0], witness)


def _fused_and_plain(
    plain: Network, trained: Network, rng: np.random.Generator
) -> Iterator[Identity]:
    """Compare every fused layer's outputs and its parameters' gradients with the plain layers'."""
    x = rng.standard_normal((*plain.input_shape, N))
    r = rng.standard_normal((*plain.output_shape, N))
    outputs, witnesses = _outputs(trained, x), _outputs(plain, x)
    for network in (plain, trained):
        network.backward(r)
    gradients = {p.name: p.gradient for p in plain.parameter_list}
    for layer in trained.layers:
        if isinstance(layer, FusedConvolution):
            pairs = [(p.gradient, gradients[p.name]) for p in layer.parameters]
            pairs.append((outputs[layer.name], witnesses[layer.pooling.name]))
            error = max(_difference(a, b) for a, b in pairs)
            yield Identity("fused = plain", layer.name, error)


def _outputs(network: Network, x: Array) -> dict[str, Array]:
    network.allocate(N)
    return {layer.name: (x := layer.forward(x)) for layer in network.layers}


def _difference(a: Array, b: Array) -> float:
    return float(np.max(np.abs(a - b)) / np.max(np.abs(b)))
