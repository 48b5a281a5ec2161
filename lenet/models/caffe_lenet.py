"""Caffe's LeNet, the network of its MNIST tutorial (``examples/mnist/lenet_train_test.prototxt``).

After BVLC Caffe (Y. Jia et al., "Caffe: Convolutional Architecture for Fast Feature Embedding",
2014): no activation between convolution and pooling, biases learn twice as fast as weights and
decay as they do, initial weights by Caffe's ``xavier`` (uniform in ±√(3 / fan_in)), pixels times
1/256. (Caffe rounds the size of a pooled map up; here every window fits, so rounding changes
nothing.) Caffe's documentation states 99.1 % with the solver of the packaged configuration
caffe-lenet.

    input   1×28×28
    C1     20×24×24    convolution 5×5              520 weights
    S2     20×12×12    max pooling 2×2
    C3     50×8×8      convolution 5×5           25,050
    S4     50×4×4      max pooling 2×2
    F5    500          linear, ReLU             400,500
    F6     10          linear                     5,010
                                                431,080 in all
"""

from __future__ import annotations

from lenet.models.specification import Specification, expanded


def specification(*, classes: int = 10) -> Specification:
    """Return Caffe's LeNet as data.

    Examples
    --------
    >>> specification().build().parameters.size
    431080
    """
    rates = {"lr_mult": [1, 2], "decay_mult": 1}  # the learning rate of weight and bias; both decay
    layers = [
        {"type": "convolution", "name": "C1", "filters": 20, "kernel": 5, **rates},
        {"type": "max_pooling", "name": "S2"},
        {"type": "convolution", "name": "C3", "filters": 50, "kernel": 5, **rates},
        {"type": "max_pooling", "name": "S4"},
        {"type": "linear", "name": "F5", "units": 500, "activation": "relu", **rates},
        {"type": "linear", "name": "F6", "units": classes, **rates},
    ]
    return Specification(
        (1, 28, 28), expanded(layers), scale=1 / 256, shift=0.0, initializer="lecun_uniform"
    )
