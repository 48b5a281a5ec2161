"""LeNet-5 as data, with every shape and count of the derivation.

After Y. LeCun et al. (1998) in the form of docs/derivation.md: every filter of C3 sees all maps of
S2, pooling is maximum or mean, the output is a softmax. ``lenet5-1998`` is the network of the
paper itself.

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
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from lenet.models.specification import Specification, build_layers, expanded
from lenet.nn.gemm import DEFAULT_BLOCK
from lenet.nn.layer import Layer
from lenet.nn.network import Network
from lenet.system.registry import lookup

POOLINGS = {"max": "max_pooling", "average": "average_pooling"}


def specification(
    *,
    input_size: int = 32,
    channels: Sequence[int] = (6, 16),
    units: Sequence[int] = (120, 84),
    classes: int = 10,
    activation: str = "relu",
    pooling: str = "max",
    initializer: str = "he",
) -> Specification:
    """Return LeNet-5 for images (1, input_size, input_size) as data.

    Examples
    --------
    >>> sum(6 * p[0] == 36 for p in specification().parameter_shapes().values())
    2
    """
    C1, C3 = channels
    C5, F6 = units
    pool = lookup(POOLINGS, pooling, key="pooling")
    layers = [
        {"type": "convolution", "name": "C1", "filters": C1, "kernel": 5, "activation": activation},
        {"type": pool, "name": "S2"},
        {"type": "convolution", "name": "C3", "filters": C3, "kernel": 5, "activation": activation},
        {"type": pool, "name": "S4"},
        {"type": "convolution", "name": "C5", "filters": C5, "kernel": 5, "activation": activation},
        {"type": "linear", "name": "F6", "units": F6, "activation": activation},
        {"type": "linear", "name": "F7", "units": classes},
    ]
    return Specification((1, input_size, input_size), expanded(layers), initializer=initializer)


def lenet5_layers(*, block: int = DEFAULT_BLOCK, **options: Any) -> list[Layer]:  # noqa: ANN401
    """Return the layers of LeNet-5, to read or to change before a network is made of them.

    ``options`` are those of :func:`specification`.
    """
    return build_layers(specification(**options).layers, block)


def lenet5(
    *,
    fused: bool = True,
    dtype: DTypeLike = np.float32,
    block: int = DEFAULT_BLOCK,
    **options: Any,  # noqa: ANN401
) -> Network:
    """Return LeNet-5, its weights still zero.

    Parameters
    ----------
    fused
        Replace convolution, activation and pooling by the fast layer: the same parameters and, to
        rounding, the same results.
    dtype
        float32 or float64, of parameters and activations alike.
    block
        The maximum number of multiply-adds in one matrix product (:mod:`lenet.nn.gemm`).
    options
        Those of :func:`specification`: ``input_size``, ``activation``, ``pooling``, ``channels``,
        ``units``, ``classes``.

    Raises
    ------
    ConfigError
        The input is too small for the layers.

    Examples
    --------
    >>> lenet5().parameters.size
    61706
    """
    return specification(**options).build(dtype=dtype, fused=fused, block=block)
