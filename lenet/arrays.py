"""Arrays: the names of their types and shapes, and where they start in memory.

A vector of the processor is loaded from one cache line if the array starts at one, and otherwise
from two. NumPy's own arrays start anywhere; :func:`aligned` makes one that starts at a cache line.

NumPy computes on rows that are not contiguous through a buffer of 8,192 numbers if three of the
rows fit into it, even where no type has to be converted: comparisons of the 2,688 numbers that a
row of LeNet-5's C1 has with 32 images then take twice as long. Into a buffer of 1,024, few rows fit
three times. An even smaller one slows down what has to be converted, such as masks.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

BUFFER = 1024  # numbers
CACHE_LINE = 64  # bytes

Shape: TypeAlias = tuple[int, ...]
Array: TypeAlias = NDArray[Any]
Pair: TypeAlias = int | tuple[int, ...]
Padding: TypeAlias = int | tuple[int, ...]
Edges: TypeAlias = tuple[int, int, int, int]
"""Zeros above, to the left, below and to the right of an image."""


def pair(value: Pair, least: int = 0) -> tuple[int, int]:
    """Return ``value`` as a (vertical, horizontal) pair of integers of at least ``least``.

    Raises
    ------
    ValueError
        Not one or two integers, or below ``least``.

    Examples
    --------
    >>> pair(5), pair((3, 1))
    ((5, 5), (3, 1))
    """
    both = value if isinstance(value, tuple | list) else (value, value)
    whole = all(isinstance(v, int | np.integer) and not isinstance(v, bool) for v in both)
    if len(both) != 2 or not whole or min(both) < least:
        raise ValueError(f"must be one or two integers of {least} or more, is {value!r}")
    return int(both[0]), int(both[1])


def padding_edges(padding: Padding) -> Edges:
    """Return ``padding`` as (top, left, bottom, right).

    Parameters
    ----------
    padding
        A number for all sides, a pair (vertical, horizontal), or all four.

    Raises
    ------
    ValueError
        Not one, two or four integers, or one below 0.

    Examples
    --------
    >>> padding_edges(1), padding_edges((2, 0)), padding_edges((0, 0, 1, 1))
    ((1, 1, 1, 1), (2, 0, 2, 0), (0, 0, 1, 1))
    """
    if isinstance(padding, tuple | list) and len(padding) == 4:
        return (*pair(padding[:2]), *pair(padding[2:]))
    vertical, horizontal = pair(padding)
    return vertical, horizontal, vertical, horizontal


def shortest(edges: Edges) -> tuple[int, ...]:
    """Return edges as the pair (vertical, horizontal) where opposite sides are equal.

    Examples
    --------
    >>> shortest((1, 2, 1, 2)), shortest((0, 0, 1, 1))
    ((1, 2), (0, 0, 1, 1))
    """
    top, left, bottom, right = edges
    return (top, left) if (top, left) == (bottom, right) else edges


def aligned(shape: tuple[int, ...], dtype: DTypeLike) -> Array:
    """Return an uninitialised array that starts at a cache line.

    Examples
    --------
    >>> aligned((2, 3), np.float32).ctypes.data % CACHE_LINE
    0
    """
    size = prod(shape) * np.dtype(dtype).itemsize
    memory = np.empty(size + CACHE_LINE, np.uint8)
    start = -memory.ctypes.data % CACHE_LINE
    return memory[start : start + size].view(dtype).reshape(shape)


@contextmanager
def small_buffer() -> Iterator[None]:
    """Let NumPy buffer at most :data:`BUFFER` numbers; for a ``with`` block, or as a decorator.

    Examples
    --------
    >>> with small_buffer():
    ...     np.getbufsize()
    1024
    >>> np.getbufsize()
    8192
    """
    with np.errstate():  # restores the buffer, too
        np.setbufsize(BUFFER)
        yield
