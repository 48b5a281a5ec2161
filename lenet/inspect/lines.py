"""The responses of a kernel for lines, and of both poolings after it."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from lenet.arrays import Array
from lenet.inspect.layers import activations
from lenet.nn.activations import Activation
from lenet.nn.convolution import Convolution
from lenet.nn.network import Network
from lenet.nn.pooling import AveragePooling, MaxPooling

SOBEL: Final = np.array([[-1, -2, -1], [0, 0, 0], [1, 2, 1]], np.float32)


def line_responses(image: NDArray[np.uint8], kernel: Array) -> dict[str, Array]:
    """Return the outputs of a 3×3 kernel on an image (H,W), of ReLU, and of both poolings.

    Grey levels are scaled to 0 to 1; the image is surrounded by background.
    """
    x = (image[None, :, :, None] / 255).astype(np.float32)
    conv = Convolution("convolution", 1, kernel=3, padding=1)
    network = Network([conv, Activation("ReLU", "relu")], x.shape[:-1])
    conv.weight.value[...] = kernel
    outputs = activations(network, x)
    y = outputs["ReLU"][..., None]
    for pooling in (MaxPooling("max pooling", 2), AveragePooling("average pooling", 2)):
        outputs[pooling.name] = Network([pooling], y.shape[:-1]).forward(y)[..., 0]
    return {name: maps[0] for name, maps in outputs.items()}
