"""A small network of 3×3 convolutions, for images that are not digits.

In the manner of K. Simonyan and A. Zisserman (2015), Very deep convolutional networks for
large-scale image recognition, with batch normalisation, and global average pooling in place of
hidden linear layers. Every pooling directly follows convolution and ReLU, so that the three run as
one product; batch normalisation then sees a quarter of the values.

    input   1×32×32   (at least 8×8)
    C1     16×32×32    convolution 3×3, ReLU        160 weights
    S2     16×16×16    max pooling 2×2, batch normalisation
    C3     32×16×16    convolution 3×3, ReLU      4,640
    S4     32×8×8      max pooling 2×2, batch normalisation
    C5     64×8×8      convolution 3×3, ReLU     18,496
    S6     64×4×4      max pooling 2×2, batch normalisation
    C7     64×4×4      convolution 3×3, ReLU     36,928, batch normalisation
    S8     64          global average pooling
    F9     10          linear                       650
                                                 61,226 in all
"""

from __future__ import annotations

from typing import Any

from lenet.models.specification import Specification, expanded

CHANNELS = (16, 32, 64, 64)
MIN_SIZE = 8
"""Height and width of the smallest input: three poolings leave one pixel of it."""


def specification(*, classes: int = 10) -> Specification:
    """Return the network as data, for images (1, 32, 32).

    Examples
    --------
    >>> specification().build().parameters.size
    61226
    """
    layers: list[dict[str, Any]] = []
    for stage, filters in enumerate(CHANNELS):
        name = f"C{2 * stage + 1}"
        conv = {"type": "convolution", "name": name, "filters": filters, "kernel": 3, "padding": 1}
        layers.append({**conv, "activation": "relu"})
        if stage < len(CHANNELS) - 1:
            layers.append({"type": "max_pooling"})
        layers.append({"type": "batch_normalization"})
    layers += [{"type": "global_average_pooling"}, {"type": "linear", "units": classes}]
    return Specification((1, 32, 32), expanded(layers))
