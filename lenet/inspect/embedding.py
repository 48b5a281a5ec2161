"""The outputs of a layer for many images, in two dimensions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lenet.data.preprocessing import Preprocessing
from lenet.errors import ConfigError
from lenet.inspect.layers import find_layer
from lenet.nn.network import Network

BATCH: Final = 256


@dataclass(frozen=True)
class Embedding:
    """N images in two dimensions.

    Attributes
    ----------
    places
        The images (N,2) on the first two right singular vectors of the centred outputs (N,D),
        with signs such that the largest entry of each vector is positive.
    shares
        The part of the variance along each (2,).
    predicted
        The class that the network assigns to each image (N,).
    """

    places: NDArray[np.float64]
    shares: NDArray[np.float64]
    predicted: NDArray[np.intp]


def embedding(
    network: Network, preprocessing: Preprocessing, images: NDArray[np.uint8], name: str
) -> Embedding:
    """Reduce the outputs of a layer for many images to two dimensions, by SVD.

    Raises
    ------
    ConfigError
        The layer has a single number, or does not exist.
    """
    find_layer(network, name)
    outputs, predicted = [], []
    for start in range(0, len(images), BATCH):
        x = preprocessing.prepare(images[start : start + BATCH], np.float32)
        network.allocate(x.shape[-1])
        for layer in network.layers:
            x = layer.forward(x)
            if layer.name == name:
                outputs.append(x.reshape(-1, x.shape[-1]).T.astype(np.float64))
        predicted.append(network.scores(x).argmax(axis=0))
    A = np.concatenate(outputs)
    if min(A.shape) < 2:
        raise ConfigError(
            f"{A.shape[1]} units of {A.shape[0]} images are too few for two dimensions",
            remedy="take a network with more units, or more images",
            key=f"layer {name}",
        )
    A -= A.mean(axis=0)
    U, s, Vt = np.linalg.svd(A, full_matrices=False)
    signs = np.sign(Vt[[0, 1], np.abs(Vt[:2]).argmax(axis=1)])
    variances = s * s
    shares = variances[:2] / max(variances.sum(), np.finfo(float).tiny)
    return Embedding(U[:, :2] * s[:2] * signs, shares, np.concatenate(predicted))
