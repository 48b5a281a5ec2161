"""From grey levels to a network's input: scaled, padded to a square, batch innermost."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike, NDArray

from lenet.nn.im2col import Array
from lenet.system.errors import DataError


@dataclass(frozen=True)
class Preprocessing:
    """How grey levels become the network's input: scale·grey + shift, padded to a square.

    The defaults are those of Y. LeCun et al. (1998), section II-B: background −0.1, foreground
    1.175, so that mean and variance of the input are about 0 and 1.
    """

    input_size: int = 32
    scale: float = 1.275 / 255
    shift: float = -0.1

    def margins(self, height: int, width: int) -> tuple[int, int]:
        """Return the padding above and to the left of an image of height × width.

        Raises
        ------
        DataError
            The image is larger than the input of the network.
        """
        if height > self.input_size or width > self.input_size:
            raise DataError(
                f"images of {height}×{width} do not fit a network of input size {self.input_size}",
                remedy="scale the images down, or train with a larger model.input_size",
                key="images",
            )
        return (self.input_size - height) // 2, (self.input_size - width) // 2

    def prepare(self, images: NDArray[np.uint8], dtype: DTypeLike = np.float32) -> Array:
        """Return images (N,H,W) as input (1,S,S,N) of the network.

        Raises
        ------
        DataError
            The images are larger than the input of the network.

        Examples
        --------
        >>> x = Preprocessing().prepare(np.full((5, 28, 28), 255, np.uint8))
        >>> x.shape, f"{x[0, 0, 0, 0]:.3f}", f"{x[0, 16, 16, 0]:.3f}"
        ((1, 32, 32, 5), '-0.100', '1.175')
        """
        x = self.blank(len(images), dtype)
        self.apply(images, out=x)
        return x

    def apply(self, images: NDArray[np.uint8], out: Array) -> None:
        """Write images (N,H,W) into out (1,S,S,N), whose padding is already the background."""
        _, H, W = images.shape
        top, left = self.margins(H, W)
        inside = out[0, top : top + H, left : left + W]
        np.copyto(inside, images.transpose(1, 2, 0))
        inside *= self.scale
        inside += self.shift

    def blank(self, N: int, dtype: DTypeLike) -> Array:
        """Return N images (1,S,S,N) of background."""
        return np.full((1, self.input_size, self.input_size, N), self.shift, dtype)
