"""Gradient checks against central differences, and the identities of the derivation.

Everything runs in float64 on random images, in training mode. For an output y, a fixed random r
and E = ⟨r, y⟩, the backward pass is given r and must return

    ∂E/∂θ  ≈  ⟨r, y(θ + h) − y(θ − h)⟩ / 2h

for entries θ of its inputs and parameters, of which some are drawn at random. A kink between θ − h
and θ + h, a ReLU at zero or a maximum that changes, makes the right side meaningless. As in Caffe's
gradient checker such entries are left out; here they are those for which the differences of h and
of h/2 disagree.

The identities:

* adjoint: ⟨im2col(x), c⟩ = ⟨x, col2im(c)⟩;
* rotated kernel: ∂E/∂x = col2im(Wᵀ·dZ) is the full convolution of dZ with W, which slides the
  kernel turned by 180° over dZ (docs/derivation.md, 8), here computed by scipy.signal; for
  convolutions of stride 1 without groups and dilation;
* fused = plain: a fused layer has the outputs and gradients of the layers that it replaces.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from lenet.arrays import Array, Shape
from lenet.errors import ConfigError
from lenet.nn.convolution import Convolution
from lenet.nn.im2col import col2im, im2col
from lenet.nn.layer import Layer
from lenet.nn.losses import Loss
from lenet.nn.network import Network
from lenet.system.text import table

TOLERANCE: Final = 1e-6
ROUNDING: Final = 1e-10
NOTHING: Final = 1e-12  # of the largest gradient: what is smaller is zero but for rounding
STEP: Final = 1e-5
ENTRIES: Final = 25  # drawn from every array
N: Final = 3
SCIPY_CHANNELS: Final = 8  # of the input, for which the full convolution is computed


@dataclass(frozen=True)
class GradientCheck:
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
        """Whether the error is within the tolerance, and no more entries are kinks than not."""
        return self.error <= TOLERANCE and self.kinks <= self.checked

    def __str__(self) -> str:
        return (
            f"{self.layer} ({self.kind}): {'passed' if self.passed else 'FAILED'}, {self.checked} "
            f"entries checked, {self.kinks} left out; the largest error is {self.error:.1e}, in "
            f"{self.array}"
        )


@dataclass(frozen=True)
class IdentityCheck:
    """How well the two sides of an identity agree: the largest difference, relative to the size."""

    name: str
    layer: str
    error: float

    @property
    def passed(self) -> bool:
        """Whether the two sides differ by no more than rounding."""
        return self.error <= ROUNDING


def check_gradients(
    network: Network, loss: Loss | None = None, *, seed: int = 0, layer: str | None = None
) -> list[GradientCheck]:
    """Check every layer by itself, fused ones too, then the loss and the network as it trains.

    Parameters
    ----------
    network
        Any network; a copy of it is checked, in float64. Parameters that are all zero, as biases
        are before training, are replaced by random numbers: zeros would hide much.
    loss
        A loss to be checked too, on random labels.
    seed
        Seed of the random images.
    layer
        Check only the layers of this name.

    Raises
    ------
    ConfigError
        The network has no layer of this name.

    Examples
    --------
    >>> from lenet.models.lenet5 import lenet5
    >>> network = lenet5()
    >>> network.initialize(np.random.default_rng(0))
    >>> print(*check_gradients(network, layer="F7"))  # doctest: +ELLIPSIS
    F7 (Linear): passed, 60 entries checked, 0 left out; the largest error is ..., in input
    """
    plain, trained = _networks(network, seed)
    fused = [step for step in trained.executed if len(step.parts) > 1]
    shapes = _input_shapes(plain)
    if layer not in (None, *shapes):
        raise ConfigError(
            f"the network has no layer {layer}",
            remedy="choose one of " + ", ".join(shapes),
            key="--layer",
        )
    rng = np.random.default_rng([seed, 1])
    found = [
        _check_layer(step, shapes[step.name], rng)
        for step in (*plain.layers, *fused)
        if layer in (None, step.name)
    ]
    if layer is None:
        if loss is not None:
            found.append(_check_loss(loss, rng))
        found.append(_check_network(trained, rng))
    return found


def check_layer(layer: Layer, input_shape: Shape, *, seed: int = 0) -> GradientCheck:
    """Check the backward pass of any layer, such as your own.

    Parameters
    ----------
    layer
        A copy of it is built, given random parameters, and checked in float64.
    input_shape
        The shape of one input, (C,H,W) or (D,).
    seed
        Seed of the random parameters and inputs.

    Returns
    -------
    The largest error, and whether it ``passed``.

    Raises
    ------
    ConfigError
        The input does not fit the layer.

    Examples
    --------
    >>> from lenet.nn.linear import Linear
    >>> print(check_layer(Linear("F", 3), (4,)))  # doctest: +ELLIPSIS
    F (Linear): passed, 27 entries checked, 0 left out; the largest error is ..., in input
    """
    layer = deepcopy(layer)
    layer.build(input_shape)
    layer.needs_dx = True
    rng = np.random.default_rng([seed, 0])
    for p in layer.parameters:
        p.value, p.gradient = rng.standard_normal((2, *p.shape))
    return _check_layer(layer, (*input_shape, N), np.random.default_rng([seed, 1]))


def check_identities(
    network: Network, *, seed: int = 0, layer: str | None = None
) -> list[IdentityCheck]:
    """Check the identities for every convolution, or only for that of the name ``layer``.

    The parameters are those of :func:`check_gradients`.
    """
    plain, trained = _networks(network, seed)
    rng = np.random.default_rng([seed, 2])
    convolutions = [step for step in plain.layers if isinstance(step, Convolution)]
    found = [
        *(IdentityCheck("adjoint", conv.name, _adjoint(conv, rng)) for conv in convolutions),
        *(
            IdentityCheck("rotated kernel", conv.name, _rotated(conv, rng))
            for conv in convolutions
            if conv.stride == conv.dilation == (1, 1) and conv.groups == 1 and not conv.flip
        ),
        *_fused_and_plain(plain, trained, rng),
    ]
    return [identity for identity in found if layer in (None, identity.layer)]


def to_dict(check: GradientCheck | IdentityCheck) -> dict[str, Any]:
    """Return the numbers of a check, and whether it passed, as a JSON object."""
    return {**asdict(check), "passed": check.passed}


def to_table(gradients: Iterable[GradientCheck], identities: Iterable[IdentityCheck]) -> str:
    """Return two tables: the gradients, and the identities if there are any."""
    rows = [
        (
            *(check.layer, check.kind, check.checked, check.kinks, f"{check.error:.1e}"),
            check.array + _failed(check),
        )
        for check in gradients
    ]
    text = f"gradients against central differences, float64, tolerance {TOLERANCE:.0e}\n" + table(
        [("layer", "kind", "checked", "left out", "largest error", "in"), *rows],
        "<<>>><",
        min_widths=(14, 19, 7, 5, 13, 0),
    )
    pairs = [
        (check.name, check.layer, f"{check.error:.1e}{_failed(check)}") for check in identities
    ]
    if not pairs:
        return text
    return f"{text}\n\nidentities, float64, tolerance {ROUNDING:.0e}\n" + table(
        [("identity", "layer", "largest error"), *pairs], min_widths=(14, 36, 0)
    )


def _failed(check: GradientCheck | IdentityCheck) -> str:
    return "" if check.passed else "  FAILED"


def _networks(network: Network, seed: int) -> tuple[Network, Network]:
    """Return copies of plain layers and of those that train, with the same parameters."""
    plain = network.rebuilt(dtype=np.float64, fused=False)
    trained = network.rebuilt(dtype=np.float64)
    rng = np.random.default_rng([seed, 0])
    for p in plain.parameter_list:
        if not p.value.any():
            p.value[...] = 0.1 * rng.standard_normal(p.shape)
    np.copyto(trained.parameters, plain.parameters)
    for copy in (plain, trained):
        copy.training = True
        for layer in copy.executed:
            layer.needs_dx = True
    return plain, trained


def _input_shapes(network: Network) -> dict[str, Shape]:
    """Return the shape of every layer's input, the N images included."""
    network.allocate(N)
    x, shapes = np.zeros((*network.input_shape, N)), {}
    for layer in network.executed:
        shapes[layer.name] = x.shape
        x = layer.forward(x)
    return shapes


# --- Gradients ------------------------------------------------------------------------------------


def _check_layer(layer: Layer, shape: Shape, rng: np.random.Generator) -> GradientCheck:
    x = rng.standard_normal(shape)
    layer.allocate(N, np.float64)
    r = rng.standard_normal(layer.forward(x).shape)
    dx = layer.backward(r)
    assert dx is not None  # noqa: S101 - needs_dx is set
    arrays = {"input": (x, dx.copy())}
    arrays |= {p.name: (p.value, p.gradient.copy()) for p in layer.parameters}
    return _compare(layer.name, layer, lambda: layer.forward(x), r, arrays, rng)


def _check_loss(loss: Loss, rng: np.random.Generator) -> GradientCheck:
    z, labels = rng.standard_normal((loss.classes, N)), rng.integers(loss.classes, size=N)
    loss.forward(z, labels)
    arrays = {"input": (z, loss.backward().copy())}
    return _compare(
        "loss", loss, lambda: np.array(loss.forward(z, labels)), np.ones(()), arrays, rng
    )


def _check_network(network: Network, rng: np.random.Generator) -> GradientCheck:
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
) -> GradientCheck:
    """Compare the gradients of E = ⟨r, forward()⟩ with central differences."""
    errors, checked, kinks = {}, 0, 0
    sizes = {array: np.sqrt(np.mean(g * g)) for array, (_, g) in arrays.items()}
    # The difference quotient of a constant is rounding: a gradient of zero is compared with that.
    noise = np.finfo(np.float64).eps * np.linalg.norm(r) * np.linalg.norm(forward()) / STEP
    zero = 10 * noise / TOLERANCE
    for array, (value, gradient) in arrays.items():
        entries = rng.permutation(value.size)[:ENTRIES]
        analytic = gradient.reshape(-1)[entries]
        long, short = (_slopes(forward, r, value, entries, h) for h in (STEP, STEP / 2))
        # A bias before a batch normalisation has no effect: its gradient is zero but for rounding.
        least = sizes[array] if sizes[array] > NOTHING * max(sizes.values()) else zero
        size = np.maximum(np.maximum(np.abs(analytic), np.abs(short)), least)
        size[size == 0] = 1  # both sides are zero
        smooth = ~(np.abs(long - short) > TOLERANCE / 5 * size)
        errors[array] = np.max(np.abs(short - analytic) / size, where=smooth, initial=0)
        checked += int(smooth.sum())
        kinks += int((~smooth).sum())
    # A NaN is the largest error there can be.
    worst = max(errors, key=lambda array: np.nan_to_num(errors[array], nan=np.inf))
    return GradientCheck(name, type(thing).__name__, worst, float(errors[worst]), checked, kinks)


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
    cols = im2col(x, *window, dilation=conv.dilation)
    c = rng.standard_normal(cols.shape)
    back = np.vdot(x, col2im(c, x.shape, *window, dilation=conv.dilation))
    forth = np.vdot(cols, c)
    size = max(abs(forth), abs(back))  # zero where every patch is in the padding
    return float(abs(forth - back) / size) if size else 0.0


def _rotated(conv: Convolution, rng: np.random.Generator) -> float:
    """Compare col2im(Wᵀ·dZ) and Σ_f dZ_f ∗ W_f, the full convolution."""
    from scipy.signal import convolve

    conv.allocate(1, np.float64)
    z = conv.forward(rng.standard_normal((*conv.shape, 1)))
    dz = rng.standard_normal(z.shape)
    dx = conv.backward(dz)
    assert dx is not None  # noqa: S101 - needs_dx is set
    (C, H, W), (top, left, *_) = conv.shape, conv.edges
    channels = min(C, SCIPY_CHANNELS)
    full = np.array(
        [
            sum(convolve(dz[f, :, :, 0], kernels[c]) for f, kernels in enumerate(conv.kernels))
            for c in range(channels)
        ]
    )
    return _difference(dx[:channels, :, :, 0], full[:, top : top + H, left : left + W])


def _fused_and_plain(
    plain: Network, trained: Network, rng: np.random.Generator
) -> Iterator[IdentityCheck]:
    """Compare every fused layer's outputs and its parameters' gradients with the plain layers'."""
    x = rng.standard_normal((*plain.input_shape, N))
    r = rng.standard_normal((*plain.output_shape, N))
    outputs, expected = _outputs(trained, x), _outputs(plain, x)
    for network in (plain, trained):
        network.backward(r)
    gradients = {p.name: p.gradient for p in plain.parameter_list}
    largest = np.max(np.abs(plain.gradients))
    for layer in trained.executed:
        if len(layer.parts) > 1:
            errors = [_difference(outputs[layer.name], expected[layer.parts[-1].name])]
            errors += [
                _difference(p.gradient, gradients[p.name], largest) for p in layer.parameters
            ]
            yield IdentityCheck("fused = plain", layer.name, max(errors))


def _outputs(network: Network, x: Array) -> dict[str, Array]:
    network.allocate(N)
    return {layer.name: (x := layer.forward(x)) for layer in network.executed}


def _difference(a: Array, b: Array, largest: float = 0.0) -> float:
    """Return the largest difference relative to the size of b, or to ``largest`` where b is zero.

    A number is zero that has no more than the rounding of the largest.
    """
    size = np.max(np.abs(b))
    if size <= NOTHING * largest:
        size = largest
    return float(np.max(np.abs(a - b)) / (size or 1.0))
