"""Where arrays start in memory, and NumPy's buffer in a size that suits the layers.

A vector of the processor is loaded from one cache line if the array starts at one, and otherwise
from two. NumPy's own arrays start anywhere.

NumPy computes on rows that are not contiguous through a buffer of 8,192 numbers if three of the
rows fit into it, even where no type has to be converted: comparisons of the 2,688 numbers that a
row of LeNet-5's C1 has with 32 images then take twice as long. Into a buffer of 1,024, few rows fit
three times. An even smaller one slows down what has to be converted, such as masks.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import prod

import numpy as np
from numpy.typing import DTypeLike

from lenet.nn.im2col import Array

BUFFER = 1024  # numbers
CACHE_LINE = 64  # bytes


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
