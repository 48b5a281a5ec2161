"""Radial basis functions: the output layer of the first LeNet-5.

Output i is the squared distance of the input x to a fixed vector w_i, here with ‖x − w‖² written
out, so that the batch is one matrix product:

    y_i = Σ_j (x_j − w_ij)²                              y = ‖x‖² − 2·W·x + ‖w‖²
    dx  = Σ_i 2·dy_i · (x − w_i)                        dx = 2·x·Σ dy − 2·Wᵀ·dy

W is (classes × D), x and dx are (D × N). The class is that of the *smallest* output. The vectors of
the paper are 7×12 bitmaps of the characters, ink +1 and paper −1: 84 numbers, which is why F6 has
84 units. They are not trained. Y. LeCun et al. (1998), Gradient-based learning applied to document
recognition, II.B and eq. 7; the bitmaps here are drawn for this package.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import ClassVar, Final

import numpy as np
from numpy.typing import DTypeLike, NDArray

from lenet.arrays import Array, Shape
from lenet.nn.layer import Layer, Window
from lenet.system.registry import lookup

_DRAWN = """
..###..   ...##..   ..####.   #######   ....##.
.##.##.   ..###..   .##..##   .....##   ...###.
##...##   .####..   ##...##   ....##.   ..####.
##...##   ...##..   .....##   ...##..   .##.##.
##...##   ...##..   .....##   ..##...   .##.##.
##...##   ...##..   ....##.   ..####.   ##..##.
##...##   ...##..   ...##..   .....##   ##..##.
##...##   ...##..   ..##...   .....##   #######
##...##   ...##..   .##....   .....##   #######
##...##   ...##..   ##.....   ##...##   ....##.
.##.##.   ...##..   ##.....   .##..##   ....##.
..###..   .######   #######   ..####.   ....##.

#######   ..####.   #######   ..###..   ..####.
##.....   .##..##   #######   .##.##.   .##..##
##.....   ##.....   .....##   ##...##   ##...##
##.....   ##.....   ....##.   ##...##   ##...##
######.   ##.....   ....##.   .##.##.   ##...##
.##..##   ##.###.   ...##..   ..###..   .##.###
.....##   ###..##   ...##..   .##.##.   ..###.#
.....##   ##...##   ..##...   ##...##   .....##
.....##   ##...##   ..##...   ##...##   .....##
##...##   ##...##   .##....   ##...##   .....##
.##..##   .##..##   .##....   .##.##.   .##..##
..####.   ..####.   .##....   ..###..   ..####.
"""


def _bitmaps(drawn: str) -> NDArray[np.float64]:
    """Return the drawn characters, five beside each other, as rows of ±1 (10, 84)."""
    blocks = [block.split() for block in drawn.strip().split("\n\n")]
    bitmaps = ["".join(block[k::5]) for block in blocks for k in range(5)]
    return np.array([[1.0 if c == "#" else -1.0 for c in bitmap] for bitmap in bitmaps])


DIGIT_BITMAPS: Final = _bitmaps(_DRAWN)
"""The ten digits as 7×12 bitmaps of ±1, (10, 84). Any two differ in 15 pixels or more."""

CENTRES: Final = {"digits": DIGIT_BITMAPS}


class RBF(Layer):
    """The squared distances of the input to fixed vectors; the smallest is the predicted class.

    Parameters
    ----------
    name
        The name used in summaries and messages.
    centres
        The fixed vectors (classes, D) as lists, or ``digits`` for :data:`DIGIT_BITMAPS`.
    """

    outputs_are_distances: ClassVar[bool] = True

    def __init__(self, name: str, centres: str | Sequence[Sequence[float]] = "digits") -> None:
        super().__init__(name)
        if isinstance(centres, str):
            self.centres = lookup(CENTRES, centres, key=f"layer {name}: centres")
            return
        try:
            self.centres = np.array(centres, np.float64)
        except (TypeError, ValueError):
            self.centres = np.empty(0)
        if self.centres.ndim != 2 or not self.centres.size or not np.isfinite(self.centres).all():
            raise self.wrong_option(
                "centres",
                "is not a table of numbers",
                "give a list of equally long lists of numbers",
            )

    def option(self, name: str) -> object:  # noqa: ARG002 - its only one
        named = (key for key, table in CENTRES.items() if np.array_equal(table, self.centres))
        return next(named, self.centres)

    def build(self, shape: Shape) -> Shape:
        self.shape, (classes, D) = shape, self.centres.shape
        if prod(shape) != D:
            raise self.misfit(f"has centres of {D} numbers, is given {prod(shape)}")
        return (classes,)

    def allocate(self, N: int, dtype: DTypeLike) -> None:
        classes, D = self.centres.shape
        self.y = self.buffer("y", (classes, N), dtype)
        self.dx = self.buffer("dx", (D, N), dtype)
        self.squares = self.buffer("squares", (D, N), dtype)
        self.sum = self.buffer("sum", (N,), dtype)
        self.minus_2w = (-2 * self.centres).astype(dtype)
        self.norms = (self.centres**2).sum(axis=1, keepdims=True).astype(dtype)

    def forward(self, x: Array) -> Array:
        self.x = x.reshape(self.centres.shape[1], -1)
        np.multiply(self.x, self.x, out=self.squares)
        np.sum(self.squares, axis=0, out=self.sum)
        np.matmul(self.minus_2w, self.x, out=self.y)  # (classes × D) · (D × N)
        self.y += self.sum
        self.y += self.norms
        return self.y

    def backward(self, dy: Array) -> Array:
        np.sum(dy, axis=0, out=self.sum)
        self.sum *= 2
        np.matmul(self.minus_2w.T, dy, out=self.dx)  # (D × classes) · (classes × N)
        np.multiply(self.x, self.sum, out=self.squares)
        self.dx += self.squares
        return self.dx.reshape(*self.shape, -1)

    @property
    def patch_matrix(self) -> tuple[int, int]:
        return 1, self.centres.shape[1]

    @property
    def multiply_adds(self) -> int:
        return self.centres.size

    @property
    def connections(self) -> int:
        return self.centres.size

    @property
    def window(self) -> Window:
        size = (self.shape[1], self.shape[2]) if len(self.shape) == 3 else (1, 1)
        return size, (1, 1)
