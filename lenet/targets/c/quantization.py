"""A network in 8 bits: weights and activations as integers, and integer arithmetic only.

A number x of an activation is stored as q from −128 to 127, for x ≈ scale·(q − zero), with the
range that the activation has on a calibration set. Weights are w ≈ scale_f·q with a scale for each
filter f and no zero; the sums of products are integers of 32 bits, and a product with a number
m/2^shift makes them the next layer's q. After B. Jacob et al., "Quantization and training of neural
networks for efficient integer-arithmetic-only inference" (2018), section 2.

:meth:`Quantized.scores` computes in NumPy exactly what the C file of :mod:`lenet.targets.c.int8`
computes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import frexp, prod
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from lenet.arrays import Array
from lenet.data.preprocessing import image_shape
from lenet.errors import ConfigError, DataError
from lenet.nn.activations import Activation, ReLU
from lenet.nn.convolution import Convolution
from lenet.nn.dropout import Dropout
from lenet.nn.layer import Layer
from lenet.nn.linear import Linear
from lenet.nn.pooling import AveragePooling, MaxPooling
from lenet.targets.exported import ExportedNetwork, is_one_patch, not_exported

Integers = NDArray[np.int64]
Kind = Literal["weighted", "max_pooling", "average_pooling"]

CALIBRATION: Final = 1000  # images whose activations give the ranges, at most
FORM: Final = "C of 8 bits"


@dataclass(frozen=True)
class Range:
    """Of an activation: x ≈ scale·(q − zero)."""

    scale: float
    zero: int


@dataclass(frozen=True)
class Geometry:
    """The window of a layer: what comes in (C,H,W), what comes out, kernel, stride, padding."""

    shape: tuple[int, int, int]
    output: tuple[int, int, int]
    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    edges: tuple[int, int, int, int] = (0, 0, 0, 0)


def _none() -> Integers:
    return np.empty(0, np.int64)


@dataclass(frozen=True)
class Stage:
    """A layer in integers; the last one has no multipliers, and its sums are the scores."""

    kind: Kind
    geometry: Geometry
    zero_in: int
    zero_out: int
    lowest: int = -128
    weight: Integers = field(default_factory=_none)
    """(F, C·kh·kw); empty for a pooling."""
    bias: Integers = field(default_factory=_none)
    multiplier: Integers = field(default_factory=_none)
    shift: Integers = field(default_factory=_none)

    def windows(self, q: Integers) -> Integers:
        """Return q − zero (N,C,H,W) as windows (N,C,Ho,Wo,kh,kw), 0 outside the image."""
        top, left, bottom, right = self.geometry.edges
        x = np.pad(q - self.zero_in, ((0, 0), (0, 0), (top, bottom), (left, right)))
        seen = np.lib.stride_tricks.sliding_window_view(x, self.geometry.kernel, axis=(2, 3))
        (sh, sw), (_, Ho, Wo) = self.geometry.stride, self.geometry.output
        return seen[:, :, ::sh, ::sw][:, :, :Ho, :Wo]

    def run(self, q: Integers) -> Integers:
        """Return the next q (N,F,Ho,Wo), or the sums of the last layer."""
        windows = self.windows(q.reshape(-1, *self.geometry.shape))
        N, (F, Ho, Wo) = len(windows), self.geometry.output
        if self.kind == "max_pooling":
            return np.asarray(windows.max(axis=(4, 5)) + self.zero_in)
        if self.kind == "average_pooling":
            sums = windows.sum(axis=(4, 5))
        else:
            columns = windows.transpose(0, 2, 3, 1, 4, 5).reshape(N * Ho * Wo, -1)
            # Exact in float64, whose products are those of a BLAS: the sums are below 2^31.
            products = columns.astype(np.float64) @ self.weight.T.astype(np.float64)
            sums = products.astype(np.int64).reshape(N, Ho, Wo, F).transpose(0, 3, 1, 2)
            sums = sums + self.bias[:, None, None]
        if not self.multiplier.size:
            return np.asarray(sums)
        m, shift = self.multiplier[:, None, None], self.shift[:, None, None]
        q = ((sums * m + (1 << (shift - 1))) >> shift) + self.zero_out
        return np.asarray(np.clip(q, self.lowest, 127))


@dataclass(frozen=True)
class Quantized:
    """A network in integers."""

    exported: ExportedNetwork
    stages: tuple[Stage, ...]
    unit: float
    """A score is this times its integer."""

    def scores(self, images: NDArray[np.uint8]) -> Integers:
        """Return the scores (N, classes) of raw images (N,C,H,W), as the C file computes them."""
        top, left, bottom, right = self.exported.padding
        edges = ((0, 0), (0, 0), (top, bottom), (left, right))
        background = self.exported.preprocessing.background
        q = np.pad(images, edges, constant_values=background).astype(np.int64) - 128
        for stage in self.stages:
            q = stage.run(q)
        return q.reshape(len(images), -1)


# --- From float to integer ------------------------------------------------------------------------


def quantized(exported: ExportedNetwork, calibration: NDArray[np.uint8]) -> Quantized:
    """Return the network in integers.

    Parameters
    ----------
    exported
        The network.
    calibration
        Raw images (N,H,W) or (N,C,H,W) of the kind that the network was trained on; of more than
        :data:`CALIBRATION` some are taken at equal distances, because they may be sorted.

    Raises
    ------
    ConfigError
        A layer has no form in integers.
    DataError
        The calibration images are of another size than those that the export is for.
    """
    if image_shape(calibration) != exported.image_shape:
        given, wanted = (
            "×".join(map(str, shape)) for shape in (image_shape(calibration), exported.image_shape)
        )
        raise DataError(
            f"are {given}, the exported network takes {wanted}",
            remedy="name other images with --data, or their size with --image-size",
            key="calibration images",
        )
    preprocessing = exported.preprocessing
    if preprocessing.scale <= 0:
        raise ConfigError("must be above 0", remedy="export it without --int8", key="scale")
    x = preprocessing.prepare(calibration[:: -(-len(calibration) // CALIBRATION)])
    exact = -128 - preprocessing.shift / preprocessing.scale
    range_in = Range(preprocessing.scale, round(exact))
    rest = preprocessing.scale * (range_in.zero - exact)  # x = scale·(q − zero) + rest
    layers = [layer for layer in exported.network.layers if not isinstance(layer, Dropout)]
    exported.network.allocate(x.shape[-1])
    stages: list[Stage] = []
    unit = 1.0
    for place, layer in enumerate(layers):
        x = layer.forward(x)
        following = layers[place + 1] if place + 1 < len(layers) else None
        if isinstance(layer, Activation):
            after_weights = place > 0 and isinstance(layers[place - 1], Convolution | Linear)
            if layer.function is not ReLU or not after_weights:
                raise not_exported(layer, FORM)
            continue
        relu = isinstance(following, Activation) and following.function is ReLU
        measured = np.maximum(x, 0) if relu else x
        range_out = range_in if isinstance(layer, MaxPooling) else _range(measured)
        if following is None:
            if not isinstance(layer, Linear):
                raise not_exported(layer, FORM, "no linear layer after it")
            stages.append(_last(layer, range_in, rest))
            unit = range_in.scale * float(np.abs(layer.weight.value).max() or 1) / 127
        else:
            stages.append(_stage(layer, range_in, range_out, rest, relu=relu))
        range_in, rest = range_out, 0.0 if not isinstance(layer, MaxPooling) else rest
    return Quantized(exported, tuple(stages), unit)


def _range(x: Array) -> Range:
    low, high = min(0.0, float(x.min())), max(0.0, float(x.max()))
    scale = (high - low) / 255 or 1.0
    return Range(scale, round(-128 - low / scale))


def _multiplier(factors: Array) -> tuple[Integers, Integers]:
    """Return m and shift with factor ≈ m / 2^shift, m below 2^31."""
    pairs = []
    for factor in factors:
        fraction, exponent = frexp(float(factor))
        m, shift = round(fraction * 2**30), 30 - exponent
        while shift > 62:
            m, shift = m >> 1, shift - 1
        pairs.append((m, shift))
    m_array, shifts = np.array(pairs, np.int64).T
    if shifts.min() < 1:
        raise ConfigError(
            "has activations of very different sizes",
            remedy="export it without --int8",
            key="--int8",
        )
    return m_array, shifts


def _weights(layer: Convolution | Linear) -> tuple[Array, Array]:
    """Return weights (F,K) and biases (F) in float64."""
    if isinstance(layer, Linear):
        return layer.weight.value.astype(np.float64), layer.bias.value.astype(np.float64)
    kernels = layer.kernels[:, :, ::-1, ::-1] if layer.flip else layer.kernels
    return kernels.reshape(layer.F, -1).astype(np.float64), layer.bias.value.astype(np.float64)


def _integers(
    layer: Layer, weight: Array, bias: Array, scale: Array, range_in: Range, rest: float
) -> tuple[Integers, Integers]:
    """Return weights and biases as integers; a constant in the input becomes part of the bias."""
    q = np.rint(weight / scale[:, None]).astype(np.int64)
    b = np.rint((bias + rest * weight.sum(axis=1)) / (scale * range_in.scale))
    largest = max(127 - range_in.zero, range_in.zero + 128)  # of q − zero
    if (np.abs(b) + 127 * largest * q.shape[1]).max() >= 2**31:
        raise not_exported(layer, FORM, "sums of more than 31 bits")
    return q, b.astype(np.int64)


def _last(layer: Linear, range_in: Range, rest: float) -> Stage:
    """Return the last layer, with one scale for all classes: the sums can be compared."""
    weight, bias = _weights(layer)
    scale = np.full(layer.F, (np.abs(weight).max() or 1) / 127)
    q, b = _integers(layer, weight, bias, scale, range_in, rest)
    return Stage("weighted", _geometry(layer), range_in.zero, 0, weight=q, bias=b)


def _stage(layer: Layer, range_in: Range, range_out: Range, rest: float, *, relu: bool) -> Stage:
    geometry, zero = _geometry(layer), range_in.zero
    if isinstance(layer, MaxPooling):
        return Stage("max_pooling", geometry, zero, zero)
    if isinstance(layer, AveragePooling):
        factors = np.array([range_in.scale / (prod(layer.kernel) * range_out.scale)])
        multiplier, shift = _multiplier(factors)
        return Stage(
            "average_pooling", geometry, zero, range_out.zero, multiplier=multiplier, shift=shift
        )
    assert isinstance(layer, Convolution | Linear)  # noqa: S101 - others have no geometry
    weights, biases = _weights(layer)
    largest = np.abs(weights).max(axis=1)
    scale = np.where(largest > 0, largest, 1) / 127
    weight, bias = _integers(layer, weights, biases, scale, range_in, rest)
    multiplier, shift = _multiplier(scale * range_in.scale / range_out.scale)
    lowest = max(-128, range_out.zero) if relu else -128
    return Stage(
        "weighted", geometry, zero, range_out.zero, lowest, weight, bias, multiplier, shift
    )


def _geometry(layer: Layer) -> Geometry:
    """Return the window of a layer; that of a linear layer is its input, as a row.

    Raises
    ------
    ConfigError
        The layer has no form in integers.
    """
    match layer:
        case Linear():
            return Geometry((1, 1, layer.D), (layer.F, 1, 1), (1, layer.D))
        case Convolution() if is_one_patch(layer):
            return Geometry((1, 1, layer.K), (layer.F, 1, 1), (1, layer.K))
        case Convolution() if layer.groups == 1 and layer.dilation == (1, 1):
            output = layer.F, layer.Ho, layer.Wo
            return Geometry(layer.shape, output, layer.kernel, layer.stride, layer.edges)
        case MaxPooling() | AveragePooling():
            (C, H, W), (kh, kw), (sh, sw) = layer.shape, layer.kernel, layer.stride
            _, Ho, Wo = layer.output_shape
            inside = (Ho - 1) * sh + kh <= H and (Wo - 1) * sw + kw <= W
            if any(layer.edges) or layer.dilation != (1, 1) or not inside:
                raise not_exported(layer, FORM, "windows beyond the image")
            return Geometry((C, H, W), (C, Ho, Wo), (kh, kw), (sh, sw))
    raise not_exported(layer, FORM)
