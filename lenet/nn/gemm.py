"""Long matrix products, cut into blocks of columns that stay in the cache.

The patch matrix of a batch is long and thin: tens of rows, tens of thousands of columns. A BLAS
multiplies such a matrix fastest in blocks that stay in the cache and below the size at which it
starts to repack its operands: OpenBLAS has a kernel without repacking for products of up to 10⁶
multiply-adds, which on one machine took the weight gradient of C1 from 51 to 108 GFLOP/s. The limit
is set in the configuration (``train.block``), and is the same for all layers; the blocks follow
from the shapes alone, so the same configuration gives the same bits.
"""

from __future__ import annotations

from lenet.arrays import Array

DEFAULT_BLOCK = 1_000_000


def block_count(
    rows: int, inner: int, columns: int, block: int, *, least: int | None = None
) -> int:
    """Return the smallest number of equal blocks of columns that keeps a product within ``block``.

    A product (rows × inner)·(inner × columns) costs rows·inner·columns multiply-adds; the count
    divides ``columns``. A block may cost more than that where it would have fewer columns than
    ``least``, by default as many as rows.

    Examples
    --------
    C3 of 32 images, 16×150 times 150×3,200, in blocks of at most a million multiply-adds:

    >>> block_count(16, 150, 3200, block=1_000_000)
    8
    """
    count = min(max(1, columns // (least or rows)), -(-rows * inner * columns // block))
    while columns % count:
        count += 1
    return count


def column_blocks(matrix: Array, count: int) -> Array:
    """View a matrix (…, M, P) as (…, count, M, P/count): a stack of blocks of its columns."""
    *stack, M, P = matrix.shape
    blocks = matrix.reshape(*stack, M, count, P // count)
    return blocks.swapaxes(-3, -2)
