"""From nodes of ONNX to the entries of a specification and the arrays of their layers.

An operator is translated by its function in :data:`TRANSLATIONS`.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any, Final

import numpy as np

from lenet.arrays import Array, Edges, Shape
from lenet.targets.onnx.graph import FLOATS, Graph, Node
from lenet.targets.onnx.translation import (
    BATCH,
    EPSILON,
    MAX_ACTIVATIONS,
    Translation,
    image_of,
    simplified,
)


def integers(made: Translation, name: str) -> list[int] | None:
    """Return constant integers, or None if the value is something else."""
    array = made.graph.constants.get(name) if name else None
    if array is None or array.dtype.kind != "i" or array.size > 64:
        return None
    return [int(n) for n in array.ravel()]


# --- Pooling and padding --------------------------------------------------------------------------


def edges_of(
    node: Node, shape: Shape, kernel: list[int], stride: list[int], dilation: list[int]
) -> Edges:
    """Return the padding above, left, below, right; ``auto_pad`` computes it from the sizes."""
    auto = node.attributes.get("auto_pad", b"NOTSET")
    if auto == b"NOTSET":
        top, left, bottom, right = node.numbers("pads", (0, 0, 0, 0))
        return top, left, bottom, right
    if auto not in (b"VALID", b"SAME_UPPER", b"SAME_LOWER"):
        raise node.refuse("has an unknown auto_pad")
    pairs = []
    for n, k, s, d in zip(shape[1:], kernel, stride, dilation, strict=True):
        if s < 1:
            raise node.refuse("has a wrong stride")
        whole = max(0, (-(-n // s) - 1) * s + (k - 1) * d + 1 - n) if auto != b"VALID" else 0
        smaller = whole // 2
        pairs.append((smaller, whole - smaller)[:: -1 if auto == b"SAME_LOWER" else 1])
    (top, bottom), (left, right) = pairs
    return top, left, bottom, right


def pooling(made: Translation, node: Node) -> None:
    """Translate a pooling, with the padding that an operator Pad has left for it."""
    made.require_image(node)
    is_maximum = node.operator == "MaxPool"
    kernel = node.numbers("kernel_shape", (1, 1))
    stride, dilation = node.numbers("strides", (1, 1)), node.numbers("dilations", (1, 1))
    options: dict[str, Any] = {}
    padding = edges_of(node, made.shape, kernel, stride, dilation)
    before = made.take_margins(node, -np.inf if is_maximum else 0.0)
    if not is_maximum:
        options["count_padding"] = bool(node.number("count_include_pad", 0))
        if any(before):
            if any(padding) and not options["count_padding"]:
                raise node.refuse("after Pad cannot be imported")
            options["count_padding"] = True
    made.layer(
        node,
        "max_pooling" if is_maximum else "average_pooling",
        kernel=kernel,
        stride=stride,
        padding=[a + b for a, b in zip(padding, before, strict=True)],
        dilation=dilation,
        round_up=bool(node.number("ceil_mode", 0)),
        **options,
    )


def global_pooling(made: Translation, node: Node) -> None:
    """Translate a pooling over the complete image."""
    made.require_image(node)
    kind = "max_pooling" if node.operator == "GlobalMaxPool" else "average_pooling"
    made.layer(node, kind, kernel=list(made.shape[1:]))


def reduction(made: Translation, node: Node) -> None:
    """Translate the mean or maximum of each channel, as a pooling over the complete image."""
    axes = node.attributes.get("axes")
    if node.input(1):  # since opset 18
        axes = integers(made, node.input(1))
    if made.places.ndim != 3 or len(made.shape) != 3 or not isinstance(axes, list):
        raise node.refuse("of these axes cannot be imported")
    left = {0, 1, 2} - {axis % 4 - 1 for axis in axes if type(axis) is int}
    channel, (C, H, W) = left.pop() if left else 0, made.shape
    in_order = np.moveaxis(made.places, channel, 0).ravel()
    if left or len(axes) != 2 or not np.array_equal(in_order, np.arange(C * H * W)):
        raise node.refuse("of these axes cannot be imported")
    kind = "max_pooling" if node.operator == "ReduceMax" else "average_pooling"
    made.layer(node, kind, kernel=[H, W])
    made.places = np.moveaxis(np.arange(C).reshape(C, 1, 1), 0, channel)
    if not node.number("keepdims", 1):
        made.places = made.places.reshape(-1)


def pad(made: Translation, node: Node) -> None:
    """Pad raw images as the preprocessing does, or leave the padding for the next layer."""
    pads, value = node.attributes.get("pads"), node.attributes.get("value", 0.0)
    if pads is None:
        pads = integers(made, node.input(1))
        if node.input(3):
            raise node.refuse("with axes cannot be imported")
        if node.input(2):
            fill = made.graph.constants.get(node.input(2))
            value = None if fill is None or fill.size != 1 else float(fill.reshape(()))
    constant = node.attributes.get("mode", b"constant") == b"constant"
    if not isinstance(pads, list) or not isinstance(value, int | float) or not constant:
        raise node.refuse("with this padding cannot be imported")
    if len(pads) != 8 or not all(type(n) is int and 0 <= n < 2**15 for n in pads):
        raise node.refuse("with this padding cannot be imported")
    if not any(pads):
        return
    C, H, W = made.shape if len(made.shape) == 3 else (0, 0, 0)
    order = (0, 1, 2)
    if made.places.shape == (H, W, C) and made.places.shape != (C, H, W):
        order = (1, 2, 0)  # channels last
    pairs = list(zip(pads[1:4], pads[5:8], strict=True))
    channel, (top, bottom), (left, right) = (pairs[order.index(k)] for k in range(3))
    own = np.arange(C * H * W).reshape(C, H, W).transpose(order)
    if not np.array_equal(own, made.places) or any((*channel, pads[0], pads[4])):
        raise node.refuse("of these axes cannot be imported")
    level = (value - made.shift) / made.scale if made.scale else np.inf
    is_centred = (top, left) == ((top + bottom) // 2, (left + right) // 2)
    is_background = np.isfinite(level) and (level == 0 or value != 0)
    first = not made.steps and made.shape == made.image
    if first and is_centred and is_background:
        made.background, made.padded = level, node
        made.input_shape = made.shape = (C, H + top + bottom, W + left + right)
        if prod(made.shape) > MAX_ACTIVATIONS:
            raise node.refuse("makes a network that is too large to be imported")
        made.places = np.arange(prod(made.shape)).reshape(made.shape).transpose(order)
    elif order == (0, 1, 2) and made.margins is None:
        made.margins = (top, left, bottom, right), value
    else:
        raise node.refuse("of these axes cannot be imported")


# --- Shape and order ------------------------------------------------------------------------------


def _reshaped(made: Translation, node: Node, target: list[int]) -> None:
    """Reshape to dimensions in which 0 is the one before, and -1 what is left."""
    batch, places = made.graph.input_dims[0], made.places
    dims = [
        places.shape[k - 1] if n == 0 and 0 < k <= places.ndim else n for k, n in enumerate(target)
    ]
    if not dims or dims[0] not in {0, -1, batch, BATCH} or len(dims) > 6:
        raise node.refuse(f"to {target[:8]} does not keep the images apart")
    rest = dims[1:]
    if rest.count(-1) == 1 and dims[0] != -1:
        others = -prod(rest)
        rest = [places.size // others if n == -1 and others > 0 else n for n in rest]
    if any(n < 1 for n in rest) or prod(rest) != places.size:
        raise node.refuse(f"to {target[:8]} does not fit {places.size} numbers")
    made.places = places.reshape(rest)


def reshape(made: Translation, node: Node) -> None:
    """Reshape to a constant, or to what is computed from shapes."""
    target = node.attributes.get("shape") or integers(made, node.input(1))  # until opset 5
    if not isinstance(target, list) or not all(type(n) is int for n in target):
        raise node.refuse("to a shape that is not constant cannot be imported")
    if node.number("allowzero", 0) and not all(target):
        raise node.refuse("to no numbers cannot be imported")
    _reshaped(made, node, target)


def flatten(made: Translation, node: Node) -> None:
    """Make a vector of each image."""
    if node.number("axis", 1) not in (1, -made.places.ndim):
        raise node.refuse("of these axes cannot be imported")
    made.places = made.places.reshape(-1)


def transpose(made: Translation, node: Node) -> None:
    """Permute the axes, apart from the first."""
    order = node.numbers("perm", range(made.places.ndim, -1, -1))
    if order[0] != 0 or sorted(order) != list(range(made.places.ndim + 1)):
        raise node.refuse("of the first axis cannot be imported")
    made.places = made.places.transpose([axis - 1 for axis in order[1:]])


def squeeze(made: Translation, node: Node) -> None:
    """Leave out dimensions of 1, apart from the first."""
    axes = {axis % (made.places.ndim + 1) for axis in _axes(made, node)}
    if 0 in axes or any(made.places.shape[axis - 1] != 1 for axis in axes):
        raise node.refuse("of these axes cannot be imported")
    made.places = made.places.squeeze(tuple(axis - 1 for axis in axes))


def unsqueeze(made: Translation, node: Node) -> None:
    """Add a dimension of 1, apart from the first."""
    axes = _axes(made, node)
    if len(axes) != 1 or not 0 < axes[0] % (made.places.ndim + 2) < 6:
        raise node.refuse("of these axes cannot be imported")
    made.places = np.expand_dims(made.places, axes[0] % (made.places.ndim + 2) - 1)


def _axes(made: Translation, node: Node) -> list[int]:
    """Return the axes, an attribute before opset 13 and an input since; they differ."""
    axes = node.attributes.get("axes")
    if node.input(1):
        axes = integers(made, node.input(1))
    if not isinstance(axes, list) or not all(type(n) is int for n in axes) or not axes:
        raise node.refuse("of these axes cannot be imported")
    return axes


def translated(graph: Graph, scale: float | None, shift: float | None) -> Translation:
    """Translate the nodes of a graph; each takes constants and the value of the one before it."""
    image, places = image_of(graph)
    made = Translation(graph, image, places, 1.0, 0.0)
    for node in graph.nodes:
        _translate(made, node)
    if made.margins or made.pixels:
        raise made.chain[-1].refuse("at the end cannot be imported")
    _end(made)
    levels = graph.input_type == "UINT8" or abs(made.scale) < 0.1
    scale = scale if scale is not None else 1.0 if levels else 1 / 255
    shift = 0.0 if shift is None else shift
    background = (made.background - shift) / scale if scale else -1.0
    if made.padded is None:
        made.background = 0
    elif np.isfinite(background) and 0 <= round(background) <= 255:
        made.background = round(background)
        if abs(background - made.background) > 1e-3:
            raise made.padded.refuse(f"with {made.background:g}, not a level of an image,")
    else:
        raise made.padded.refuse("with what is not a level of an image")
    made.levels = (scale, shift)
    made.scale, made.shift = made.scale * scale, made.scale * shift + made.shift
    made.steps = simplified(made.steps)
    return made


def _translate(made: Translation, node: Node) -> None:
    """Translate a node of the chain, or compute one that depends on constants and shapes only."""
    constants, output = made.graph.constants, node.proto.output[0]
    values = [name for name in node.proto.input if name and name not in constants]
    if not values:
        constants.fold(node)
        return
    if node.operator == "Shape" and values[0] in made.dims:
        dims = (made.graph.input_dims[0] or BATCH, *made.dims[values[0]])
        start, end = int(node.number("start", 0)), int(node.number("end", len(dims)))
        constants.put(output, np.array(dims[start:end], np.int64))
        return
    if values != [made.value]:
        raise node.refuse("does not take one value and constants: the network is not a chain")
    node.value = made.value
    translate = TRANSLATIONS.get(node.operator)
    if translate is None:
        raise node.refuse()
    if made.left_out and node.operator not in AT_THE_END:
        raise node.refuse(f"after {made.left_out.operator} cannot be imported")
    if made.margins and node.operator not in (*POOLINGS, "Conv", "Identity"):
        raise node.refuse("after Pad cannot be imported")
    if made.pixels and node.operator not in AFTER_PIXELS:
        raise made.pixels.node.refuse("with a number for each pixel cannot be imported")
    translate(made, node)
    made.chain.append(node)
    made.value = output
    made.dims[output] = made.places.shape


def _end(made: Translation) -> None:
    """Leave out a sigmoid of the scores, and make a vector of scores that are an image of 1×1."""
    if made.left_out is None and made.steps and made.steps[-1].entry.get("type") == "sigmoid":
        made.steps.pop()
        made.left_out = next(n for n in reversed(made.chain) if n.operator == "Sigmoid")
    C = made.shape[0]
    if made.steps and len(made.shape) == 3 and made.shape == (C, 1, 1):
        made.layer(made.chain[-1], "linear", {"weight": np.eye(C), "bias": np.zeros(C)}, units=C)


# --- Operators with weights -----------------------------------------------------------------------


def _weights(made: Translation, node: Node, place: int, ndim: int | None = None) -> Array | None:
    """Return an input that must be a constant of floats, or None if it is left out."""
    name = node.input(place)
    if not name:
        return None
    array = made.graph.constants.get(name)
    if array is None or array.dtype.kind != "f" or ndim not in (None, array.ndim):
        raise node.refuse(
            f"whose input {place + 1} is not a constant of {ndim or 'any'} dimensions"
        )
    if not np.isfinite(array).all():
        raise node.refuse(f"whose input {place + 1} is not finite")
    return array


def _needed(made: Translation, node: Node, place: int, ndim: int | None = None) -> Array:
    array = _weights(made, node, place, ndim)
    if array is None or node.proto.input[0] != node.value:
        raise node.refuse(f"without a constant as input {place + 1} cannot be imported")
    return array


def _conv(made: Translation, node: Node) -> None:
    made.require_image(node)
    weight = _needed(made, node, 1, 4)
    bias = _weights(made, node, 2, 1)
    kernel = list(weight.shape[2:])
    if node.numbers("kernel_shape", kernel) != kernel:
        raise node.refuse("has a kernel_shape that is not its weights'")
    stride, dilation = node.numbers("strides", (1, 1)), node.numbers("dilations", (1, 1))
    padding = edges_of(node, made.shape, kernel, stride, dilation)
    padding_before = made.take_margins(node, 0.0)
    made.layer(
        node,
        "convolution",
        {"weight": weight, "bias": np.zeros(len(weight)) if bias is None else bias},
        filters=len(weight),
        kernel=kernel,
        stride=stride,
        padding=[a + b for a, b in zip(padding, padding_before, strict=True)],
        groups=node.number("group", 1),
        dilation=dilation,
    )


def _linear(made: Translation, node: Node, weight: Array, bias: Array | None) -> None:
    """Append a linear layer with weights (F, D) in the file's order of D."""
    if made.places.ndim != 1 or weight.shape[1] != made.places.size:
        raise made.refuse_shape(node)
    F = len(weight)
    if bias is not None and bias.shape not in ((), (1,), (F,), (1, F)):
        raise node.refuse(f"has a bias of the shape {bias.shape}")
    ordered = np.empty_like(weight)
    ordered[:, made.places] = weight
    given = np.zeros(F) if bias is None else np.broadcast_to(bias.reshape(-1), (F,))
    if made.pixels is not None:
        given = given + ordered @ made.pixels.offset
        ordered = ordered * made.pixels.factor
        made.pixels = None
    made.layer(node, "linear", {"weight": ordered, "bias": given}, units=F)
    made.places = np.arange(F)


def _gemm(made: Translation, node: Node) -> None:
    weight, bias = _needed(made, node, 1, 2), _weights(made, node, 2)
    if node.number("transA", 0):
        raise node.refuse("with transA cannot be imported")
    weight = weight if node.number("transB", 0) else weight.T
    beta = node.number("beta", 1.0)
    _linear(made, node, weight * node.number("alpha", 1.0), None if bias is None else beta * bias)


def _matmul(made: Translation, node: Node) -> None:
    _linear(made, node, _needed(made, node, 1, 2).T, None)


def _batch_normalization(made: Translation, node: Node) -> None:
    if node.number("training_mode", 0):
        raise node.refuse("in training mode cannot be imported")
    made.require_channels(node)
    weight, bias, mean, variance = (_needed(made, node, k, 1) for k in (1, 2, 3, 4))
    if {len(weight), len(mean), len(variance)} != {made.shape[0]} or variance.min() < 0:
        raise node.refuse("has a wrong mean or variance")
    arrays = {"weight": weight, "bias": bias, "mean": mean, "variance": variance}
    epsilon = float(np.float32(node.number("epsilon", EPSILON)))
    factor = weight / np.sqrt(variance.astype(np.float64) + epsilon)
    columns = (-1, *[1] * (made.places.ndim - 1))
    offset = bias - mean * factor
    made.normalizations[node.proto.output[0]] = factor.reshape(columns), offset.reshape(columns)
    made.layer(node, "batch_normalization", arrays, epsilon=epsilon)


# --- Arithmetic with constants --------------------------------------------------------------------


def _arithmetic(made: Translation, node: Node) -> None:
    first = node.proto.input[0] == node.value
    other = node.input(1 if first else 0)
    constant = made.graph.constants.get(other)
    if constant is None or constant.size == 0 or not np.isfinite(constant).all():
        raise node.refuse("without a constant cannot be imported")
    constant = constant.astype(np.float64)
    one, zero = np.ones(1), np.zeros(1)
    match node.operator, first:
        case "Add", _:
            made.affine(node, one, constant)
        case "Sub", True:
            made.affine(node, one, -constant)
        case "Sub", False:
            made.affine(node, -one, constant)
        case "Mul", _:
            made.affine(node, constant, zero)
        case "Div", True if constant.all():
            made.affine(node, 1 / constant, zero)
        case _:
            raise node.refuse("with this constant cannot be imported")


def _scaler(made: Translation, node: Node) -> None:
    """Translate scikit-learn's StandardScaler: (x − offset)·scale, for each pixel."""
    scale, offset = (
        np.array(node.attributes.get(name, []), np.float64) for name in ("scale", "offset")
    )
    if made.places.ndim != 1 or not scale.size or not np.isfinite(scale).all():
        raise node.refuse("with this scale cannot be imported")
    if scale.shape != offset.shape or not np.isfinite(offset).all():
        raise node.refuse("with this offset cannot be imported")
    made.affine(node, scale, -offset * scale)


# --- Others ---------------------------------------------------------------------------------------


def _activation(made: Translation, node: Node) -> None:
    made.layer(node, {"Relu": "relu", "Sigmoid": "sigmoid", "Tanh": "tanh"}[node.operator])


def _dropout(made: Translation, node: Node) -> None:
    rate = node.attributes.get("ratio", 0.5)
    given = made.graph.constants.get(node.input(1))
    if given is not None and given.size == 1:
        rate = float(given.reshape(()))
    made.layer(node, "dropout", rate=rate)


def _softmax(made: Translation, node: Node) -> None:
    """Leave it out: this package's networks end with the scores."""
    is_flat = made.places.size == len(made.places)
    if not is_flat or node.number("axis", 1) not in (1, -made.places.ndim):
        raise node.refuse("of these axes cannot be imported")
    made.left_out = node


def _cast(_made: Translation, node: Node) -> None:
    names = {1: "FLOAT", 10: "FLOAT16", 11: "DOUBLE", 16: "BFLOAT16"}
    if names.get(int(node.number("to", 0))) not in FLOATS:
        raise node.refuse("to another type than float cannot be imported")


def _nothing(_made: Translation, _node: Node) -> None:
    """Translate what changes nothing."""


AT_THE_END: Final = ("Identity", "Cast", "Flatten", "Reshape", "Squeeze")
POOLINGS: Final = ("MaxPool", "AveragePool")
AFTER_PIXELS: Final = (
    *("MatMul", "Gemm", "Add", "Sub", "Mul", "Div", "Cast", "Identity"),
    *("Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze"),
)
TRANSLATIONS: Final[dict[str, Callable[[Translation, Node], None]]] = {
    "Conv": _conv,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "BatchNormalization": _batch_normalization,
    **dict.fromkeys(POOLINGS, pooling),
    **dict.fromkeys(("GlobalMaxPool", "GlobalAveragePool"), global_pooling),
    **dict.fromkeys(("ReduceMax", "ReduceMean"), reduction),
    "Pad": pad,
    **dict.fromkeys(("Add", "Sub", "Mul", "Div"), _arithmetic),
    "ai.onnx.ml.Scaler": _scaler,
    "Reshape": reshape,
    "Flatten": flatten,
    "Transpose": transpose,
    "Squeeze": squeeze,
    "Unsqueeze": unsqueeze,
    **dict.fromkeys(("Relu", "Sigmoid", "Tanh"), _activation),
    "Dropout": _dropout,
    **dict.fromkeys(("Softmax", "LogSoftmax"), _softmax),
    "Cast": _cast,
    "Identity": _nothing,
}
