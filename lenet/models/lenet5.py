"""LeNet-5 as a list to read, with every shape and count of the derivation.

After Y. LeCun et al. (1998) in the form of docs/derivation.md: every filter of C3 sees all maps of
S2, pooling is maximum or mean, the output is a softmax.

    input   1×32×32
    C1      6×28×28    convolution 5×5              156 weights
    S2      6×14×14    pooling 2×2
    C3     16×10×10    convolution 5×5            2,416
    S4     16×5×5      pooling 2×2
    C5    120×1×1      convolution 5×5           48,120
    F6     84          linear                    10,164
    F7     10          linear                       850
                                                 61,706 in all
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import DTypeLike

from lenet.nn.activations import Activation
from lenet.nn.convolution import Convolution
from lenet.nn.gemm import DEFAULT_BLOCK
from lenet.nn.layer import Layer
from lenet.nn.linear import Linear
from lenet.nn.network import Network
from lenet.nn.pooling import AveragePooling, MaxPooling
from lenet.system.registry import lookup

POOLINGS = {"max": MaxPooling, "average": AveragePooling}


def lenet5_layers(
    *,
    activation: str = "relu",
    pooling: str = "max",
    channels: Sequence[int] = (6, 16),
    units: Sequence[int] = (120, 84),
    classes: int = 10,
    block: int = DEFAULT_BLOCK,
) -> list[Layer]:
    """Return the layers of LeNet-5, to read or to change before a network is made of them."""
    pool = lookup(POOLINGS, pooling, key="pooling")
    return [
        Convolution("C1", channels[0], kernel=5, block=block),
        Activation("C1.activation", activation),
        pool("S2", kernel=2),
        Convolution("C3", channels[1], kernel=5, block=block),
        Activation("C3.activation", activation),
        pool("S4", kernel=2),
        Convolution("C5", units[0], kernel=5, block=block),
        Activation("C5.activation", activation),
        Linear("F6", units[1]),
        Activation("F6.activation", activation),
        Linear("F7", classes),
    ]


def lenet5(
    *,
    input_size: int = 32,
    fused: bool = True,
    dtype: DTypeLike = np.float32,
    activation: str = "relu",
    pooling: str = "max",
    channels: Sequence[int] = (6, 16),
    units: Sequence[int] = (120, 84),
    classes: int = 10,
    block: int = DEFAULT_BLOCK,
) -> Network:
    """Return LeNet-5 for images (1, input_size, input_size), its weights still zero.

    ``fused`` puts the fast layer in the place of convolution, activation and pooling: the
    same parameters and, to rounding, the same results.

    Raises
    ------
    ConfigError
        The input is too small for the layers.

    Examples
    --------
    >>> lenet5().parameters.size
    61706
    """
    layers = lenet5_layers(
        activation=activation,
        pooling=pooling,
        channels=channels,
        units=units,
        classes=classes,
        block=block,
    )
    return Network(layers, (1, input_size, input_size), dtype, fused=fused)
