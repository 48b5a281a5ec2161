"""NumPy's buffer, in a size that suits the layers.

NumPy computes on rows that are not contiguous through a buffer of 8,192 numbers if three of the
rows fit into it, even where no type has to be converted: comparisons of the 2,688 numbers that a
row of LeNet-5's C1 has with 32 images then take twice as long. Into a buffer of 1,024, few rows fit
three times. An even smaller one slows down what has to be converted, such as masks.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

BUFFER = 1024  # numbers


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
