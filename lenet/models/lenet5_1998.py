"""LeNet-5 as published, layer by layer.

Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, "Gradient-Based Learning Applied to Document
Recognition" (1998), section II-B and appendix A. Up to F6 every weighted sum goes through
1.7159·tanh(2x/3). S2 and S4 add the four inputs of a window, multiply by a coefficient of the map
and add its bias. C3 is connected by table I. The output is the squared distance of F6 from a fixed
7×12 bitmap for each class; the paper does not print the bitmaps' pixels, so these are our own.
The weights are uniform in ±2.4/fan-in.

    input   1×32×32
    C1      6×28×28    convolution 5×5                   156 weights
    S2      6×14×14    subsampling 2×2                    12
    C3     16×10×10    convolution 5×5, table I        1,516
    S4     16×5×5      subsampling 2×2                    32
    C5    120×1×1      convolution 5×5                48,120
    F6     84          linear                         10,164
    output 10          RBF                                 0
                                                      60,000 in all
"""

from __future__ import annotations

from typing import Final

from lenet.models.specification import Specification, expanded

# Table I: the maps of S2 that each map of C3 is connected to. Three neighbours, four neighbours,
# two pairs of neighbours, all six; the maps are counted around in a circle.
TABLE_I: Final = [
    *(sorted((first + i) % 6 for i in range(3)) for first in range(6)),
    *(sorted((first + i) % 6 for i in range(4)) for first in range(6)),
    *(sorted((first + i) % 6 for i in (0, 1, 3, 4)) for first in range(3)),
    list(range(6)),
]


def specification() -> Specification:
    """Return the network as data.

    Examples
    --------
    >>> specification().build().parameters.size
    60000
    >>> sum(map(len, TABLE_I))
    60
    """
    squashed = {"activation": "lecun_tanh"}
    layers = [
        {"type": "convolution", "name": "C1", "filters": 6, "kernel": 5, **squashed},
        {"type": "subsampling", "name": "S2", **squashed},
        {
            "type": "convolution",
            "name": "C3",
            "filters": 16,
            "kernel": 5,
            "table": TABLE_I,
            **squashed,
        },
        {"type": "subsampling", "name": "S4", **squashed},
        {"type": "convolution", "name": "C5", "filters": 120, "kernel": 5, **squashed},
        {"type": "linear", "name": "F6", "units": 84, **squashed},
        {"type": "rbf", "name": "output", "centres": "digits"},
    ]
    return Specification((1, 32, 32), expanded(layers), initializer="lecun1998")
