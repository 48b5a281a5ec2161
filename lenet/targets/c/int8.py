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

from collections.abc import Callable
from dataclasses import dataclass, field
from math import frexp, prod
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from lenet.arrays import Array
from lenet.data.preprocessing import image_shape
from lenet.errors import ConfigError, DataError
from lenet.nn.activations import ReLU
from lenet.targets import operations as op
from lenet.targets.c.frame import Code, c_files, c_rows
from lenet.targets.networks import ExportedNetwork, sample_image
from lenet.targets.operations import dispatched, operations_of, refused

Integers = NDArray[np.int64]
Kind = Literal["weighted", "max_pooling", "average_pooling"]

CALIBRATION: Final = 1000  # images whose activations give the ranges, at most
PROBLEM, REMEDY = "cannot be exported to C of 8 bits", "export it without --int8, or with --onnx"


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
    """Return the network in integers."""
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
    exported.network.allocate(x.shape[-1])
    # Operations with what comes out of them; ReLU becomes a limit of the product before it.
    steps: list[tuple[op.Operation, Array, bool]] = []
    for layer in exported.network.layers:
        x = layer.forward(x)
        for operation in operations_of(layer):
            if isinstance(operation, op.Pointwise):
                after = steps.pop() if steps else None
                if (
                    operation.function is not ReLU
                    or after is None
                    or type(after[0]) not in WEIGHTED
                ):
                    raise refused(operation, PROBLEM, REMEDY)
                steps.append((after[0], x, True))
            else:
                steps.append((operation, x, False))
    stages: list[Stage] = []
    for operation, y, relu in steps[:-1]:
        range_out = range_in if type(operation) is op.Maximum else _range(y)
        stages.append(_stage(operation, range_in, range_out, rest, relu=relu))
        range_in, rest = range_out, rest if type(operation) is op.Maximum else 0.0
    last, _, relu = steps[-1]
    if type(last) is not op.Affine or relu:
        raise refused(last, f"with no linear layer after it {PROBLEM}", REMEDY)
    stages.append(_last(last, range_in, rest))
    unit = range_in.scale * float(np.abs(last.weight).max() or 1) / 127
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


def _integers(
    operation: op.Product | op.Affine, scale: Array, range_in: Range, rest: float
) -> tuple[Integers, Integers]:
    """Return weights and biases as integers; a constant in the input becomes part of the bias."""
    weight, bias = _weights(operation), operation.bias.astype(np.float64)
    q = np.rint(weight / scale[:, None]).astype(np.int64)
    b = np.rint((bias + rest * weight.sum(axis=1)) / (scale * range_in.scale))
    largest = max(127 - range_in.zero, range_in.zero + 128)  # of q − zero
    if (np.abs(b) + 127 * largest * q.shape[1]).max() >= 2**31:
        raise refused(operation, f"with sums of more than 31 bits {PROBLEM}", REMEDY)
    return q, b.astype(np.int64)


def _weights(operation: op.Product | op.Affine) -> Array:
    """Return the weights (F,K) in float64."""
    return operation.weight.reshape(len(operation.bias), -1).astype(np.float64)


def _last(operation: op.Affine, range_in: Range, rest: float) -> Stage:
    """Return the last layer, with one scale for all classes: the sums can be compared."""
    largest = float(np.abs(_weights(operation)).max() or 1)
    scale = np.full(len(operation.bias), largest / 127)
    q, b = _integers(operation, scale, range_in, rest)
    return Stage("weighted", _row(operation), range_in.zero, 0, weight=q, bias=b)


def _stage(
    operation: op.Operation, range_in: Range, range_out: Range, rest: float, *, relu: bool
) -> Stage:
    kind, geometry_of = dispatched(STAGES, operation, PROBLEM, REMEDY)
    geometry, zero = geometry_of(operation), range_in.zero
    if type(operation) is op.Sum:
        factors = np.array([operation.factor]) * range_in.scale / range_out.scale
        m, shift = _multiplier(factors)
        return Stage(kind, geometry, zero, range_out.zero, multiplier=m, shift=shift)
    if not isinstance(operation, op.Product | op.Affine):
        return Stage(kind, geometry, zero, zero)
    largest = np.abs(_weights(operation)).max(axis=1)
    scale = np.where(largest > 0, largest, 1) / 127
    weight, bias = _integers(operation, scale, range_in, rest)
    m, shift = _multiplier(scale * range_in.scale / range_out.scale)
    lowest = max(-128, range_out.zero) if relu else -128
    return Stage(kind, geometry, zero, range_out.zero, lowest, weight, bias, m, shift)


# --- Windows --------------------------------------------------------------------------------------


def _row(operation: op.Product | op.Affine) -> Geometry:
    """Return the window of a product over all inputs: they are a row."""
    D = prod(operation.shape)
    return Geometry((1, 1, D), (len(operation.bias), 1, 1), (1, D))


def _product(operation: op.Product) -> Geometry:
    if operation.is_one_patch:
        return _row(operation)
    window = operation.window
    if operation.groups > 1 or window.dilation != (1, 1):
        raise refused(operation, f"with groups or dilation {PROBLEM}", REMEDY)
    return _geometry(operation, window)


def _pooling(operation: op.Maximum | op.Sum) -> Geometry:
    window = operation.window
    inside = all(
        (n - 1) * s + k <= size
        for n, s, k, size in zip(
            operation.output[1:], window.stride, window.kernel, operation.shape[1:], strict=True
        )
    )
    if any(window.edges) or window.dilation != (1, 1) or not inside:
        raise refused(operation, f"with windows beyond the image {PROBLEM}", REMEDY)
    return _geometry(operation, window)


def _geometry(operation: op.Operation, window: op.Window) -> Geometry:
    (C, H, W), (F, Ho, Wo) = operation.shape, operation.output
    return Geometry((C, H, W), (F, Ho, Wo), window.kernel, window.stride, window.edges)


STAGES: Final[dict[type[op.Operation], tuple[Kind, Callable[[Any], Geometry]]]] = {
    op.Product: ("weighted", _product),
    op.Affine: ("weighted", _row),
    op.Maximum: ("max_pooling", _pooling),
    op.Sum: ("average_pooling", _pooling),
}
WEIGHTED: Final = (op.Product, op.Affine)


# --- The C file -----------------------------------------------------------------------------------


FIELDS: Final = {"weight": "int8_t", "bias": "int32_t", "multiplier": "int32_t", "shift": "int8_t"}

# What goes into the frame.
FORM: Final = {
    "FORM": ", in 8 bits",
    "NEEDS": ", integer arithmetic only; compile lenet.c.",
    "BLANK": "An image whose levels differ by at most 1 is taken for blank.",
    "HEADERINCLUDES": "#include <stdint.h>\n",
    "INCLUDES": "",
    "SCORE": "int32_t",
    "NUMBER": "int8_t",
    "IMAGE": "const unsigned char *bytes",
    "GIVEN": "bytes",
    "REST": "",
    "DIFFERS": "scores[c] != test_scores[c]",
}


def int8_source(network: Quantized, prefix: str = "lenet") -> dict[str, str]:
    """Return the two files by name, as :func:`lenet.targets.c.float32.c_source` does."""
    exported, code = network.exported, Code()
    *stages, last = network.stages
    for number, stage in enumerate(stages, start=1):
        code.call(stage.kind, prod(stage.geometry.output), *_constants(code, stage, number))
    code.call("scored", prod(last.geometry.output), *_constants(code, last, len(stages) + 1))
    used = {"common", *(step.function for step in code.steps)}
    if used & {"weighted", "average_pooling"}:
        used.add("requantized")
    scores = network.scores(sample_image(exported)[None])[0]
    form = {
        "TESTSCORES": c_rows([str(score) for score in scores]),
        "INPUT": f"(int8_t)((inside ? bytes[k] : {exported.preprocessing.background}) - 128)",
        "UNIT": f"{network.unit:.6g}",
    }
    return c_files(exported, code, "int8.c", used, FORM | form, prefix)


def _constants(code: Code, stage: Stage, number: int) -> list[str]:
    """Declare the constants of a layer; return the arguments of its call."""
    g = stage.geometry
    sizes = (*g.shape, *g.output, *g.kernel, *g.stride, *g.edges[:2])
    zeros = (stage.zero_in, stage.zero_out, stage.lowest)
    arguments = [code.structure(f"layer_{number}", "layer", (*sizes, *zeros))]
    for name, kind in FIELDS.items():
        values = [str(n) for n in getattr(stage, name).ravel()]
        if values:
            arguments.append(code.array(f"{name}_{number}", kind, values))
    return arguments
