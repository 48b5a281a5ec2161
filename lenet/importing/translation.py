"""From nodes of ONNX to the entries of a specification and the arrays of their layers.

The numbers of an image have an order in the file that may differ from this package's: networks of
Keras store channels last. :attr:`Translation.places` states, in the shape that the file's value
has, which number of this package's activation (C,H,W), counted from 0, is at each place.
Transposing and reshaping a value transposes and reshapes these; the weights of the next linear
layer are put in order accordingly.

Products with constants and sums with constants become part of the preprocessing (before the first
layer), of the layer before them, or a batch normalization.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from math import isqrt, prod
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lenet.importing.onnx_graph import FLOATS, Chain, Node
from lenet.models.specification import build_layers, entry_of
from lenet.nn.activations import LeCunTanh
from lenet.nn.im2col import Array
from lenet.nn.layer import Shape
from lenet.system.errors import ConfigError, DataError

MAX_ACTIVATIONS: Final = 1 << 21  # numbers of a layer's output, for one image
MAX_WEIGHTS: Final = 1 << 27
MAX_PRODUCTS: Final = 1 << 31  # multiply-adds for one image
EPSILON: Final = 1e-5

Edges = tuple[int, int, int, int]


@dataclass
class Step:
    """A layer as its entry and arrays; without an entry, factor and offset for each channel."""

    entry: dict[str, Any]
    arrays: dict[str, Array]
    shape: Shape
    """Of what comes in."""


@dataclass
class Translation:
    """A network in the making.

    Attributes
    ----------
    image
        The shape (C,H,W) of a raw image.
    input_shape
        The shape (C,H,W) of the network's input: with the padding of the preprocessing.
    shape
        The shape of the activation so far in this package.
    places
        See the head of this file.
    scale, shift, background
        The preprocessing so far, of the graph's input.
    padded
        The node that pads images with the background.
    steps
        The layers so far.
    margins
        Zeros or the like that the next layer is to be given as padding, and their value.
    products
        The multiply-adds so far, about.
    is_softmax, softmax_input
        Whether there was a softmax, which is left out, and the value that it takes.
    levels
        Scale and shift from levels to the graph's input.
    input_places
        The order of the graph's input.
    normalizations
        Factor and offset of batch normalizations, by the names of their outputs.
    """

    chain: Chain
    image: Shape
    places: NDArray[np.intp]
    scale: float
    shift: float
    background: float = 0.0
    padded: Node | None = None
    steps: list[Step] = field(default_factory=list)
    margins: tuple[Edges, float] | None = None
    products: int = 0
    is_softmax: bool = False
    softmax_input: str = ""

    def __post_init__(self) -> None:
        self.input_shape: Shape = self.image
        self.shape: Shape = self.image
        self.input_places = self.places
        self.levels = (1.0, 0.0)
        self.normalizations: dict[str, tuple[Array, Array]] = {}

    def layer(
        self, node: Node, kind: str, arrays: dict[str, Array] | None = None, **options: object
    ) -> None:
        """Append a layer."""
        try:
            (layer,) = build_layers([{"type": kind, "name": "layer", **options}])
            shape = layer.build(self.shape)
        except ConfigError as error:
            raise node.refuse(error.problem) from None
        weights = sum(p.size for p in layer.parameters)
        kernel = prod(getattr(layer, "kernel", ()))
        self.products += max(weights, kernel * prod(shape)) * (
            prod(shape[1:]) if weights and len(shape) == 3 else 1
        )
        if prod(shape) > MAX_ACTIVATIONS or weights > MAX_WEIGHTS or self.products > MAX_PRODUCTS:
            raise node.refuse("makes a network that is too large to be imported")
        for p in layer.parameters:
            given = (arrays or {})[p.name.removeprefix("layer.")]
            if given.shape != p.shape:
                raise node.refuse(f"has weights of the shape {given.shape}, not {p.shape}")
        entry = {key: value for key, value in entry_of(layer).items() if key != "name"}
        self.steps.append(Step(entry, arrays or {}, self.shape))
        if shape != self.shape:
            self.shape, self.places = shape, np.arange(prod(shape)).reshape(shape)

    def affine(self, node: Node, factor: Array, offset: Array) -> None:
        """Append a product and a sum of constants that broadcast to the value (1, …)."""
        if self.margins:
            raise node.refuse("after Pad cannot be imported")
        if not self.steps and factor.size == offset.size == 1:
            a, b = float(factor.reshape(())), float(offset.reshape(()))
            self.scale, self.shift = a * self.scale, a * self.shift + b
            return
        channels = self.places // max(1, prod(self.shape[1:]))
        arrays = {}
        for name, array in (("factor", factor), ("offset", offset)):
            try:
                full = np.broadcast_to(array, (1, *self.places.shape))[0]
            except ValueError:
                raise node.refuse(f"with a constant of the shape {array.shape}") from None
            by_channel = np.zeros(self.shape[0])
            by_channel[channels] = full
            if not np.array_equal(by_channel[channels], full):
                raise node.refuse("with a number for each pixel cannot be imported")
            arrays[name] = by_channel
        self.steps.append(Step({}, arrays, self.shape))

    def require_image(self, node: Node) -> None:
        """Refuse a value whose axes are not (N,C,H,W) of this package's activation."""
        is_input = not self.steps and self.shape == self.image
        if is_input and self.places.ndim == 3 and self._in_order(self.places):
            # A flat input that was reshaped to images has their shape.
            self.image = self.input_shape = self.shape = self.places.shape
        if self.places.shape != self.shape or not self._in_order(self.places):
            raise node.refuse(f"of values of the shape (N,{_numbers(self.places.shape)})")

    @staticmethod
    def _in_order(places: NDArray[np.intp]) -> bool:
        return bool(np.array_equal(places.ravel(), np.arange(places.size)))

    def take_margins(self, node: Node, value: float) -> Edges:
        """Return the padding that an operator Pad has left for this layer, if of this value."""
        edges, found = self.margins or ((0, 0, 0, 0), value)
        if found != value:
            raise node.refuse(f"after Pad with {found:g} cannot be imported")
        self.margins = None
        return edges


def translated(chain: Chain, scale: float | None, shift: float | None) -> Translation:
    """Translate the nodes of a chain.

    Parameters
    ----------
    chain
        The nodes.
    scale, shift
        What makes the graph's input of levels from 0 to 255. By default the graph takes levels if
        it takes bytes or makes them less than a tenth, otherwise numbers from 0 to 1.

    Raises
    ------
    DataError
        A node cannot be expressed; it is named with its operator.
    """
    image, places = _input(chain)
    made = Translation(chain, image, places, 1.0, 0.0)
    for node in chain.nodes:
        translate = TRANSLATIONS.get(node.operator)
        if translate is None:
            raise node.refuse()
        if made.is_softmax and node.operator not in ("Identity", "Cast"):
            raise node.refuse("after Softmax cannot be imported")
        if made.margins and node.operator not in (*POOLINGS, "Conv", "Identity"):
            raise node.refuse("after Pad cannot be imported")
        translate(made, node)
    if made.margins:
        raise chain.nodes[-1].refuse("at the end cannot be imported")
    levels = chain.input_type == "UINT8" or abs(made.scale) < 0.1
    scale = scale if scale is not None else 1.0 if levels else 1 / 255
    shift = 0.0 if shift is None else shift
    background = (made.background - shift) / scale if scale else -1.0
    if made.padded is None:
        made.background = 0
    elif np.isfinite(background) and 0 <= round(background) <= 255:
        made.background = round(background)
        if abs(background - made.background) > 1e-3:
            raise made.padded.refuse(f"with {made.background:g}, no level of an image")
    else:
        raise made.padded.refuse("with what is no level of an image")
    made.levels = (scale, shift)
    made.scale, made.shift = made.scale * scale, made.scale * shift + made.shift
    made.steps = _simplified(made.steps)
    return made


def _input(chain: Chain) -> tuple[Shape, NDArray[np.intp]]:
    """Return the shape (C,H,W) of the images and the order of the graph's input."""
    dims = chain.input_dims[1:]
    if not 1 <= len(dims) <= 3 or not all(0 < n < 2**20 for n in dims):
        raise DataError(
            f"its input has the dimensions {chain.input_dims}",
            remedy="export it with an input (N,C,H,W), (N,H,W,C) or (N,D), all known but N",
            key="graph",
        )
    if prod(dims) > MAX_ACTIVATIONS:
        raise DataError(
            f"its input has {prod(dims):,} numbers",
            remedy=f"use at most {MAX_ACTIVATIONS:,}",
            key="graph",
        )
    if len(dims) == 1:
        side = isqrt(dims[0])
        image = (1, side, side) if side * side == dims[0] else (1, 1, dims[0])
        return image, np.arange(dims[0])
    if len(dims) == 2:
        return (1, *dims), np.arange(prod(dims)).reshape(dims)
    channels = (1, 3, 4)
    if dims[2] in channels and dims[0] not in channels:
        image = (dims[2], dims[0], dims[1])
        return image, np.arange(prod(dims)).reshape(image).transpose(1, 2, 0)
    return (dims[0], dims[1], dims[2]), np.arange(prod(dims)).reshape(dims)


# --- Operators with weights -----------------------------------------------------------------------


def _weights(made: Translation, node: Node, place: int, ndim: int | None = None) -> Array | None:
    """Return an input that must be a constant of floats, or None if it is left out."""
    name = node.proto.input[place] if place < len(node.proto.input) else ""
    if not name:
        return None
    array = made.chain.constant(name)
    if array is None or array.dtype.kind != "f" or ndim not in (None, array.ndim):
        raise node.refuse(f"whose input {place + 1} is no constant of {ndim or 'any'} dimensions")
    if not np.isfinite(array).all():
        raise node.refuse(f"whose input {place + 1} is not finite")
    return array


def _needed(made: Translation, node: Node, place: int, ndim: int | None = None) -> Array:
    array = _weights(made, node, place, ndim)
    if array is None or node.proto.input[0] != node.value:
        raise node.refuse(f"without a constant as input {place + 1} cannot be imported")
    return array


def _edges(
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


def _conv(made: Translation, node: Node) -> None:
    made.require_image(node)
    weight = _needed(made, node, 1, 4)
    bias = _weights(made, node, 2, 1)
    kernel = list(weight.shape[2:])
    if node.numbers("kernel_shape", kernel) != kernel:
        raise node.refuse("has a kernel_shape that is not its weights'")
    stride, dilation = node.numbers("strides", (1, 1)), node.numbers("dilations", (1, 1))
    padding = _edges(node, made.shape, kernel, stride, dilation)
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
        raise node.refuse(f"of values of the shape (N,{_numbers(made.places.shape)})")
    F = len(weight)
    if bias is not None and bias.shape not in ((), (1,), (F,), (1, F)):
        raise node.refuse(f"has a bias of the shape {bias.shape}")
    ordered = np.empty_like(weight)
    ordered[:, made.places] = weight
    given = np.zeros(F) if bias is None else np.broadcast_to(bias.reshape(-1), (F,))
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
    if made.places.shape != made.shape or not made._in_order(made.places):
        raise node.refuse(f"of values of the shape (N,{_numbers(made.places.shape)})")
    weight, bias, mean, variance = (_needed(made, node, k, 1) for k in (1, 2, 3, 4))
    if {len(weight), len(mean), len(variance)} != {made.shape[0]} or variance.min() < 0:
        raise node.refuse("has a wrong mean or variance")
    arrays = {"weight": weight, "bias": bias, "mean": mean, "variance": variance}
    epsilon = float(np.float32(node.number("epsilon", EPSILON)))
    factor = weight / np.sqrt(variance.astype(np.float64) + epsilon)
    columns = (-1, *[1] * (len(made.shape) - 1))
    offset = bias - mean * factor
    made.normalizations[node.proto.output[0]] = factor.reshape(columns), offset.reshape(columns)
    made.layer(node, "batch_normalization", arrays, epsilon=epsilon)


# --- Pooling --------------------------------------------------------------------------------------


def _pooling(made: Translation, node: Node) -> None:
    made.require_image(node)
    is_maximum = node.operator == "MaxPool"
    kernel = node.numbers("kernel_shape", (1, 1))
    stride, dilation = node.numbers("strides", (1, 1)), node.numbers("dilations", (1, 1))
    options: dict[str, Any] = {}
    padding = _edges(node, made.shape, kernel, stride, dilation)
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


def _global_pooling(made: Translation, node: Node) -> None:
    made.require_image(node)
    if made.margins:
        raise node.refuse("after Pad cannot be imported")
    kind = "max_pooling" if node.operator == "GlobalMaxPool" else "average_pooling"
    made.layer(node, kind, kernel=list(made.shape[1:]))


def _pad(made: Translation, node: Node) -> None:
    """Pad raw images as the preprocessing does, or leave the padding for the next layer."""
    pads, value = node.attributes.get("pads"), node.attributes.get("value", 0.0)
    if pads is None:
        given = made.chain.constant(node.proto.input[1]) if len(node.proto.input) > 1 else None
        pads = None if given is None or given.dtype.kind != "i" else given.tolist()
        if len(node.proto.input) > 3 and node.proto.input[3]:
            raise node.refuse("with axes cannot be imported")
        if len(node.proto.input) > 2 and node.proto.input[2]:
            fill = made.chain.constant(node.proto.input[2])
            value = None if fill is None or fill.size != 1 else float(fill.reshape(()))
    constant = node.attributes.get("mode", b"constant") == b"constant"
    if not isinstance(pads, list) or not isinstance(value, int | float) or not constant:
        raise node.refuse("with this padding cannot be imported")
    if len(pads) != 8 or not all(type(n) is int and 0 <= n < 2**15 for n in pads):
        raise node.refuse("with this padding cannot be imported")
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


# --- Arithmetic with constants --------------------------------------------------------------------


def _arithmetic(made: Translation, node: Node) -> None:
    first = node.proto.input[0] == node.value
    other = node.proto.input[1 if first else 0] if len(node.proto.input) == 2 else ""
    constant = made.chain.constant(other)
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


# --- Order and shape ------------------------------------------------------------------------------


def _reshaped(made: Translation, node: Node, target: list[int]) -> None:
    """Reshape to dimensions in which 0 is the one before, and -1 what is left."""
    batch, places = made.chain.input_dims[0], made.places
    dims = [
        places.shape[k - 1] if n == 0 and 0 < k <= places.ndim else n for k, n in enumerate(target)
    ]
    if not dims or dims[0] not in {0, -1, batch} or len(dims) > 6:
        raise node.refuse(f"to {target[:8]} does not keep the images apart")
    rest = dims[1:]
    if rest.count(-1) == 1 and dims[0] != -1:
        others = -prod(rest)
        rest = [places.size // others if n == -1 and others > 0 else n for n in rest]
    if any(n < 1 for n in rest) or prod(rest) != places.size:
        raise node.refuse(f"to {target[:8]} does not fit {places.size} numbers")
    made.places = places.reshape(rest)


def _reshape(made: Translation, node: Node) -> None:
    target = _shape_vector(made, node.proto.input[1] if len(node.proto.input) > 1 else "")
    if target is None or node.number("allowzero", 0):
        raise node.refuse("to a shape that is no constant cannot be imported")
    _reshaped(made, node, target)


def _shape_vector(made: Translation, name: str, depth: int = 20) -> list[int] | None:
    """Return a shape that is constant or computed from a value's shape; 0 stands for N.

    PyTorch writes ``x.view(x.size(0), -1)`` as Shape, Gather, Unsqueeze and Concat.
    """
    constant = made.chain.constant(name)
    if constant is not None:
        whole = constant.dtype.kind == "i" and constant.ndim <= 1 and constant.size <= 8
        return [int(n) for n in constant.reshape(-1)] if whole else None
    producer = made.chain.producers.get(name)
    if producer is None or depth == 0:
        return None
    match producer.op_type:
        case "Gather" if len(producer.input) == 2:
            source = made.chain.producers.get(producer.input[0])
            index = _shape_vector(made, producer.input[1], depth - 1)
            is_batch = source is not None and source.op_type == "Shape" and index == [0]
            return [0] if is_batch else None
        case "Unsqueeze" | "Cast" | "Squeeze" if producer.input:
            return _shape_vector(made, producer.input[0], depth - 1)
        case "Concat" if len(producer.input) <= 8:
            parts = [_shape_vector(made, part, depth - 1) for part in producer.input]
            return None if None in parts else [n for part in parts if part for n in part]
    return None


def _flatten(made: Translation, node: Node) -> None:
    if node.number("axis", 1) not in (1, -made.places.ndim):
        raise node.refuse("of these axes cannot be imported")
    made.places = made.places.reshape(-1)


def _transpose(made: Translation, node: Node) -> None:
    order = node.numbers("perm", range(made.places.ndim, -1, -1))
    if order[0] != 0 or sorted(order) != list(range(made.places.ndim + 1)):
        raise node.refuse("of the first axis cannot be imported")
    made.places = made.places.transpose([axis - 1 for axis in order[1:]])


# --- Others ---------------------------------------------------------------------------------------


def _activation(made: Translation, node: Node) -> None:
    made.layer(node, {"Relu": "relu", "Sigmoid": "sigmoid", "Tanh": "tanh"}[node.operator])


def _dropout(made: Translation, node: Node) -> None:
    rate = node.attributes.get("ratio", 0.5)
    given = made.chain.constant(node.proto.input[1]) if len(node.proto.input) > 1 else None
    if given is not None and given.size == 1:
        rate = float(given.reshape(()))
    made.layer(node, "dropout", rate=rate)


def _softmax(made: Translation, node: Node) -> None:
    """Leave it out: this package's networks end with the scores."""
    if made.places.ndim != 1 or node.number("axis", 1) not in (1, -1):
        raise node.refuse("of these axes cannot be imported")
    made.is_softmax, made.softmax_input = True, node.value


def _cast(_made: Translation, node: Node) -> None:
    names = {1: "FLOAT", 10: "FLOAT16", 11: "DOUBLE"}
    if names.get(int(node.number("to", 0))) not in FLOATS:
        raise node.refuse("to another type than float cannot be imported")


def _nothing(_made: Translation, _node: Node) -> None:
    """Translate what changes nothing."""


POOLINGS: Final = ("MaxPool", "AveragePool")
TRANSLATIONS: Final[dict[str, Callable[[Translation, Node], None]]] = {
    "Conv": _conv,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "BatchNormalization": _batch_normalization,
    **dict.fromkeys(POOLINGS, _pooling),
    **dict.fromkeys(("GlobalMaxPool", "GlobalAveragePool"), _global_pooling),
    "Pad": _pad,
    **dict.fromkeys(("Add", "Sub", "Mul", "Div"), _arithmetic),
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Transpose": _transpose,
    **dict.fromkeys(("Relu", "Sigmoid", "Tanh"), _activation),
    "Dropout": _dropout,
    **dict.fromkeys(("Softmax", "LogSoftmax"), _softmax),
    "Cast": _cast,
    "Identity": _nothing,
}


# --- Products and sums ----------------------------------------------------------------------------


def _simplified(steps: list[Step]) -> list[Step]:
    """Make layers of all products and sums of constants."""
    result: list[Step] = []
    for step in _with_lecun_tanh(steps):
        before = result[-1] if result else None
        if step.entry or before is None:
            result.append(step)
        elif not before.entry:
            a, b = step.arrays["factor"], step.arrays["offset"]
            arrays = {
                "factor": a * before.arrays["factor"],
                "offset": a * before.arrays["offset"] + b,
            }
            result[-1] = replace(before, arrays=arrays)
        elif before.entry["type"] in ("linear", "convolution"):
            a, b = step.arrays["factor"], step.arrays["offset"]
            columns = (-1, *[1] * (before.arrays["weight"].ndim - 1))
            weight = before.arrays["weight"] * a.reshape(columns)
            arrays = {"weight": weight, "bias": before.arrays["bias"] * a + b}
            result[-1] = replace(before, arrays=arrays)
        else:
            result.append(step)
    return [step if step.entry else _as_normalization(step) for step in result]


def _with_lecun_tanh(steps: list[Step]) -> list[Step]:
    """Put this layer in the place of tanh between its two products."""
    result: list[Step] = []
    for step in steps:
        result.append(step)
        if len(result) >= 3 and result[-2].entry.get("type") == "tanh":
            inner, outer = result[-3], result[-1]
            if all(
                not one.entry
                and not one.arrays["offset"].any()
                and np.allclose(one.arrays["factor"], number, rtol=1e-6)
                for one, number in ((inner, LeCunTanh.S), (outer, LeCunTanh.A))
            ):
                result[-3:] = [Step({"type": "lecun_tanh"}, {}, inner.shape)]
    return result


def _as_normalization(step: Step) -> Step:
    """Return factors and offsets as a batch normalization whose mean is 0 and variance 1."""
    C = step.shape[0]
    arrays = {
        "weight": step.arrays["factor"],
        "bias": step.arrays["offset"],
        "mean": np.zeros(C),
        "variance": np.full(C, 1 - EPSILON),
    }
    return replace(step, entry={"type": "batch_normalization", "epsilon": EPSILON}, arrays=arrays)


def _numbers(shape: Shape) -> str:
    return ",".join(map(str, shape))
