"""Operators without weights: pooling, padding, and those that change a value's shape or order."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from lenet.arrays import Edges, Shape
from lenet.targets.onnx.graph import Node
from lenet.targets.onnx.translation import BATCH, MAX_ACTIVATIONS, Translation


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
