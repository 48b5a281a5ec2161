"""Units: their receptive fields, the path below them, and two ways from a unit to the pixels.

The gradient is the plain derivative of the unit by every pixel. The deconvolution of M. D. Zeiler
and R. Fergus ("Visualizing and Understanding Convolutional Networks", 2014, section 2.1) sets all
of a layer's outputs but the unit to zero and runs the layers backwards. That is their backward
pass, but for one layer:

    max pooling        unpooling: the number goes to where the switches found it
    average pooling    an equal share for every pixel of the window
    convolution        transposed convolution with the same kernels
    linear             Wᵀ
    ReLU               ReLU, in the place of its derivative
    other activations  multiplication by the derivative

It is therefore no derivative: a step along it need not raise the unit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor

import numpy as np

from lenet.arrays import Array
from lenet.errors import ConfigError
from lenet.inspect.responses import activations, find_layer
from lenet.nn.activations import Activation, ReLU
from lenet.nn.convolution import Convolution
from lenet.nn.layer import Layer, Rational
from lenet.nn.network import Network
from lenet.nn.pooling import Pooling
from lenet.nn.transposed import TransposedConvolution
from lenet.nn.unpooling import MaxUnpooling


@dataclass(frozen=True)
class Unit:
    """A map of a layer (or a number of its vector) at the place where it is largest.

    Attributes
    ----------
    layer, index
        The layer's name and the map's number.
    place
        Row and column of the largest number in the map; (0, 0) in a vector.
    value
        That number.
    field
        Top, left, height and width of its receptive field on the network's input.
    """

    layer: str
    index: int
    place: tuple[int, int]
    value: float
    field: tuple[int, int, int, int]


# --- Units and their receptive fields -------------------------------------------------------------


def strongest_units(network: Network, x: Array, name: str, count: int) -> list[Unit]:
    """Return the ``count`` units of a layer with the largest outputs, the largest first."""
    find_layer(network, name)
    y = activations(network, x)[name]
    order = np.argsort(-y.reshape(len(y), -1).max(axis=1), kind="stable")[:count]
    return [_unit(network, y, name, int(index)) for index in order]


def above_zero(units: Sequence[Unit]) -> list[Unit]:
    """Return the units above zero: deconvolution starts from what a unit puts out."""
    above = [unit for unit in units if unit.value > 0]
    if not above:
        first = units[0]
        raise ConfigError(
            f"unit {first.index} of {first.layer} is {first.value:.3g}, not above zero",
            remedy="choose another unit, layer or image",
            key="--unit",
        )
    return above


def chosen_unit(network: Network, x: Array, name: str, index: int) -> Unit:
    """Return the unit of this number."""
    find_layer(network, name)
    y = activations(network, x)[name]
    if not 0 <= index < len(y):
        raise ConfigError(
            f"is {index}, but {name} has {len(y)} units",
            remedy=f"give a number from 0 to {len(y) - 1}",
            key="--unit",
        )
    return _unit(network, y, name, index)


def _unit(network: Network, y: Array, name: str, index: int) -> Unit:
    image = np.atleast_2d(y[index])
    i, j = (int(k) for k in np.unravel_index(image.argmax(), image.shape))
    return _unit_at(network, y, name, index, (i, j))


def _unit_at(network: Network, y: Array, name: str, index: int, place: tuple[int, int]) -> Unit:
    value = float(np.atleast_2d(y[index])[place])
    return Unit(name, index, place, value, _field(network, name, *place))


def _field(network: Network, name: str, i: int, j: int) -> tuple[int, int, int, int]:
    """Return top, left, height and width of the part of the image that a unit depends on."""
    rows, columns = (i, i), (j, j)
    last = [layer.name for layer in network.layers].index(name)
    inputs = [network.input_shape, *network.output_shapes]
    for layer, shape in zip(network.layers[last::-1], inputs[last::-1], strict=True):
        (kh, kw), (sh, sw) = layer.window
        top, left = _padding(layer)
        H, W = shape[1:] if len(shape) == 3 else (1, 1)
        rows, columns = _reached(rows, kh, sh, top, H), _reached(columns, kw, sw, left, W)
    return rows[0], columns[0], rows[1] - rows[0] + 1, columns[1] - columns[0] + 1


def _reached(
    outputs: tuple[int, int], k: Rational, s: Rational, padding: int, size: int
) -> tuple[int, int]:
    """Return the first and the last of ``size`` inputs that a range of outputs depends on.

    Steps ``s`` are fractions for layers that enlarge the image (``Layer.window``).
    """
    first, last = outputs
    if isinstance(s, Fraction):
        first, last = ceil((first + padding) * s - (k - 1)), floor((last + padding) * s)
    else:
        first, last = first * s - padding, last * s - padding + int(k) - 1
    return max(first, 0), min(last, size - 1)


def _padding(layer: Layer) -> tuple[int, int]:
    """Return the padding above and to the left."""
    match layer:
        case Convolution() | Pooling() | TransposedConvolution():
            return layer.edges[:2]
        case MaxUnpooling():
            return layer.pooling.edges[:2]
    return 0, 0


# --- Down to the pixels ---------------------------------------------------------------------------


def path(network: Network, x: Array, unit: Unit) -> list[Unit]:
    """Follow a unit down: in every layer below, the input that adds most to the one above.

    Where none of them adds anything, it is the input with the largest weight.
    """
    outputs = _prepared(network, x)
    names = list(outputs)
    units = [unit]
    for k in range(names.index(unit.layer), 0, -1):
        index, place = units[-1].index, units[-1].place
        y = outputs[names[k - 1]]
        if not isinstance(network.layers[k], Activation):
            weights = _run(network.layers[k].backward, _only(outputs[names[k]], units[-1], 1.0))
            parts = y * weights[..., 0]
            parts = parts if parts.max() > 0 else np.abs(weights[..., 0])
            index, *there = (int(i) for i in np.unravel_index(parts.argmax(), y.shape))
            place = (there[0], there[1]) if there else (0, 0)
        units.append(_unit_at(network, y, names[k - 1], index, place))
    return units[::-1]


def gradient(network: Network, x: Array, unit: Unit) -> Array:
    """Return the derivative of a unit by every pixel (C,H,W)."""
    return _down(network, x, unit, 1.0, lambda layer, y: _run(layer.backward, y))


def project(network: Network, x: Array, unit: Unit) -> Array:
    """Return the deconvolution of a unit (C,H,W): its layers run backwards, as above."""
    return _down(network, x, unit, unit.value, _run_backwards)


def _down(
    network: Network,
    x: Array,
    unit: Unit,
    start: float,
    backward: Callable[[Layer, Array], Array],
) -> Array:
    """Run the layers backwards from a unit, which is set to ``start``, to the pixels."""
    outputs = _prepared(network, x)
    y = _only(outputs[unit.layer], unit, start)
    for layer in reversed(network.layers[: list(outputs).index(unit.layer) + 1]):
        y = backward(layer, y)
    return y[..., 0].copy()  # the layers overwrite their own arrays


def _prepared(network: Network, x: Array) -> dict[str, Array]:
    """Run the network forward so that every layer can run backwards, down to the pixels."""
    for layer in network.layers:
        layer.needs_dx = True
    return activations(network, x)


def _only(y: Array, unit: Unit, value: float) -> Array:
    """Return zeros like a layer's output y, with the batch's axis, and ``value`` at the unit."""
    only = np.zeros((*y.shape, 1), y.dtype)
    only[(unit.index, *unit.place)[: y.ndim]] = value
    return only


def _run_backwards(layer: Layer, y: Array) -> Array:
    if isinstance(layer, Activation) and layer.function is ReLU:
        return np.maximum(y, 0)
    return _run(layer.backward, y)


def _run(backward: Callable[[Array], Array | None], y: Array) -> Array:
    dx = backward(y)
    assert dx is not None  # noqa: S101 - needs_dx is True
    return dx
