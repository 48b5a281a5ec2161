"""The cut of a long product into blocks of columns."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from lenet.nn.gemm import block_count, column_blocks


@settings(deadline=None, derandomize=True)
@given(
    *(st.integers(1, 9), st.integers(1, 9), st.integers(1, 60), st.integers(1, 5000)),
    st.none() | st.integers(1, 60),
)
def test_the_smallest_number_of_equal_blocks_within_the_limit(rows, inner, columns, block, least):
    narrow = max(1, columns // (rows if least is None else least))
    fitting = [
        count
        for count in range(1, columns + 1)
        if columns % count == 0 and (rows * inner * columns // count <= block or count >= narrow)
    ]
    assert block_count(rows, inner, columns, block, least=least) == min(fitting)


def test_the_weight_gradients_of_many_filters_take_no_more_memory_than_the_patches():
    rows, inner, columns = 256, 2400, 1200
    blocks = block_count(rows, inner, columns, 1_000_000)
    assert blocks * rows * inner <= inner * columns


def test_column_blocks_are_a_view_in_order():
    matrix = np.arange(24.0).reshape(2, 2, 6)
    blocks = column_blocks(matrix, 3)
    assert np.shares_memory(blocks, matrix)
    assert blocks.shape == (2, 3, 2, 2)
    assert_array_equal(np.concatenate(list(blocks.swapaxes(0, 1)), axis=-1), matrix)
