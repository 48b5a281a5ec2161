"""A network in the making: the layers so far, and the order of the numbers between them.

The numbers of an image have an order in the file that may differ from this package's: networks of
Keras store channels last. :attr:`Translation.places` states, in the shape that the file's value
has, which number of this package's activation (C,H,W), counted from 0, is at each place.
Transposing and reshaping a value transposes and reshapes these; the weights of the next linear
layer are put in order accordingly.

Products with constants and sums with constants become part of the preprocessing (before the first
layer), of the layer before them (:func:`simplified`), or a batch normalization.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import isqrt, prod
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lenet.arrays import Array, Edges, Shape
from lenet.errors import ConfigError, DataError
from lenet.models.specification import build_layers, entry_of
from lenet.nn.activations import LeCunTanh
from lenet.targets.onnx.graph import Graph, Node

MAX_ACTIVATIONS: Final = 1 << 21  # numbers of a layer's output, for one image
MAX_WEIGHTS: Final = 1 << 27
MAX_PRODUCTS: Final = 1 << 31  # multiply-adds for one image
BATCH: Final = 2**31 - 1  # stands for the number of images, in shapes that are computed: a prime
EPSILON: Final = 1e-5


@dataclass
class Step:
    """A layer as its entry and arrays; without an entry, factor and offset for each channel."""

    entry: dict[str, Any]
    arrays: dict[str, Array]
    shape: Shape
    """Of what comes in."""


@dataclass
class Pixels:
    """A factor and an offset for each number of an image, until a linear layer takes them."""

    node: Node
    factor: Array
    offset: Array


@dataclass
class Translation:
    """A network in the making. See the head of this file."""

    graph: Graph
    image: Shape
    places: NDArray[np.intp]
    scale: float
    shift: float
    background: float = 0.0
    padded: Node | None = None
    """Pads images with the background."""
    steps: list[Step] = field(default_factory=list)
    margins: tuple[Edges, float] | None = None
    """Padding for the next layer, and its value."""
    pixels: Pixels | None = None
    """Products and sums that the next layer is to include."""
    products: int = 0
    left_out: Node | None = None
    """The activation at the end, Softmax or Sigmoid, which is not imported."""
    chain: list[Node] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.value = self.graph.input_name
        self.input_shape: Shape = self.image
        self.shape: Shape = self.image
        self.input_places = self.places
        self.levels = (1.0, 0.0)
        self.normalizations: dict[str, tuple[Array, Array]] = {}
        self.dims: dict[str, Shape] = {self.value: self.places.shape}

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
        if not self.steps and factor.size == offset.size == 1 and self.pixels is None:
            a, b = float(factor.reshape(())), float(offset.reshape(()))
            self.scale, self.shift = a * self.scale, a * self.shift + b
            return
        factors, offsets = self._by_number(node, factor), self._by_number(node, offset)
        if self.pixels is not None:
            offsets = factors * self.pixels.offset + offsets
            factors = factors * self.pixels.factor
        rows = np.stack([factors, offsets]).reshape(2, self.shape[0], -1)
        if (rows == rows[:, :, :1]).all():
            arrays = {"factor": rows[0, :, 0], "offset": rows[1, :, 0]}
            self.steps.append(Step({}, arrays, self.shape))
            self.pixels = None
        else:
            self.pixels = Pixels(node, factors, offsets)

    def _by_number(self, node: Node, constant: Array) -> Array:
        """Return a constant for each number of the activation, in this package's order."""
        try:
            full = np.broadcast_to(constant, (1, *self.places.shape))
        except ValueError:
            raise node.refuse(f"with a constant of the shape {constant.shape}") from None
        ordered = np.empty(self.places.size)
        ordered[self.places.ravel()] = full.ravel()
        return ordered

    def require_image(self, node: Node) -> None:
        """Refuse a value whose axes are not (N,C,H,W) of this package's activation."""
        is_input = not self.steps and self.shape == self.image
        if is_input and self.places.ndim == 3 and self._in_order(self.places):
            # A flat input that was reshaped to images has their shape.
            self.image = self.input_shape = self.shape = self.places.shape
        self.require_order(node)

    def require_channels(self, node: Node) -> None:
        """Refuse a value whose first axis is not the channels of this package's activation."""
        if self.places.shape[0] != self.shape[0] or not self._in_order(self.places):
            raise self.refuse_shape(node)

    def require_order(self, node: Node) -> None:
        """Refuse a value that is not this package's activation with the batch first."""
        if self.places.shape != self.shape or not self._in_order(self.places):
            raise self.refuse_shape(node)

    def refuse_shape(self, node: Node) -> DataError:
        """Return an error that names the node and the shape of the value that it takes."""
        return node.refuse(f"of values of the shape (N,{','.join(map(str, self.places.shape))})")

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


def image_of(graph: Graph) -> tuple[Shape, NDArray[np.intp]]:
    """Return the shape (C,H,W) of the images and the order of the graph's input."""
    dims = graph.input_dims[1:]
    if not 1 <= len(dims) <= 3 or not all(0 < n < 2**20 for n in dims):
        raise DataError(
            f"its input has the dimensions {graph.input_dims}",
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


# --- Products and sums of constants, made part of the layers before them -------------------------


def simplified(steps: list[Step]) -> list[Step]:
    """Make layers of all products and sums of constants."""
    result: list[Step] = []
    for step in _with_lecun_tanh(steps):
        before = result[-1] if result else None
        if step.entry or before is None:
            result.append(step)
            continue
        a, b = step.arrays["factor"], step.arrays["offset"]
        if not before.entry:
            factor, offset = a * before.arrays["factor"], a * before.arrays["offset"] + b
            result[-1] = replace(before, arrays={"factor": factor, "offset": offset})
        elif before.entry["type"] in ("linear", "convolution"):
            columns = (-1, *[1] * (before.arrays["weight"].ndim - 1))
            weight = before.arrays["weight"] * a.reshape(columns)
            bias = before.arrays["bias"] * a + b
            result[-1] = replace(before, arrays={"weight": weight, "bias": bias})
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
