"""The summary of a network: shapes, patch matrices, weights, receptive fields, multiply-adds.

The numbers that docs/derivation.md computes by hand, computed from the layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor

from lenet.arrays import Shape
from lenet.nn.activations import Activation
from lenet.nn.layer import Layer, Window
from lenet.system.text import table


@dataclass(frozen=True)
class LayerSummary:
    """The line of a layer in the summary of its network.

    ``type`` is the name of its class. ``patch_matrix`` is that of one image, (rows, columns): N
    images have N times the rows. ``receptive_field`` is the height and width of the patch of the
    input, in pixels, that one output depends on. ``multiply_adds`` are those of the forward pass
    of one image, and ``connections`` what LeCun et al. (1998) count, biases included.
    """

    layer: str
    type: str
    output_shape: Shape
    patch_matrix: tuple[int, int] | None
    weights: int
    receptive_field: tuple[int, int]
    multiply_adds: int
    connections: int


def summarize(layers: Sequence[Layer], input_shape: Shape) -> list[LayerSummary]:
    """Build the layers for images of ``input_shape`` and return a row for each.

    Examples
    --------
    >>> from lenet.models.lenet5 import lenet5_layers
    >>> for row in summarize(lenet5_layers(), (1, 32, 32))[:3]:
    ...     print(row.layer, row.output_shape, row.patch_matrix, row.receptive_field)
    C1 (6, 28, 28) (784, 25) (5, 5)
    S2 (6, 14, 14) (1176, 4) (6, 6)
    C3 (16, 10, 10) (100, 150) (14, 14)
    """
    shapes: list[Shape] = []
    for layer in layers:
        shapes.append(layer.build(shapes[-1] if shapes else input_shape))
    return describe(layers, shapes)


def describe(layers: Sequence[Layer], output_shapes: Sequence[Shape]) -> list[LayerSummary]:
    """Return a row for each of the layers, which have been built; none for activations."""
    return [
        LayerSummary(
            layer.name,
            type(layer).__name__,
            shape,
            layer.patch_matrix,
            sum(p.size for p in layer.parameters),
            receptive_field([below.window for below in layers[: i + 1]]),
            layer.multiply_adds,
            layer.connections,
        )
        for i, (layer, shape) in enumerate(zip(layers, output_shapes, strict=True))
        if not isinstance(layer, Activation)
    ]


def receptive_field(windows: Sequence[Window]) -> tuple[int, int]:
    """Return height and width of the input patch that one output of the last layer depends on.

    From the last layer down RF_i = (RF_{i+1} − 1)·s_i + k_i, and 1 above the last
    (docs/derivation.md, 11). A window is (k, s): the patch of the input that one output depends
    on, and the step from one output to the next; both are fractions for layers that enlarge the
    image (``Layer.window``).

    Examples
    --------
    A convolution 5×5 and a pooling 2×2:

    >>> receptive_field([((5, 5), (1, 1)), ((2, 2), (2, 2))])
    (6, 6)
    """
    height = width = 1
    for (kh, kw), (sh, sw) in reversed(windows):
        height, width = floor((height - 1) * sh + kh), floor((width - 1) * sw + kw)
    return height, width


def to_table(rows: Sequence[LayerSummary]) -> str:
    """Return aligned text, one line per layer and a line with the totals."""
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
    return table(cells, "<>")


def _batch_matrix(matrix: tuple[int, int]) -> str:
    rows, columns = matrix
    return f"N·{rows} × {columns}" if rows > 1 else f"N × {columns}"


def _times(shape: Shape) -> str:
    return "×".join(map(str, shape))
