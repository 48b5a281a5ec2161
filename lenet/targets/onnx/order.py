"""Operators that change the shape of a value or the order of its numbers."""

from __future__ import annotations

from math import prod

import numpy as np

from lenet.targets.onnx.graph import Node
from lenet.targets.onnx.integers import integers
from lenet.targets.onnx.translation import Translation


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


def reshape(made: Translation, node: Node) -> None:
    """Reshape to a constant, or to what is computed from shapes."""
    name = node.proto.input[1] if len(node.proto.input) > 1 else ""
    target, constant = integers(made, name), made.chain.constant(name)
    if target is None or target.ndim != 1:
        raise node.refuse("to a shape that is no constant cannot be imported")
    if node.number("allowzero", 0) and constant is not None and not target.all():
        raise node.refuse("to no numbers cannot be imported")
    _reshaped(made, node, target.tolist())


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
    if len(node.proto.input) > 1:
        given = integers(made, node.proto.input[1])
        axes = None if given is None else given.ravel().tolist()
    if not isinstance(axes, list) or not all(type(n) is int for n in axes) or not axes:
        raise node.refuse("of these axes cannot be imported")
    return axes
