"""A network at a glance: shapes, patch matrices, weights, receptive fields, multiply-adds.

On top of the layers. What docs/derivation.md works out by hand,
read off the layers themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lenet.nn.activations import Activation
from lenet.nn.layer import Layer, Shape
from lenet.nn.linear import Linear

Window = tuple[tuple[int, int], tuple[int, int]]  # kernel and stride


@dataclass(frozen=True)
class Row:
    """What there is to say about a layer.

    ``patch_matrix`` is that of one image, (rows, columns): N images have N times the rows.
    ``receptive_field`` is the height and width of the patch of the input, in pixels, that one
    output depends on. ``multiply_adds`` are those of the forward pass of one image.
    """

    layer: str
    output_shape: Shape
    patch_matrix: tuple[int, int] | None
    weights: int
    receptive_field: tuple[int, int]
    multiply_adds: int


def summarize(layers: Sequence[Layer], input_shape: Shape) -> list[Row]:
    """Build the layers for images of ``input_shape`` and return a row for each.

    Parameters
    ----------
    layers
        Convolutions, poolings, activations (which are left out) and linear layers that belong to
        no network: they are built here.
    input_shape
        The shape (C,H,W) of an image.

    Raises
    ------
    ConfigError
        A layer does not fit the output of the one before it.

    Examples
    --------
    >>> from lenet.models.lenet5 import lenet5_layers
    >>> for row in summarize(lenet5_layers(), (1, 32, 32))[:3]:
    ...     print(row.layer, row.output_shape, row.patch_matrix, row.receptive_field)
    C1 (6, 28, 28) (784, 25) (5, 5)
    S2 (6, 14, 14) (1176, 4) (6, 6)
    C3 (16, 10, 10) (100, 150) (14, 14)
    """
    rows: list[Row] = []
    windows: list[Window] = []
    shape = input_shape
    for layer in layers:
        seen = layer.kernel
        if isinstance(layer, Linear) and len(shape) == 3:
            seen = shape[1], shape[2]
        windows.append((seen, layer.stride))
        shape = layer.build(shape)
        if isinstance(layer, Activation):
            continue
        weights = sum(p.size for p in layer.parameters)
        field = receptive_field(windows)
        rows.append(Row(layer.name, shape, layer.patch_matrix, weights, field, layer.multiply_adds))
    return rows


def receptive_field(windows: Sequence[Window]) -> tuple[int, int]:
    """Return height and width of the input patch that one output of the last layer depends on.

    From the last layer down RF_i = (RF_{i+1} − 1)·s_i + k_i, and 1 above the last
    (docs/derivation.md, 12).

    Examples
    --------
    A convolution 5×5 and a pooling 2×2:

    >>> receptive_field([((5, 5), (1, 1)), ((2, 2), (2, 2))])
    (6, 6)
    """
    height = width = 1
    for (kh, kw), (sh, sw) in reversed(windows):
        height, width = (height - 1) * sh + kh, (width - 1) * sw + kw
    return height, width


def to_table(rows: Sequence[Row]) -> str:
    """Return aligned text, a line a layer and one with the totals."""
    cells = [
        ("layer", "output", "patch matrix", "weights", "receptive field", "multiply-adds"),
        *(
            (
                row.layer,
                _times(row.output_shape),
                _batch_matrix(row.patch_matrix) if row.patch_matrix else "",
                f"{row.weights:,}",
                _times(row.receptive_field),
                f"{row.multiply_adds:,}",
            )
            for row in rows
        ),
        (
            "total",
            "",
            "",
            f"{sum(row.weights for row in rows):,}",
            "",
            f"{sum(row.multiply_adds for row in rows):,}",
        ),
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    first, *others = widths
    return "\n".join(
        "  ".join([line[0].ljust(first), *map(str.rjust, line[1:], others)]) for line in cells
    )


def _batch_matrix(matrix: tuple[int, int]) -> str:
    rows, columns = matrix
    return f"N·{rows} × {columns}" if rows > 1 else f"N × {columns}"


def _times(shape: Shape) -> str:
    return "×".join(map(str, shape))
