"""From grey levels to the network's input: scaled, padded with background, batch innermost."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike, NDArray

from lenet.arrays import Array
from lenet.errors import DataError


@dataclass(frozen=True)
class Preprocessing:
    """How levels from 0 to 255 become the network's input: scale·level + shift, padded.

    The defaults are those of Y. LeCun et al. (1998), section II-B: background −0.1, foreground
    1.175, so that mean and variance of the input are about 0 and 1.

    Attributes
    ----------
    input_shape
        (C,H,W) of the network's input.
    scale, shift
        An input is scale·level + shift.
    background
        The level around an image that is smaller than the input.

    Examples
    --------
    Caffe's LeNet takes 28×28 pixels from 0 to 1:

    >>> caffe = Preprocessing((1, 28, 28), scale=1 / 256, shift=0)
    >>> float(caffe.prepare(np.full((1, 28, 28), 128, np.uint8)).max())
    0.5
    """

    input_shape: tuple[int, int, int] = (1, 32, 32)
    scale: float = 1.275 / 255
    shift: float = -0.1
    background: int = 0

    @property
    def input_size(self) -> int:
        """The height of the input; for a square one, its width too."""
        return self.input_shape[1]

    def margins(self, height: int, width: int) -> tuple[int, int]:
        """Return the padding above and to the left of an image of height × width."""
        _, H, W = self.input_shape
        if height > H or width > W:
            raise DataError(
                f"images of {height}×{width} do not fit a network with an input of {H}×{W}",
                remedy="scale the images down, or train with a larger model.input_size",
                key="images",
            )
        return (H - height) // 2, (W - width) // 2

    def check(self, images: NDArray[np.uint8]) -> None:
        """Reject images (N,H,W) or (N,C,H,W) that do not fit the network."""
        C, H, W = image_shape(images)
        if self.input_shape[0] != C:
            raise DataError(
                f"images with {_channels(C)} do not fit a network with an input of "
                f"{_channels(self.input_shape[0])}",
                remedy=f"give the network an input of {_channels(C)}, or convert the images",
                key="images",
            )
        self.margins(H, W)

    def prepare(self, images: NDArray[np.uint8], dtype: DTypeLike = np.float32) -> Array:
        """Return images (N,H,W) or (N,C,H,W) as input (C,H,W,N) of the network.

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
        """Write images (N,H,W) or (N,C,H,W) into out (C,H,W,N), padded with background already."""
        self.check(images)
        C, H, W = image_shape(images)
        top, left = self.margins(H, W)
        inside = out[:, top : top + H, left : left + W]
        np.copyto(inside, images.reshape(len(images), C, H, W).transpose(1, 2, 3, 0))
        inside *= self.scale
        inside += self.shift

    def blank(self, N: int, dtype: DTypeLike) -> Array:
        """Return N images (C,H,W,N) of background."""
        return np.full((*self.input_shape, N), self.scale * self.background + self.shift, dtype)


def image_shape(images: NDArray[np.uint8]) -> tuple[int, int, int]:
    """Return (C,H,W) of images (N,H,W), which have one channel, or (N,C,H,W).

    Examples
    --------
    >>> image_shape(np.zeros((60_000, 28, 28), np.uint8))
    (1, 28, 28)
    """
    C = images.shape[1] if images.ndim == 4 else 1
    return C, images.shape[-2], images.shape[-1]


def _channels(C: int) -> str:
    return "1 channel" if C == 1 else f"{C} channels"
