"""Small arrays of integers that a graph computes: the targets of Reshape, and paddings.

PyTorch writes ``x.view(x.size(0), -1)`` as Shape, Gather, Unsqueeze and Concat, and ``F.pad`` as
ConstantOfShape, Concat, Reshape, Slice and Transpose; tf2onnx writes Flatten as Shape, Gather,
Cast, Slice and Concat.
"""

from __future__ import annotations

from math import prod
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lenet.targets.onnx.translation import Translation

Integers = NDArray[np.int64]

MAX_SIZE: Final = 64  # numbers
MAX_DEPTH: Final = 20  # nodes, one behind the other


def integers(made: Translation, name: str) -> Integers | None:
    """Return integers that are constant or computed from shapes; 0 stands for N.

    They have at least one dimension. None: the value is something else.
    """
    return _integers(made, name, {}, MAX_DEPTH)


def _integers(
    made: Translation, name: str, known: dict[str, Integers | None], depth: int
) -> Integers | None:
    """Return a value of :func:`integers`, computed once however often it is used."""
    if name not in known:
        value = _constant_or_computed(made, name, known, depth)
        known[name] = value if value is not None and value.size <= MAX_SIZE else None
    return known[name]


def _constant_or_computed(
    made: Translation, name: str, known: dict[str, Integers | None], depth: int
) -> Integers | None:
    constant = made.chain.constant(name)
    if constant is not None:
        is_small = constant.dtype.kind == "i" and constant.size <= MAX_SIZE
        return np.atleast_1d(constant).astype(np.int64) if is_small else None
    node = made.chain.producers.get(name)
    if node is None or depth == 0 or len(node.input) > 8:
        return None
    if node.op_type == "Shape":
        dims = made.dims.get(node.input[0]) if node.input else None
        return None if dims is None else np.array([0, *dims])
    values = [_integers(made, value, known, depth - 1) for value in node.input]
    given = [value for value in values if value is not None]
    if len(given) < len(values) or not given:
        return None
    try:
        return _computed(node, given)
    except (ValueError, IndexError, TypeError):
        return None


def _computed(node: Any, values: list[Integers]) -> Integers | None:  # noqa: ANN401
    """Return the value of a node.

    Raises
    ------
    ValueError, IndexError, TypeError
        The values do not fit the operator.
    """
    first, *others = values
    match node.op_type:
        case "Cast" | "Squeeze" | "Unsqueeze":  # of a number, or of a list to a list
            return first
        case "Gather" if first.ndim == 1:
            return first[others[0]]
        case "Concat":
            return np.concatenate(values)
        case "Mul" if first.all() and others[0].all():  # neither is N
            return first * others[0]
        case "Slice" if len(others) >= 2 and (len(others) == 2 or not others[2].any()):
            step = others[3] if len(others) == 4 else [1]
            return first[slice(*(int(bound[0]) for bound in (*others[:2], step)))]
        case "Reshape":
            return first.reshape(others[0])
        case "Transpose" if first.ndim == 2:
            return first.T
        case "ConstantOfShape" if prod(first.tolist()) <= MAX_SIZE:
            return np.zeros(first, np.int64)
    return None
