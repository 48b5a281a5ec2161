"""NumPy's buffer for operands whose type is converted, in a size that suits the layers.

NumPy computes ``a > b`` and ``x * mask`` through a buffer of 8,192 numbers: if rows are not
contiguous and several fit into it, they are copied, even those that need no conversion. A row of
LeNet-5's C1 has 2,688 numbers in a batch of 32 images, three of which fit. In a buffer of 2,048
they do not, and comparing them takes half the time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

BUFFER = 2048  # numbers


@contextmanager
def small_buffer() -> Iterator[None]:
    """Let NumPy buffer at most :data:`BUFFER` numbers; for a ``with`` block, or as a decorator.

    Examples
    --------
    >>> with small_buffer():
    ...     np.getbufsize()
    2048
    >>> np.getbufsize()
    8192
    """
    with np.errstate():  # restores the buffer, too
        np.setbufsize(BUFFER)
        yield
